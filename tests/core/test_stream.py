from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from plb_core import (
    Answer,
    BackendRefused,
    BackendTimeout,
    BadAnswer,
    Chunk,
    NoAnswer,
    NoBackendAvailable,
    Query,
)
from plb_core.testing.fakes import FakeBackend, FakePlugin

from .conftest import Rig

pytestmark = pytest.mark.asyncio
MakeRig = Callable[..., Rig]
END = Chunk(end="complete", answer=Answer("one two"))


class Scripted(FakeBackend):
    """Streams the given steps: chunks are yielded, exceptions raised."""

    def __init__(self, *steps: Chunk | Exception) -> None:
        super().__init__()
        self.steps = steps
        self.cleaned_up = 0

    async def stream(self, query: Query, timeout_s: float) -> AsyncIterator[Chunk]:
        try:
            for step in self.steps:
                if isinstance(step, Exception):
                    raise step
                yield step
        finally:
            self.cleaned_up += 1


def scripted(rig: MakeRig, *steps: Chunk | Exception) -> tuple[Rig, Scripted]:
    backend = Scripted(*steps)
    return rig("[backend.s]\n[backend.b]\n", extra=[FakePlugin(s=backend)]), backend


async def texts(r: Rig) -> list[str]:
    async with r.balancer.stream("q") as stream:
        return [chunk.text async for chunk in stream]


async def test_streams_every_chunk_and_then_has_the_reply(rig: MakeRig) -> None:
    r, backend = scripted(rig, Chunk("one "), Chunk("two"), END)
    async with r.balancer.stream("q") as stream:
        assert (stream.backend, stream.algorithm, stream.attempts) == ("s", "first", 1)
        assert stream.reply is None
        chunks = [chunk async for chunk in stream]
    assert [chunk.text for chunk in chunks] == ["one ", "two", ""]
    assert chunks[-1].end == "complete"
    assert stream.reply is not None
    assert stream.reply.text == "one two"
    assert r.first.outcomes[0].ttft_s is not None
    assert r.candidate("s").ttft_s is not None
    assert r.idle()
    assert backend.cleaned_up == 1


@pytest.mark.parametrize(
    "steps",
    [
        [BackendRefused("500", status=500)],
        [NoAnswer("nothing")],
        [ZeroDivisionError()],
        [],
        [Chunk("")],
        [Chunk(end="truncated")],
        [Chunk(end="complete")],
    ],
)
async def test_before_the_first_text_another_backend_is_asked(
    rig: MakeRig, steps: list[Chunk | Exception]
) -> None:
    r, backend = scripted(rig, *steps)
    assert await texts(r) == ["B ", ""]
    assert backend.cleaned_up == 1
    assert r.idle()


@pytest.mark.parametrize("failure", [BadAnswer("cut"), KeyError("x")])
async def test_after_the_first_text_a_failure_is_an_error_not_an_end(
    rig: MakeRig, failure: Exception
) -> None:
    r, _ = scripted(rig, Chunk("one "), failure)
    async with r.balancer.stream("q") as stream:
        assert (await anext(stream)).text == "one "
        with pytest.raises(BadAnswer) as caught:
            await anext(stream)
        assert caught.value.backend == "s"
        assert caught.value.request_id == stream.request_id
    assert stream.reply is None
    assert r.first.outcomes[0].result == "truncated"
    assert r.candidate("s").error_rate == 1.0
    assert r.idle()


async def test_a_stream_without_an_end_mark_is_broken(rig: MakeRig) -> None:
    r, _ = scripted(rig, Chunk("one "))
    with pytest.raises(BadAnswer, match="no end mark"):
        await texts(r)


async def test_an_end_without_an_answer_is_broken(rig: MakeRig) -> None:
    r, _ = scripted(rig, Chunk("one "), Chunk(end="complete"))
    with pytest.raises(BadAnswer, match="carries no answer"):
        await texts(r)


async def test_a_truncated_end_is_passed_on_and_counted(rig: MakeRig) -> None:
    r, _ = scripted(rig, Chunk("one "), Chunk(end="truncated"))
    async with r.balancer.stream("q") as stream:
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].end == "truncated"
    assert stream.reply is None
    assert r.first.outcomes[0].result == "truncated"


async def test_leaving_early_closes_the_backends_stream(rig: MakeRig) -> None:
    r, backend = scripted(rig, Chunk("one "), Chunk("two"), END)
    async with r.balancer.stream("q") as stream:
        await anext(stream)
    assert backend.cleaned_up == 1
    assert r.first.outcomes[0].result == "cancelled"
    assert r.candidate("s").error_rate is None
    assert r.idle()


