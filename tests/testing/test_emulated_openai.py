"""The emulated OpenAI-compatible endpoint."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest

from plb_core.testing.emulators import Fault, OpenAIEmulator, Tokens
from plb_core.types import Price
from tests.testing.emulator_client import SHAPES, Client, shape

CHAT: dict[str, Any] = {
    "model": "gpt-6-mini",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What does insulin do?"},
    ],
}
EMBED: dict[str, Any] = {"model": "text-embedding-4", "input": ["a", "b"]}


@pytest.mark.asyncio
async def test_an_answer_has_the_recorded_shape(http: Client) -> None:
    async with OpenAIEmulator() as up:
        got = await http(up.url + "/v1/chat/completions", CHAT)
    assert shape(got.json) == SHAPES["openai chat"]
    assert got.headers["x-request-id"] == "req_000001"
    assert got.json["choices"][0]["message"]["content"].startswith("Insulin")


@pytest.mark.asyncio
async def test_a_stream_starts_with_the_role_and_ends_with_done(http: Client) -> None:
    async with OpenAIEmulator() as up:
        url = up.url + "/v1/chat/completions"
        whole = (await http(url, CHAT)).json["choices"][0]["message"]["content"]
        got = await http(url, {**CHAT, "stream": True})
    *chunks, done = got.events
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert done == "[DONE]"
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == whole
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert all("usage" not in chunk for chunk in chunks)


@pytest.mark.asyncio
async def test_usage_is_streamed_when_asked_for(http: Client) -> None:
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    async with OpenAIEmulator(usage=Tokens(11, 7)) as up:
        got = await http(up.url + "/v1/chat/completions", body)
    last = got.events[-2]
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 11,
        "completion_tokens": 7,
        "total_tokens": 18,
    }


@pytest.mark.asyncio
async def test_the_book_follows_the_price_and_rounds_up(http: Client) -> None:
    price = Price(150_000, 600_000)
    async with OpenAIEmulator(price=price, usage=Tokens(11, 7)) as up:
        await http(up.url + "/v1/chat/completions", CHAT)
        await http(up.url + "/v1/embeddings", EMBED)
    # 11 x 0.15 + 7 x 0.6 = 5.85 and 11 x 0.15 = 1.65 micro-USD
    assert [call.micro_usd for call in up.book] == [6, 2]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "limit", [{"max_tokens": 5}, {"max_completion_tokens": 5}, {"max_output_tokens": 5}]
)
async def test_a_token_limit_cuts_the_text(
    http: Client, limit: dict[str, object]
) -> None:
    async with OpenAIEmulator() as up:
        got = await http(up.url + "/v1/chat/completions", {**CHAT, **limit})
    (choice,) = got.json["choices"]
    assert len(choice["message"]["content"]) == 20
    assert choice["finish_reason"] == "length"
    assert got.json["usage"]["completion_tokens"] == 5


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("hidden", "finish", "content"),
    [
        ("empty", "stop", None),
        ("content_filter", "content_filter", None),
        ("tool_call", "tool_calls", None),
        ("length", "length", "Insulin lowers blood"),
    ],
)
async def test_each_hidden_failure_of_an_answer(
    http: Client, hidden: str, finish: str, content: str | None
) -> None:
    async with OpenAIEmulator(hidden=hidden) as up:
        url = up.url + "/v1/chat/completions"
        (choice,) = (await http(url, CHAT)).json["choices"]
        events = (await http(url, {**CHAT, "stream": True})).events
    assert choice["finish_reason"] == finish
    assert choice["message"]["content"] == content
    assert events[-2]["choices"][0]["finish_reason"] == finish
    deltas = [event["choices"][0]["delta"] for event in events[:-1]]
    called = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    calls = choice["message"].get("tool_calls", [])
    assert [call["function"] for call in called] == [call["function"] for call in calls]
    assert bool(calls) == (hidden == "tool_call")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("hidden", "error", "done", "finished"),
    [
        ("stream_fails", True, False, False),
        ("stream_ends", False, False, False),
        ("no_done", False, False, True),
    ],
)
async def test_each_way_a_stream_can_break(
    http: Client, hidden: str, error: bool, done: bool, finished: bool
) -> None:
    async with OpenAIEmulator(hidden=hidden) as up:
        got = await http(up.url + "/v1/chat/completions", {**CHAT, "stream": True})
    last = got.events[-1]
    assert ("error" in last) == error
    assert (last == "[DONE]") == done
    ended = "choices" in last and last["choices"][0]["finish_reason"] == "stop"
    assert ended == finished
    if error:
        assert shape(last) == SHAPES["openai error"]


@pytest.mark.asyncio
async def test_embeddings_are_the_same_in_both_encodings(http: Client) -> None:
    async with OpenAIEmulator(dimensions=6) as up:
        url = up.url + "/v1/embeddings"
        plain = (await http(url, EMBED)).json
        packed = (await http(url, {**EMBED, "encoding_format": "base64"})).json
        one = (await http(url, {**EMBED, "input": "a", "dimensions": 3})).json
    vectors = [entry["embedding"] for entry in plain["data"]]
    decoded = [
        struct.unpack("<6f", base64.b64decode(entry["embedding"]))
        for entry in packed["data"]
    ]
    for vector, unpacked in zip(vectors, decoded, strict=True):
        assert unpacked == pytest.approx(vector, abs=1e-6)
        assert sum(number * number for number in vector) == pytest.approx(1)
    assert vectors[0] != vectors[1]
    assert [entry["index"] for entry in plain["data"]] == [0, 1]
    assert len(one["data"][0]["embedding"]) == 3
    assert plain["usage"] == {"prompt_tokens": 1, "total_tokens": 1}


@pytest.mark.asyncio
async def test_responses_come_plain_and_as_events(http: Client) -> None:
    body = {"model": "gpt-6-mini", "input": "What is glycolysis?"}
    async with OpenAIEmulator() as up:
        url = up.url + "/v1/responses"
        plain = (await http(url, body)).json
        events = (await http(url, {**body, "stream": True})).events
        cut = (await http(url, {**body, "max_output_tokens": 2})).json
        cut_body = {**body, "max_output_tokens": 2, "stream": True}
        cut_events = (await http(url, cut_body)).events
    text = plain["output"][0]["content"][0]["text"]
    deltas = "".join(event.get("delta", "") for event in events)
    assert text == deltas == events[-1]["response"]["output"][0]["content"][0]["text"]
    assert events[-1]["type"] == "response.completed"
    assert cut["status"] == "incomplete"
    assert cut["incomplete_details"] == {"reason": "max_output_tokens"}
    assert cut_events[-1]["type"] == "response.incomplete"


@pytest.mark.asyncio
async def test_a_filtered_response_is_incomplete(http: Client) -> None:
    body = {"model": "gpt-6-mini", "input": "What is glycolysis?"}
    async with OpenAIEmulator(hidden="content_filter") as up:
        url = up.url + "/v1/responses"
        plain = (await http(url, body)).json
        events = (await http(url, {**body, "stream": True})).events
    assert plain["status"] == "incomplete"
    assert plain["incomplete_details"] == {"reason": "content_filter"}
    assert plain["output"][0]["content"][0]["text"] == ""
    assert events[-1]["type"] == "response.incomplete"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions", CHAT, "messages"),
        ("/v1/chat/completions", {**CHAT, "stream": True}, "messages"),
        ("/v1/responses", {"model": "gpt-6-mini", "input": "x" * 40}, "input"),
    ],
)
async def test_more_than_the_context_holds_is_refused_by_name(
    http: Client, path: str, body: dict[str, object], param: str
) -> None:
    async with OpenAIEmulator(context_tokens=7) as up:
        got = await http(up.url + path, body)
        assert up.book == []
        up.context_tokens = 10
        assert (await http(up.url + path, body)).status == 200
    assert got.status == 400
    error = got.json["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert "maximum context length is 7 tokens" in error["message"]


@pytest.mark.asyncio
async def test_models_are_listed_and_found(http: Client) -> None:
    async with OpenAIEmulator(models=("m1",)) as up:
        listed = await http(up.url + "/v1/models", method="GET")
        found = await http(up.url + "/v1/models/m1", method="GET")
        missing = await http(up.url + "/v1/models/m2", method="GET")
        posted = await http(up.url + "/v1/models")
    assert listed.json["object"] == "list"
    assert listed.json["data"] == [found.json]
    assert shape(found.json) == SHAPES["openai model"]
    assert (missing.status, posted.status) == (404, 405)


@pytest.mark.asyncio
async def test_a_key_is_asked_for_when_one_is_set(http: Client) -> None:
    async with OpenAIEmulator(api_key="canary") as up:
        url = up.url + "/v1/chat/completions"
        without = await http(url, CHAT)
        right = await http(url, CHAT, headers={"authorization": "Bearer canary"})
    assert without.status == 401
    assert without.json["error"]["code"] == "invalid_api_key"
    assert right.status == 200


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/chat/completions", {**CHAT, "model": "gpt-1"}, 404),
        ("/v1/chat/completions", {**CHAT, "messages": []}, 400),
        ("/v1/chat/completions", {"model": "gpt-6-mini"}, 400),
        ("/v1/chat/completions", [1], 400),
        ("/v1/responses", {"model": "gpt-6-mini"}, 400),
        ("/v1/embeddings", {**EMBED, "input": []}, 400),
        ("/v1/embeddings", {**EMBED, "input": ["a", 2]}, 400),
        ("/chat/completions", CHAT, 404),
    ],
)
async def test_wrong_requests_get_its_error_form(
    http: Client, path: str, body: object, status: int
) -> None:
    async with OpenAIEmulator() as up:
        got = await http(up.url + path, body)
        assert up.book == []
    assert got.status == status
    assert shape(got.json) == SHAPES["openai error"]


@pytest.mark.asyncio
async def test_malformed_json_and_a_wrong_method(http: Client) -> None:
    async with OpenAIEmulator() as up:
        url = up.url + "/v1/chat/completions"
        assert (await http(url, data=b"{")).status == 400
        assert (await http(url, method="GET")).status == 405


@pytest.mark.asyncio
async def test_a_busy_answer_carries_its_hints(http: Client) -> None:
    busy = Fault.busy(5, retry_after_ms=100, should_retry=False)
    async with OpenAIEmulator(faults=[busy, Fault.busy()]) as up:
        url = up.url + "/v1/chat/completions"
        hinted = await http(url, CHAT)
        plain = await http(url, CHAT)
    assert hinted.status == plain.status == 429
    assert hinted.headers["retry-after"] == "5"
    assert hinted.headers["retry-after-ms"] == "100"
    assert hinted.headers["x-should-retry"] == "false"
    assert hinted.json["error"]["code"] == "rate_limit_exceeded"
    assert "retry-after" not in plain.headers
