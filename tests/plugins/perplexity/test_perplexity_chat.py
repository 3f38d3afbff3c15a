from __future__ import annotations

from typing import Any

import pytest

from plb_backend_perplexity.answers import chat_answer
from plb_backend_perplexity.backend import Perplexity
from plb_backend_perplexity.settings import SearchFilters
from plb_core import (
    BackendBusy,
    BackendMisconfigured,
    BadAnswer,
    NoAnswer,
    Query,
    Usage,
)
from plb_core.testing.emulators import Fault, PerplexityEmulator
from tests.plugins.perplexity.bench import (
    QUERY,
    asked,
    body_of,
    built,
    events,
    streamed,
)

PAGES = ["https://a.example/", "https://b.example/"]


def chat(up: PerplexityEmulator, **set_to: Any) -> Perplexity:
    return built(up, api="chat", **{"model": "sonar", **set_to})


def completion(
    text: object = "Yes. [2]", finish_reason: object = "stop", **more: object
) -> dict[str, object]:
    choice = {"index": 0, "message": {"content": text}, "finish_reason": finish_reason}
    return {"id": "c", "model": "sonar", "choices": [choice], **more}


def piece(
    text: object, finish_reason: object = None, **more: object
) -> dict[str, object]:
    return {
        "choices": [{"delta": {"content": text}, "finish_reason": finish_reason}],
        **more,
    }


@pytest.mark.asyncio
async def test_a_relays_answer_has_citations_usage_and_cost(
    up: PerplexityEmulator,
) -> None:
    usage = {
        "prompt_tokens": 5,
        "completion_tokens": 7,
        "num_search_queries": 2,
        "cost": {"request_cost": 0.005, "total_cost": 0.00501},
    }
    found = [{"title": "B", "url": PAGES[1], "snippet": "b", "date": None}]
    data = completion(citations=PAGES, search_results=found, usage=usage)
    up.faults = [Fault.status(200, body=data)]
    answer = await asked(chat(up))
    assert answer.text == "Yes. [2]"
    assert [each.title for each in answer.sources] == ["https://a.example/", "B"]
    assert answer.usage == Usage(5, 7, searches=2)
    assert answer.cost_micro_usd == 5010
    assert up.requests[0].path == "/chat/completions"


@pytest.mark.asyncio
async def test_perplexity_itself_refuses_the_chat_form_and_says_what_to_do(
    up: PerplexityEmulator,
) -> None:
    with pytest.raises(BackendMisconfigured, match="api = 'agent'"):
        await asked(chat(up))
    with pytest.raises(BackendMisconfigured, match="api = 'agent'"):
        await streamed(chat(up))


@pytest.mark.asyncio
async def test_settings_take_their_old_places(up: PerplexityEmulator) -> None:
    up.faults = [Fault.status(200, body=completion())]
    search = SearchFilters(
        domains=("x.org",), recency="day", context_size="high", country="FR"
    )
    backend = chat(up, search=search, instructions="Brief.", max_output_tokens=50)
    options = {"stop": ["\n"], "temperature": 0, "tools": []}
    await asked(backend, Query("q", options=options))
    assert body_of(up) == {
        "model": "sonar",
        "messages": [
            {"role": "system", "content": "Brief."},
            {"role": "user", "content": "q"},
        ],
        "max_tokens": 50,
        "stop": ["\n"],
        "temperature": 0,
        "search_domain_filter": ["x.org"],
        "search_recency_filter": "day",
        "web_search_options": {
            "search_context_size": "high",
            "user_location": {"country": "FR"},
        },
    }