async def test_cancelling_between_chunks_gives_the_slot_back(rig: MakeRig) -> None:
    class Pauses(Scripted):
        entered = asyncio.Event()

        async def stream(self, query: Query, timeout_s: float) -> AsyncIterator[Chunk]:
            yield Chunk("one ")
            self.entered.set()
            await asyncio.Event().wait()

    backend = Pauses()
    r = rig("[backend.s]\n", extra=[FakePlugin(s=backend)])
    task = asyncio.create_task(texts(r))
    await backend.entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert r.idle()


async def test_all_failing_before_the_first_text_is_one_clear_error(
    rig: MakeRig,
) -> None:
    r, _ = scripted(rig, BadAnswer("x"))
    r.b.failures = [BadAnswer("y")]
    with pytest.raises(NoBackendAvailable, match="'s': x"):
        await texts(r)


async def test_a_stream_that_was_not_entered_is_an_error_not_an_empty_answer(
    rig: MakeRig,
) -> None:
    """Without `async with` the loop ended at once, as if the answer were empty."""
    r = rig()
    with pytest.raises(RuntimeError, match="async with"):
        async for _ in r.balancer.stream("q"):
            pass
    assert r.idle()


async def test_a_stream_is_entered_once(rig: MakeRig) -> None:
    """Entering again took a second slot and forgot the first."""
    r, _ = scripted(rig, Chunk("one "), END)
    async with r.balancer.stream("q") as stream:
        with pytest.raises(RuntimeError, match="once"):
            await stream.__aenter__()
    assert r.idle()


class Stalls(Scripted):
    """Streams its steps, then falls silent; `entered` says when."""

    def __init__(self, *steps: Chunk | Exception) -> None:
        super().__init__(*steps)
        self.entered = asyncio.Event()

    async def stream(self, query: Query, timeout_s: float) -> AsyncIterator[Chunk]:
        try:
            async for chunk in super().stream(query, timeout_s):
                yield chunk
            self.entered.set()
            await asyncio.Event().wait()
        finally:
            self.stalled = True


@pytest.mark.parametrize("limit", ["attempt", "question"])
async def test_a_stream_that_falls_silent_ends_at_its_time_limit(
    rig: MakeRig, limit: str
) -> None:
    """After the first text no limit held: a silent backend kept its slot for ever."""
    backend = Stalls(Chunk("one "))
    toml = "[backend.s]\n" + "timeout_s = 0.02\n" * (limit == "attempt")
    r = rig(toml, extra=[FakePlugin(s=backend)])
    deadline_s = 0.02 if limit == "question" else None
    async with r.balancer.stream(Query("q", deadline_s=deadline_s)) as stream:
        assert (await anext(stream)).text == "one "
        with pytest.raises(BackendTimeout) as caught:
            await anext(stream)
        assert caught.value.backend == "s"
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    assert backend.stalled
    assert [(o.result, o.error) for o in r.first.outcomes] == [
        ("truncated", BackendTimeout.code)
    ]
    assert r.idle()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_a_reader_that_pauses_too_long_is_told_so(rig: MakeRig) -> None:
    r, _ = scripted(rig, Chunk("one "), Chunk("two"), END)
    async with r.balancer.stream(Query("q", deadline_s=0.02)) as stream:
        await anext(stream)
        await asyncio.sleep(0.05)
        with pytest.raises(BackendTimeout):
            await anext(stream)
    assert r.idle()


async def test_the_callers_cancellation_wins_over_the_time_limit(rig: MakeRig) -> None:
    backend = Stalls(Chunk("one "))
    r = rig("[backend.s]\n", extra=[FakePlugin(s=backend)])

    async def read() -> None:
        async with r.balancer.stream(Query("q", deadline_s=60.0)) as stream:
            reading = asyncio.current_task()
            async for _ in stream:
                backend.entered.clear()
                assert reading is not None
                asyncio.get_running_loop().call_soon(reading.cancel)
                asyncio.get_running_loop().call_soon(stream._end_late)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(read())
    assert [o.result for o in r.first.outcomes] == ["cancelled"]
    assert r.idle()


async def test_a_finished_stream_leaves_no_timer(rig: MakeRig) -> None:
    r, _ = scripted(rig, Chunk("one "), END)
    async with r.balancer.stream("q") as stream:
        async for _ in stream:
            pass
        timer = stream._timer
    assert timer is not None
    assert timer.cancelled()
