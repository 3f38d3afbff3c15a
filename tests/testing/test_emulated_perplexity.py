"""The emulated Perplexity, held against recorded exchanges."""

from __future__ import annotations

import re
from typing import Any

import pytest

from plb_core.testing.emulators import Fault, PerplexityEmulator, Tokens
from plb_core.types import Price
from tests.testing.emulator_client import SHAPES, Client, shape

KEY = {"authorization": "Bearer canary"}
ASK: dict[str, Any] = {"input": "What does metformin do?", "effort": "fast"}


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/agent"])
async def test_an_answer_has_the_recorded_shape(http: Client, path: str) -> None:
    async with PerplexityEmulator() as up:
        got = await http(up.url + path, ASK, headers=KEY)
    assert shape(got.json) == SHAPES["perplexity response"]
    assert got.json["status"] == "completed"
    assert got.headers["x-request-id"] == "req-000001"
    assert got.headers["x-ratelimit-limit"] == "50"
    assert got.headers["x-ratelimit-remaining"] == "49"
    assert got.headers["x-ratelimit-used"] == "1"
    assert int(got.headers["x-ratelimit-reset"]) > 1_790_000_000
    assert got.headers["date"] == "Fri, 09 Oct 2026 16:12:31 GMT"


@pytest.mark.asyncio
async def test_numbers_in_the_text_are_ids_of_results(http: Client) -> None:
    async with PerplexityEmulator() as up:
        got = (await http(up.url + "/v1/responses", ASK, headers=KEY)).json
    found, said = got["output"]
    assert found["type"] == "search_results"
    assert found["results"][0]["title"] == "Metformin"
    assert "[1]" in said["content"][0]["text"]


@pytest.mark.asyncio
async def test_marks_of_the_web_point_into_searches_out_of_order(http: Client) -> None:
    async with PerplexityEmulator(citations="web") as up:
        url = up.url + "/v1/responses"
        ask = {**ASK, "input": "How do metformin and insulin lower glucose?"}
        got = (await http(url, ask, headers=KEY)).json
        streamed = await http(url, {**ask, "stream": True}, headers=KEY)
        one = {"input": "zzqx qqzx", "effort": "fast"}
        alone = (await http(url, one, headers=KEY)).json
    *searches, said = got["output"]
    ids = [[entry["id"] for entry in item["results"]] for item in searches]
    text = said["content"][0]["text"]
    assert ids == [[21], [11, 12]]
    assert searches[1]["results"][1]["title"] == "Metformin"
    assert set(re.findall(r"\[.*?\]", text)) == {"[web:11]", "[web:12]", "[web:21]"}
    assert got["usage"]["tool_calls_details"]["search_web"]["invocation"] == 2
    assert shape(got) == SHAPES["perplexity response"]
    kinds = [event["type"] for event in streamed.events]
    assert kinds.count("response.reasoning.search_results") == 2
    assert streamed.events[-1]["response"]["output"][-1]["content"][0]["text"] == text
    assert [item["type"] for item in alone["output"]] == ["search_results", "message"]


@pytest.mark.asyncio
async def test_pages_it_reads_are_billed_above_the_list_price(http: Client) -> None:
    async with PerplexityEmulator(fetches=4) as up:
        url = up.url + "/v1/responses"
        got = (await http(url, ASK, headers=KEY)).json
        assert round(got["usage"]["cost"]["total_cost"] * 1e6) == up.billed_micro_usd
        streamed = await http(url, {**ASK, "stream": True}, headers=KEY)
    read = [item for item in got["output"] if item["type"] == "fetch_url_results"]
    assert [list(item["contents"][0]) for item in read] == [
        ["title", "url", "snippet"]
    ] * 4
    tools = got["usage"]["tool_calls_details"]
    assert tools["fetch_url"]["invocation"] == 4
    assert tools["fetch_url"]["cost_usd"] > 4 * 0.0005
    cost = got["usage"]["cost"]
    summed = tools["fetch_url"]["cost_usd"] + tools["search_web"]["cost_usd"]
    assert cost["tool_calls_cost"] == pytest.approx(summed)
    parts = cost["input_cost"] + cost["output_cost"] + cost["tool_calls_cost"]
    assert parts == pytest.approx(cost["total_cost"], abs=1e-6)
    kinds = [event["type"] for event in streamed.events]
    assert kinds.count("response.reasoning.fetch_url_results") == 4


