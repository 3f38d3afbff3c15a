from __future__ import annotations

from typing import Any

import pytest

from plb_backend_lightrag.backend import LLM_PAUSE_S
from plb_backend_lightrag.quotes import LABEL, quoted_answer
from plb_backend_lightrag.replies import (
    HiddenFailure,
)
from plb_core.errors import (
    BackendRefused,
    BadAnswer,
    NoAnswer,
)
from plb_core.testing import fakes
from tests.plugins.lightrag.upstream import (
    ANSWERED,
    CANNED,
    HEALTHY,
    LOGGED_IN,
    NOTHING_FOUND,
    PASSAGES,
    QUESTION,
    SECRET,
    Scripted,
    Upstream,
    collect,
    lines,
    open_backend,
    says,
)


@pytest.mark.asyncio
@pytest.mark.parametrize("streamed", [False, True])
async def test_quotes_the_closest_passages_while_the_model_is_down(
    upstream: Upstream, clock: fakes.FakeClock, streamed: bool
) -> None:
    upstream.on("/query", says(CANNED))
    upstream.on("/query/stream", lines({"progress": "x"}, CANNED))
    upstream.on("/query/data", says(PASSAGES))
    async with open_backend(
        upstream.url, clock, degraded=True, chunk_top_k=4
    ) as backend:
        if streamed:
            text, last = await collect(backend)
            assert last.end == "complete"
            answer = last.answer
            assert answer is not None
            assert answer.text == text.text
        else:
            answer = await backend.ask(QUESTION, 5.0)
    assert answer.text == (
        "“Hexokinase traps it. The enzyme that controls glycolysis is"
        " phosphofructokinase.” [1]\n\n“Citrate synthase starts each turn.” [2]"
    ) or answer.text.startswith("“Glucose enters the cell. The enzyme that controls")
    assert [source.url for source in answer.sources] == [
        "notes/glycolysis.md",
        "krebs.md",
    ]
    assert answer.sources[0].title == "glycolysis.md"
    assert answer.label == LABEL
    assert not answer.llm_generated
    asked = upstream.seen[-1]
    assert asked.path == "/query/data"
    assert asked.body == {"query": QUESTION.text, "mode": "naive", "chunk_top_k": 4}


@pytest.mark.asyncio
async def test_a_model_that_just_failed_is_not_waited_for_again_until_a_pause_is_over(
    upstream: Upstream, clock: fakes.FakeClock
) -> None:
    upstream.on("/query", says(CANNED), says(ANSWERED))
    upstream.on("/query/stream", lines({"response": "x"}))
    upstream.on("/query/data", says(PASSAGES))
    async with open_backend(upstream.url, clock, degraded=True) as backend:
        await backend.ask(QUESTION, 5.0)
        await backend.ask(QUESTION, 5.0)
        await collect(backend)
        assert upstream.paths() == ["/query"] + ["/query/data"] * 3
        clock.advance(LLM_PAUSE_S)
        assert (await backend.ask(QUESTION, 5.0)).llm_generated
        await collect(backend)
    assert upstream.paths()[-2:] == ["/query", "/query/stream"]


@pytest.mark.asyncio
async def test_a_failed_retrieval_leaves_the_first_failure_standing(
    upstream: Upstream,
) -> None:
    upstream.on("/query", says(CANNED))
    upstream.on("/query/data", says({"detail": "x"}, 500))
    async with open_backend(upstream.url, degraded=True) as backend:
        with pytest.raises(HiddenFailure) as caught:
            await backend.ask(QUESTION, 5.0)
    assert isinstance(caught.value.__cause__, BackendRefused)


@pytest.mark.asyncio
async def test_nothing_to_quote_is_no_answer(upstream: Upstream) -> None:
    upstream.on("/query", says(CANNED))
    upstream.on("/query/data", says(NOTHING_FOUND))
    async with open_backend(upstream.url, degraded=True) as backend:
        with pytest.raises(NoAnswer):
            await backend.ask(QUESTION, 5.0)


@pytest.mark.asyncio
async def test_an_error_line_after_text_is_not_answered_by_quotes(
    upstream: Upstream,
) -> None:
    upstream.on("/query/stream", lines({"response": "The "}, {"error": "x"}))
    upstream.on("/query/data", says(PASSAGES))
    async with open_backend(upstream.url, degraded=True) as backend:
        with pytest.raises(HiddenFailure):
            await collect(backend)
        answer = await backend.ask(QUESTION, 5.0)
    assert answer.label == LABEL


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"status": "failure"},
        {"status": "failure", "metadata": {"failure_reason": "other"}},
        {"status": "failure", "metadata": [], "data": {"chunks": []}},
        {"status": "success"},
        {"status": "success", "data": []},
        {"status": "success", "data": {"chunks": {}}},
        {"status": "success", "data": {"chunks": ["x"]}},
        {"status": "success", "data": {"chunks": [{"content": "x"}]}},
        {"status": "success", "data": {"chunks": [{"file_path": "a", "content": " "}]}},
    ],
)
def test_retrieval_of_another_shape_is_a_bad_answer(data: object) -> None:
    with pytest.raises(BadAnswer):
        quoted_answer(data, "Which?")


