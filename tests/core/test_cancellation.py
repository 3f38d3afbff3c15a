"""Cancellation, time limits and waits, as a careless plugin may treat them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable

import pytest

from plb_core import (
    Answer,
    BackendBusy,
    BackendUnreachable,
    BadAnswer,
    Chunk,
    NoBackendAvailable,
    Query,
)
from plb_core.testing.fakes import FakeBackend, FakePlugin

from .conftest import Rig

pytestmark = pytest.mark.asyncio
MakeRig = Callable[..., Rig]


class Blocks(FakeBackend):
    """Waits for ever; raises `instead` when cancelled."""

    def __init__(self, instead: Exception | None = None) -> None:
        super().__init__()
        self.entered = asyncio.Event()
        self.instead = instead

    async def ask(self, query: Query, timeout_s: float) -> Answer:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self.instead is not None:
                raise self.instead from None
            raise
        raise AssertionError

    async def stream(self, query: Query, timeout_s: float) -> AsyncIterator[Chunk]:
        try:
            self.entered.set()
            await asyncio.Event().wait()
            yield Chunk("never")
        finally:
            if self.instead is not None:
                raise self.instead


@pytest.mark.parametrize("how", ["ask", "stream"])
async def test_a_plugin_cannot_turn_a_cancellation_into_another_attempt(
    rig: MakeRig, how: str
) -> None:
    """A cancelled question was asked again on the next backend."""
    blocks = Blocks(BackendUnreachable("connection lost"))
    r = rig("[backend.h]\n[backend.a]\n", extra=[FakePlugin(h=blocks)])

    async def use() -> None:
        if how == "ask":
            await r.balancer.ask("q")
        else:
            async with r.balancer.stream("q"):
                pass

    task = asyncio.create_task(use())
    await blocks.entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert r.a.calls == []
    assert [o.result for o in r.first.outcomes] == ["cancelled"]
    assert r.idle()


async def test_a_plugins_own_cancelled_task_is_its_fault_not_the_callers(
    rig: MakeRig,
) -> None:
    """A plugin whose inner task was cancelled ended the caller's task in silence."""

    class Cancels(FakeBackend):
        async def ask(self, query: Query, timeout_s: float) -> Answer:
            raise asyncio.CancelledError

    r = rig("[backend.h]\n[backend.a]\n", extra=[FakePlugin(h=Cancels())])
    assert (await r.balancer.ask("q")).backend == "a"
    assert [o.error for o in r.first.outcomes] == [BadAnswer.code, ""]


async def test_a_task_that_survived_a_cancellation_still_fails_over(
    rig: MakeRig,
) -> None:
    r = rig()
    r.a.failures = [BadAnswer("x")]

    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return (await r.balancer.ask("q")).backend
        raise AssertionError

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "b"


@pytest.mark.parametrize("deadline_s", [0, 0.0, -1.0, -math.inf, math.nan])
async def test_no_time_is_no_attempt(rig: MakeRig, deadline_s: float) -> None:
    """A deadline of 0 meant the configured one, and NaN meant none at all."""
    r = rig()
    with pytest.raises(NoBackendAvailable, match="time allowed is used up"):
        await r.balancer.ask(Query("q", deadline_s=deadline_s))
    assert r.a.calls == []
    assert r.idle()


async def test_an_endless_deadline_leaves_the_backends_own_limit(rig: MakeRig) -> None:
    r = rig(
        "[backend.h]\ntimeout_s = 0.01\n[backend.a]\n", extra=[FakePlugin(h=Blocks())]
    )
    reply = await r.balancer.ask(Query("q", deadline_s=math.inf))
    assert reply.backend == "a"


@pytest.mark.parametrize("pause", ["30", math.nan, -5.0])
async def test_a_wait_that_is_no_number_counts_as_none_given(
    rig: MakeRig, pause: object
) -> None:
    """A plugin that passed the header on as text ended the request with TypeError."""
    r = rig("[backend.a]\n[backend.b]\n")
    r.a.failures = [BackendBusy("429", retry_after_s=pause)]  # type: ignore[arg-type]
    assert (await r.balancer.ask("q")).backend == "b"
    wait_s = r.candidate("a").closed_until_s - r.balancer._now()
    assert 0 < wait_s <= 1.0