@pytest.mark.asyncio
async def test_the_cost_it_reports_is_the_cost_in_its_book(http: Client) -> None:
    async with PerplexityEmulator(usage=Tokens(3426, 30)) as up:
        got = (await http(up.url + "/v1/responses", ASK, headers=KEY)).json
        cost = got["usage"]["cost"]
        assert round(cost["total_cost"] * 1e6) == up.billed_micro_usd == 1358
        parts = cost["input_cost"] + cost["output_cost"] + cost["tool_calls_cost"]
        assert parts == pytest.approx(cost["total_cost"], abs=1e-6)
        assert got["usage"]["total_tokens"] == 3456


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("more", "searches"),
    [
        ({"model": "perplexity/sonar"}, 0),
        ({"model": "perplexity/sonar", "tools": [{"type": "web_search"}]}, 1),
        ({"model": "perplexity/sonar", "effort": "low"}, 1),
        ({"preset": "fast-search"}, 1),
    ],
)
async def test_a_bare_model_does_not_search(
    http: Client, more: dict[str, object], searches: int
) -> None:
    async with PerplexityEmulator() as up:
        body = {"input": "What is glycolysis?", **more}
        got = (await http(up.url + "/v1/responses", body, headers=KEY)).json
    kinds = [item["type"] for item in got["output"]]
    assert kinds == ["search_results"] * searches + ["message"]
    assert ("search_web" in got["usage"]["tool_calls_details"]) == bool(searches)


@pytest.mark.asyncio
async def test_a_set_price_replaces_the_models_own(http: Client) -> None:
    async with PerplexityEmulator(price=Price(request_micro_usd=7)) as up:
        await http(up.url + "/v1/responses", ASK, headers=KEY)
        await http(up.url + "/search", {"query": "insulin"}, headers=KEY)
    assert [call.micro_usd for call in up.book] == [7, 0]


@pytest.mark.asyncio
async def test_a_stream_has_the_recorded_sequence(http: Client) -> None:
    async with PerplexityEmulator() as up:
        got = await http(up.url + "/v1/responses", {**ASK, "stream": True}, headers=KEY)
    kinds = [event["type"] for event in got.events]
    text = "".join(e["delta"] for e in got.events if e["type"].endswith("text.delta"))
    final = got.events[-1]["response"]
    assert got.headers["content-type"].startswith("text/event-stream")
    assert list(dict.fromkeys(kinds)) == [
        "response.created",
        "response.in_progress",
        "response.reasoning.started",
        "response.reasoning.search_queries",
        "response.reasoning.search_results",
        "response.reasoning.stopped",
        "response.output_item.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [e["sequence_number"] for e in got.events] == list(range(len(kinds)))
    assert text == final["output"][1]["content"][0]["text"]
    assert shape(final) == SHAPES["perplexity response"]
    assert f"event: {kinds[0]}\ndata: " in got.text


@pytest.mark.asyncio
async def test_text_may_come_only_in_the_terminal_event(http: Client) -> None:
    async with PerplexityEmulator(hidden="text_only_at_end") as up:
        got = await http(up.url + "/v1/responses", {**ASK, "stream": True}, headers=KEY)
    assert not [e for e in got.events if "delta" in e]
    assert got.events[-1]["response"]["output"][1]["content"][0]["text"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("hidden", "code", "reason"),
    [
        ("failed", "server_error", None),
        ("incomplete", None, "max_output_tokens"),
        ("cancelled", "cancelled", "cancelled"),
        ("requires_action", None, None),
    ],
)
async def test_a_run_that_did_not_complete_is_a_200(
    http: Client, hidden: str, code: str | None, reason: str | None
) -> None:
    async with PerplexityEmulator(faults=[Fault.behind_200(hidden)]) as up:
        got = await http(up.url + "/v1/responses", ASK, headers=KEY)
        assert len(up.book) == 1
    assert got.status == 200
    assert got.json["status"] == hidden
    assert not [item for item in got.json["output"] if item["type"] == "message"]
    assert (got.json["error"] or {}).get("code") == code
    assert (got.json["incomplete_details"] or {}).get("reason") == reason


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("hidden", "last", "texts"),
    [
        ("failed", "response.failed", False),
        ("incomplete", "response.completed", False),
        ("requires_action", "response.completed", False),
        ("no_text", "response.completed", False),
        ("no_sources", "response.completed", True),
        ("stream_fails", "response.failed", True),
        ("stream_ends", "response.output_text.delta", True),
    ],
)
async def test_each_hidden_failure_of_a_stream(
    http: Client, hidden: str, last: str, texts: bool
) -> None:
    async with PerplexityEmulator(hidden=hidden) as up:
        got = await http(up.url + "/v1/responses", {**ASK, "stream": True}, headers=KEY)
    kinds = [event["type"] for event in got.events]
    assert kinds[-1] == last
    assert ("response.output_text.delta" in kinds) == texts


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "path", ["/chat/completions", "/v1/sonar", "/async/chat/completions"]
)
async def test_retired_endpoints_refuse_even_a_valid_key(
    http: Client, path: str
) -> None:
    async with PerplexityEmulator(api_key="canary") as up:
        got = await http(up.url + path, {"messages": []}, headers=KEY)
    assert got.status == got.json["error"]["code"] == 403
    assert got.json["error"]["type"] == "chat_completions_not_available"