@pytest.mark.asyncio
async def test_a_stream_keeps_its_last_sources_and_usage(
    up: PerplexityEmulator,
) -> None:
    up.faults = [
        events(
            piece("Ye", citations=PAGES[:1], usage={"prompt_tokens": 1}),
            piece("s. [web:", model="sonar"),
            piece("2]", citations=PAGES),
            piece(None, "stop", usage={"prompt_tokens": 1, "completion_tokens": 2}),
            "[DONE]",
            piece("after the end"),
        )
    ]
    texts, end, answer = await streamed(chat(up))
    assert "".join(texts) == "Yes. [2]"
    assert end == "complete"
    assert answer is not None
    assert [each.url for each in answer.sources] == PAGES
    assert answer.usage == Usage(1, 2)
    assert answer.model == "sonar"
    assert body_of(up)["stream"] is True


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("listed", "end"),
    [
        ([piece("a"), piece("b")], "truncated"),
        ([piece("a"), piece("b", "stop")], "complete"),
        ([piece("a"), piece("b"), "[DONE]"], "complete"),
        ([piece("a"), {"choices": []}, piece("b", "length"), "[DONE]"], "complete"),
    ],
)
async def test_a_finish_reason_or_done_proves_the_end(
    up: PerplexityEmulator, listed: list[dict[str, object] | str], end: str
) -> None:
    up.faults = [events(*listed)]
    texts, ended, _ = await streamed(chat(up))
    assert texts == ["a", "b"]
    assert ended == end


@pytest.mark.asyncio
async def test_a_whole_message_without_deltas_is_not_lost(
    up: PerplexityEmulator,
) -> None:
    choice = {"message": {"content": "All of it."}, "finish_reason": "stop"}
    up.faults = [events({"choices": [choice]}, "[DONE]")]
    texts, end, _ = await streamed(chat(up))
    assert texts == ["All of it."]
    assert end == "complete"


@pytest.mark.asyncio
async def test_an_error_within_a_stream_is_raised(up: PerplexityEmulator) -> None:
    up.faults = [events(piece("a"), {"error": {"code": 429}})]
    with pytest.raises(BackendBusy):
        await streamed(chat(up))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (completion(""), BadAnswer),
        (completion(None), BadAnswer),
        (completion("x", "tool_calls"), BadAnswer),
        (completion("x", ["stop"]), BadAnswer),
        (completion("", "content_filter"), NoAnswer),
        ({"choices": None}, BadAnswer),
        ({"choices": [None]}, BadAnswer),
        ({}, BadAnswer),
        ({"error": {"type": "overloaded"}}, BackendBusy),
        ({"error": "x", **completion()}, BadAnswer),
    ],
    ids=repr,
)
def test_a_body_without_an_answer_is_told_as_such(
    data: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        chat_answer(data, pytest.fail)


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("stop", "stop"),
        (None, "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
    ],
)
def test_the_finish_reason_is_kept(reason: object, finish_reason: str) -> None:
    answer = chat_answer(completion("x", reason), pytest.fail)
    assert answer.finish_reason == finish_reason


def test_search_results_serve_without_citations_and_odd_citations_keep_places() -> None:
    found = [{"title": "B", "url": PAGES[1]}, None, {"title": "no address"}]
    answer = chat_answer(completion(search_results=found), pytest.fail)
    assert [each.title for each in answer.sources] == ["B"]
    odd = completion(citations=["javascript:x", None, PAGES[1]], search_results=found)
    titles = [each.title for each in chat_answer(odd, pytest.fail).sources]
    assert titles == ["not listed by the backend", "not listed by the backend", "B"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "ok"),
    [(200, True), (404, True), (405, True), (401, False), (500, False)],
)
async def test_a_relay_that_lists_no_models_still_counts_as_reachable(
    up: PerplexityEmulator, status: int, ok: bool
) -> None:
    up.faults = [Fault.status(status, body={"data": []})]
    backend = chat(up)
    await backend.start()
    probe = await backend.ping(5.0)
    await backend.close()
    assert probe.ok is ok
    assert up.requests[0].path == "/models"


def test_the_model_may_come_from_the_table_of_names(up: PerplexityEmulator) -> None:
    assert QUERY.text
    assert built(up, api="chat", models={"sonar": "sonar"}).traits.price is None
