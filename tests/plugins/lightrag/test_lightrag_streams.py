from __future__ import annotations

import pytest

from plb_backend_lightrag.replies import (
    CANNED_FAILURE,
    HiddenFailure,
)
from plb_backend_lightrag.streaming import StreamReader
from plb_core.errors import (
    BadAnswer,
    NoAnswer,
)
from plb_core.types import Chunk, Source
from tests.plugins.lightrag.upstream import (
    ANSWERED,
    CANNED,
    NO_CONTEXT,
    QUESTION,
    SECRET,
    Scripted,
    Upstream,
    collect,
    lines,
    open_backend,
)


@pytest.mark.asyncio
async def test_streams_text_piece_by_piece_and_ends_with_the_whole_answer(
    upstream: Upstream,
) -> None:
    references = ANSWERED["references"]
    upstream.on(
        "/query/stream",
        lines(
            {"progress": "extracting_keywords"},
            "",
            {"references": references},
            {"response": "Phospho"},
            {"response": ""},
            {"response": "fructokinase. [1]"},
            {"response_time": 0.1},
        ),
    )
    async with open_backend(upstream.url) as backend:
        *pieces, last = await collect(backend)
    assert [piece.text for piece in pieces] == ["Phospho", "fructokinase. [1]"]
    assert last.end == "complete"
    assert last.text == ""
    assert last.answer is not None
    assert last.answer.text == "Phosphofructokinase. [1]"
    assert [source.title for source in last.answer.sources] == [
        "glycolysis.md",
        "krebs.md",
    ]
    assert upstream.seen[0].body["include_progress"] is True


@pytest.mark.asyncio
async def test_a_cached_answer_comes_as_one_line(upstream: Upstream) -> None:
    upstream.on("/query/stream", lines(ANSWERED))
    async with open_backend(upstream.url) as backend:
        text, last = await collect(backend)
    assert text.text == ANSWERED["response"]
    assert last.answer is not None
    assert len(last.answer.sources) == 2


@pytest.mark.asyncio
async def test_references_may_come_last(upstream: Upstream) -> None:
    upstream.on(
        "/query/stream",
        lines({"response": "Text."}, {"references": [{"file_path": "late.md"}]}),
    )
    async with open_backend(upstream.url) as backend:
        *_, last = await collect(backend)
    assert last.answer is not None
    assert last.answer.sources == (Source("late.md", "late.md"),)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("told", "end"),
    [
        # HTTP's framing proves the end for servers that know no progress lines.
        (lines({"response": "Te"}, {"response": "xt."}), "complete"),
        # Nothing proves the end of a body that ends with its connection.
        (lines({"response": "Te"}, {"response": "xt."}, end="unframed"), "truncated"),
        # The time line proves it, whatever HTTP says or does not say.
        (
            lines({"response": "Text."}, {"response_time": 1}, end="unframed"),
            "complete",
        ),
        (lines({"response": "Text."}, {"response_time": 1}, end="cut"), "complete"),
        # A server that tells progress always tells the time at the end.
        (lines({"progress": "x"}, {"response": "Text."}), "truncated"),
        (lines({"response": "Text."}, end="cut"), "truncated"),
        (lines({"response": "Text."}, '{"response": "and'), "truncated"),
        (lines({"response": "Text."}, "[]"), "truncated"),
    ],
)
async def test_only_a_proven_end_is_complete(
    upstream: Upstream, told: Scripted, end: str
) -> None:
    upstream.on("/query/stream", told)
    async with open_backend(upstream.url) as backend:
        *pieces, last = await collect(backend)
    assert pieces
    assert all(piece.end == "" for piece in pieces)
    assert last.end == end
    assert (last.answer is None) == (end == "truncated")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "told",
    [
        lines(),
        lines(end="cut"),
        lines(end="unframed"),
        lines({"progress": "x"}),
        lines({"references": []}, {"response_time": 1}),
        lines({"references": []}, end="cut"),
        lines("{"),
        lines("[]"),
        lines("null"),
        lines('{"response": NaN}'),
        lines({"response": 7}),
        lines({"references": 7}),
        lines({"response": "x", "llm_generated": 7}),
        lines("<html>busy</html>"),
    ],
)
async def test_a_stream_without_any_text_is_a_bad_answer(
    upstream: Upstream, told: Scripted
) -> None:
    upstream.on("/query/stream", told)
    async with open_backend(upstream.url) as backend:
        with pytest.raises(BadAnswer):
            await collect(backend)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "told",
    [
        lines(CANNED),
        lines({"progress": "x"}, CANNED, {"response_time": 8.1}),
        lines({"response": CANNED_FAILURE}),
        lines({"error": SECRET}),
        lines({"progress": "x"}, {"error": SECRET}, {"response_time": 1}),
    ],
)
async def test_a_stream_that_hides_a_failure_raises_before_any_text(
    upstream: Upstream, told: Scripted
) -> None:
    upstream.on("/query/stream", told)
    seen: list[Chunk] = []
    async with open_backend(upstream.url) as backend:
        with pytest.raises(HiddenFailure) as caught:
            await collect(backend, seen)
    assert seen == []
    assert SECRET not in str(caught.value)


@pytest.mark.asyncio
async def test_an_error_line_after_text_is_a_failure_not_an_end(
    upstream: Upstream,
) -> None:
    upstream.on(
        "/query/stream",
        lines({"response": "The "}, {"error": SECRET}, {"response_time": 1}),
    )
    seen: list[Chunk] = []
    async with open_backend(upstream.url) as backend:
        with pytest.raises(BadAnswer) as caught:
            await collect(backend, seen)
    assert seen == [Chunk("The ")]
    assert SECRET not in str(caught.value)


@pytest.mark.asyncio
async def test_a_stream_from_an_empty_store_is_no_answer(upstream: Upstream) -> None:
    line = {"response": NO_CONTEXT, "llm_generated": False, "references": []}
    upstream.on("/query/stream", lines(line))
    async with open_backend(upstream.url) as backend:
        with pytest.raises(NoAnswer):
            await collect(backend)


@pytest.mark.asyncio
async def test_a_stream_can_be_left_in_the_middle(upstream: Upstream) -> None:
    upstream.on("/query/stream", lines({"response": "a"}, {"response": "b"}))
    async with open_backend(upstream.url) as backend:
        stream = backend.stream(QUESTION, 5.0)
        assert (await anext(stream)).text == "a"
        await stream.aclose()  # type: ignore[attr-defined]  # an async generator
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


def test_a_flag_after_the_text_does_not_change_what_was_shown() -> None:
    reader = StreamReader(framed=True)
    reader.feed('{"response": "Text "}')
    reader.feed('{"response": "goes on.", "llm_generated": false}')
    assert reader.answer().text == "Text goes on."