def passages(*found: tuple[str, str]) -> dict[str, object]:
    chunks = [{"file_path": path, "content": content} for path, content in found]
    return {"status": "success", "data": {"chunks": chunks}}


def test_quotes_at_most_three_passages_and_numbers_files_once() -> None:
    data = passages(("a", "One."), ("b", "Two."), ("a", "Three."), ("c", "Four."))
    answer = quoted_answer(data, "Which?")
    assert answer.text == "“One.” [1]\n\n“Two.” [2]\n\n“Three.” [1]"
    assert [(s.title, s.quote) for s in answer.sources] == [
        ("a", "One."),
        ("b", "Two."),
    ]


def test_quotes_the_sentences_that_share_most_words_in_their_own_order() -> None:
    text = "Insulin rises. Glucose falls in blood. Muscle rests. Blood glucose rises."
    answer = quoted_answer(passages(("a", text)), "Why does blood GLUCOSE rise?")
    assert answer.text == "“Glucose falls in blood. Blood glucose rises.” [1]"


def test_quotes_chinese_sentences_without_spaces_between_them() -> None:
    answer = quoted_answer(passages(("a", "糖酵解。葡萄糖。丙酮酸。")), "糖酵解")
    assert answer.text == "“糖酵解。 葡萄糖。” [1]"


def test_no_passage_at_all_is_no_answer() -> None:
    with pytest.raises(NoAnswer):
        quoted_answer(passages(), "Which?")


@pytest.mark.asyncio
async def test_a_ping_checks_the_credentials_and_the_server_and_asks_nothing(
    upstream: Upstream, account: dict[str, Any]
) -> None:
    upstream.on("/login", says(LOGGED_IN))
    upstream.on("/auth/verify", says({"status": "ok"}))
    upstream.on("/health", says(HEALTHY))
    async with open_backend(upstream.url, **account) as backend:
        result = await backend.ping(5.0)
    assert (result.ok, result.degraded, result.detail) == (True, False, "")
    assert upstream.paths() == ["/login", "/auth/verify", "/health"]


@pytest.mark.asyncio
async def test_a_ping_makes_do_with_the_health_page_of_older_servers(
    upstream: Upstream,
) -> None:
    upstream.on("/health", says(HEALTHY))
    async with open_backend(upstream.url) as backend:
        assert (await backend.ping(5.0)).ok


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("verify", "health"),
    [
        (says({"detail": SECRET}, 403), says(HEALTHY)),
        (says({"detail": SECRET}, 500), says(HEALTHY)),
        (says({"detail": SECRET}, 422), says(HEALTHY)),
        (says({"status": "ok"}), says({"detail": SECRET}, 503)),
        (says({"status": "ok"}), says({"status": SECRET})),
        (says({"status": "ok"}), says([])),
        (says({"status": "ok"}), says(b"<html>")),
        (says({"detail": "?"}, 404), says({"detail": "?"}, 404)),
    ],
)
async def test_a_ping_never_raises_and_says_why_without_secrets(
    upstream: Upstream, verify: Scripted, health: Scripted
) -> None:
    upstream.on("/auth/verify", verify)
    upstream.on("/health", health)
    async with open_backend(upstream.url) as backend:
        result = await backend.ping(5.0)
    assert not result.ok
    assert result.detail
    assert SECRET not in result.detail


@pytest.mark.asyncio
async def test_a_ping_of_a_server_that_is_away_fails() -> None:
    async with open_backend("http://127.0.0.1:1") as backend:
        assert not (await backend.ping(5.0)).ok


@pytest.mark.asyncio
async def test_a_hidden_failure_shows_in_the_ping_for_a_while(
    upstream: Upstream, clock: fakes.FakeClock
) -> None:
    upstream.on("/query", says(CANNED))
    upstream.on("/auth/verify", says({"status": "ok"}))
    upstream.on("/health", says(HEALTHY))
    async with open_backend(upstream.url, clock) as backend:
        with pytest.raises(HiddenFailure):
            await backend.ask(QUESTION, 5.0)
        sick = await backend.ping(5.0)
        clock.advance(LLM_PAUSE_S)
        well = await backend.ping(5.0)
    assert (sick.ok, sick.degraded) == (True, True)
    assert "failed lately" in sick.detail
    assert (well.ok, well.degraded) == (True, False)