@pytest.mark.asyncio
@pytest.mark.parametrize("key", [None, "Bearer other"])
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/models", "/search"])
async def test_every_endpoint_wants_the_key(
    http: Client, key: str | None, path: str
) -> None:
    async with PerplexityEmulator(api_key="canary") as up:
        headers = {} if key is None else {"authorization": key}
        got = await http(up.url + path, ASK, headers=headers)
    assert got.status == 401
    assert shape(got.json) == SHAPES["perplexity error"]
    assert got.json["error"]["type"] == "invalid_api_key"


@pytest.mark.asyncio
async def test_a_pinned_effort_and_a_conversation_are_accepted(http: Client) -> None:
    turns = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": [{"type": "input_text", "text": "And NADH?"}]},
    ]
    body = {"input": turns, "effort": "fast@2026-10-16.0"}
    async with PerplexityEmulator() as up:
        got = await http(up.url + "/v1/responses", body, headers=KEY)
    assert got.json["output"][0]["queries"] == ["And NADH?"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, "rate_limit_exceeded"),
        (500, "internal_error"),
        (503, "service_unavailable"),
    ],
)
async def test_scripted_statuses_speak_its_error_form(
    http: Client, status: int, kind: str
) -> None:
    async with PerplexityEmulator(faults=[Fault.status(status)]) as up:
        got = await http(up.url + "/v1/responses", ASK, headers=KEY)
        assert up.book == []
    assert shape(got.json) == SHAPES["perplexity error"]
    assert got.json["error"]["code"] == got.status == status
    assert got.json["error"]["type"] == kind
    assert "date" in got.headers
    assert got.headers["x-ratelimit-remaining"] == "49"


@pytest.mark.asyncio
async def test_search_returns_results_and_bills_by_type(http: Client) -> None:
    async with PerplexityEmulator() as up:
        url = up.url + "/search"
        got = await http(url, {"query": "metformin", "max_results": 1}, headers=KEY)
        many = ["insulin", "metformin"]
        await http(url, {"query": many, "search_type": "fast"}, headers=KEY)
    (result,) = got.json["results"]
    assert sorted(result) == ["date", "snippet", "title", "url"]
    assert result["title"] == "Metformin"
    assert [call.micro_usd for call in up.book] == [5_000, 1_000]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": ""},
        {"query": []},
        {"query": ["a", 1]},
        {"query": "a", "max_results": 21},
        {"query": "a", "max_results": "3"},
    ],
)
async def test_an_invalid_search_is_a_400(http: Client, body: object) -> None:
    async with PerplexityEmulator() as up:
        assert (await http(up.url + "/search", body, headers=KEY)).status == 400


@pytest.mark.asyncio
async def test_models_come_with_prices(http: Client) -> None:
    async with PerplexityEmulator() as up:
        got = await http(up.url + "/v1/models", method="GET", headers=KEY)
    without = SHAPES["perplexity model"]
    more = {"pricing": {**without["pricing"], "cache_write": "float"}}
    assert shape(got.json["data"]) == [{**without, **more}, without]
    prices = {entry["id"]: entry["pricing"] for entry in got.json["data"]}
    assert prices["perplexity/sonar"]["output"] == 2.5


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/search", 405), ("POST", "/v1/chat/completions", 404)],
)
async def test_other_paths_and_methods(
    http: Client, method: str, path: str, status: int
) -> None:
    async with PerplexityEmulator() as up:
        got = await http(up.url + path, method=method, headers=KEY)
    assert got.status == status
    assert shape(got.json) == SHAPES["perplexity error"]


@pytest.mark.asyncio
async def test_malformed_json_is_a_400(http: Client) -> None:
    async with PerplexityEmulator() as up:
        got = await http(up.url + "/search", headers=KEY, data=b"{")
    assert got.status == 400
