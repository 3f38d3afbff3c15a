from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
import pytest
from loguru import logger

from plb_core import (
    BackendBusy,
    BackendError,
    BadAnswer,
)
from plb_core.testing.emulators import Fault, PerplexityEmulator, Reply
from tests.plugins.perplexity.bench import (
    KEY,
    QUERY,
    asked,
    built,
    completed,
    delta,
    events,
    streamed,
)


@pytest.mark.asyncio
async def test_a_streamed_answer_equals_the_whole_one(up: PerplexityEmulator) -> None:
    whole = await asked(built(up))
    texts, end, answer = await streamed(built(up))
    assert end == "complete"
    assert len(texts) > 3
    assert "".join(texts) == whole.text
    assert answer == whole


@pytest.mark.asyncio
async def test_text_only_in_the_last_event_is_not_lost(
    up: PerplexityEmulator,
) -> None:
    whole = await asked(built(up))
    up.hidden = "text_only_at_end"
    texts, end, answer = await streamed(built(up))
    assert texts == [whole.text]
    assert end == "complete"
    assert answer == whole


@pytest.mark.asyncio
async def test_a_stream_that_fails_after_text_raises(up: PerplexityEmulator) -> None:
    up.hidden = "stream_fails"
    with pytest.raises(BadAnswer):
        await streamed(built(up))


@pytest.mark.asyncio
async def test_a_stream_without_its_last_event_is_truncated(
    up: PerplexityEmulator,
) -> None:
    up.hidden = "stream_ends"
    texts, end, answer = await streamed(built(up))
    assert texts
    assert end == "truncated"
    assert answer is None


@pytest.mark.asyncio
async def test_a_cut_connection_after_text_is_truncated(
    up: PerplexityEmulator,
) -> None:
    up.faults = [Fault.cut(3000)]
    texts, end, _ = await streamed(built(up))
    assert texts
    assert end == "truncated"


@pytest.mark.asyncio
async def test_a_cut_connection_before_text_is_a_bad_answer(
    up: PerplexityEmulator,
) -> None:
    up.faults = [Fault.cut(10)]
    with pytest.raises(BadAnswer):
        await streamed(built(up))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("listed", "texts", "end"),
    [
        ([delta("a"), delta(0), delta("b"), completed("ab")], ["a", "b"], "complete"),
        ([delta("a"), completed("ab", "c")], ["a", "bc"], "complete"),
        ([delta("a"), completed("other")], ["a"], "complete"),
        ([delta("a"), completed()], ["a"], "complete"),
        (
            [delta("a"), {"type": "response.completed", "response": None}],
            ["a"],
            "complete",
        ),
        (
            [delta("see [we"), delta("b:1] x"), completed("see [web:1] x")],
            ["see ", "[1] x"],
            "complete",
        ),
        ([delta("see [we"), completed("see [we")], ["see ", "[we"], "complete"),
        (
            [delta("a"), {"type": None}, {"type": "response.new.kind"}],
            ["a"],
            "truncated",
        ),
        ([delta("a"), completed("a", status=None)], ["a"], "complete"),
        ([completed("a"), delta("after the end")], ["a"], "complete"),
    ],
)
async def test_events_become_text_without_loss_or_repetition(
    up: PerplexityEmulator, listed: list[dict[str, object]], texts: list[str], end: str
) -> None:
    up.faults = [events(*listed)]
    got, ended, answer = await streamed(built(up))
    assert got == texts
    assert ended == end
    assert answer is None or answer.text == "".join(texts)


@pytest.mark.asyncio
async def test_sources_of_earlier_events_serve_when_the_last_has_none(
    up: PerplexityEmulator,
) -> None:
    result = {"id": 1, "title": "t", "url": "https://x.example/"}
    item = {"type": "search_results", "results": [result]}
    up.faults = [
        events(
            {"type": "response.output_item.done", "item": item},
            {"type": "response.output_item.done", "item": None},
            delta("a [1]"),
            {"type": "response.completed", "response": None},
        )
    ]
    _, end, answer = await streamed(built(up))
    assert end == "complete"
    assert answer is not None
    assert [each.title for each in answer.sources] == ["t"]


@pytest.mark.asyncio
async def test_a_streamed_answer_cut_by_its_limit_ends_with_length(
    up: PerplexityEmulator,
) -> None:
    last = completed("a b", status="incomplete") | {"type": "response.incomplete"}
    response = last["response"]
    assert isinstance(response, dict)
    response["incomplete_details"] = {"reason": "max_output_tokens"}
    up.faults = [events(delta("a b"), last)]
    _, end, answer = await streamed(built(up))
    assert end == "complete"
    assert answer is not None
    assert answer.finish_reason == "length"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("listed", "error"),
    [
        (["not json"], BadAnswer),
        (["[1]"], BadAnswer),
        ([delta("a"), '{"a": NaN}'], BadAnswer),
        ([{"type": "response.failed", "error": {"type": "overloaded"}}], BackendBusy),
        ([{"type": "response.failed", "error": None}], BadAnswer),
        ([delta("a"), {"type": "error", "error": {"code": 429}}], BackendBusy),
        ([{"type": "response.cancelled", "response": {}}], BadAnswer),
        ([{"type": "response.created"}], BadAnswer),
        ([], BadAnswer),
    ],
)
async def test_broken_streams_are_the_backends_failure(
    up: PerplexityEmulator,
    listed: list[Mapping[str, object] | str],
    error: type[Exception],
) -> None:
    up.faults = [events(*listed)]
    with pytest.raises(error):
        await streamed(built(up))


@pytest.mark.asyncio
async def test_an_impossible_cost_is_logged_and_left_out(
    up: PerplexityEmulator,
) -> None:
    last = completed("a", usage={"cost": {"total_cost": -1.0}})
    up.faults = [events(delta("a"), last)]
    said: list[str] = []
    sink = logger.add(lambda line: said.append(str(line)), level="WARNING")
    try:
        _, _, answer = await streamed(built(up))
    finally:
        logger.remove(sink)
    assert answer is not None
    assert answer.cost_micro_usd is None
    assert any("cost" in line for line in said)
    assert not any(KEY in line or QUERY.text in line for line in said)


@pytest.mark.asyncio
@pytest.mark.parametrize("cut", [Fault.cut, Fault.cut_unframed, Fault.reset])
@pytest.mark.parametrize("api", ["agent", "chat"])
async def test_no_cut_is_ever_taken_for_a_complete_answer(
    up: PerplexityEmulator, api: str, cut: Callable[[int], Fault]
) -> None:
    parts: list[Mapping[str, object] | str] = [delta("a [1]"), completed("a [1]")]
    if api == "chat":
        choice = {"delta": {"content": "a [1]"}}
        last = {"delta": {}, "finish_reason": "stop"}
        parts = [{"choices": [choice]}, {"choices": [last]}, "[DONE]"]
    whole = events(*parts)
    size = len(whole.edit(up, Reply()).content)
    # What comes after the event that ends the answer proves nothing more.
    decisive = size - 4 if api == "agent" else size - len("data: [DONE]\n\n") - 3
    for after_bytes in range(0, decisive, 7):
        up.faults = [attrs.evolve(cut(after_bytes), edit=whole.edit)]
        try:
            _, end, _ = await streamed(built(up, api=api, model="m/m"))
        except BackendError:
            continue
        assert end == "truncated", f"cut after {after_bytes} of {size} bytes"
