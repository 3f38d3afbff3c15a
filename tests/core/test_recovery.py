"""What follows a failure: the same backend again, another, a wait, or an end."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest

from plb_core import (
    Answer,
    BackendBusy,
    BackendRefused,
    BackendTimeout,
    BackendUnreachable,
    BadAnswer,
    Choice,
    Event,
    NoAnswer,
    NoBackendAvailable,
    hookimpl,
)
from plb_core.config import read_text
from plb_core.error_actions import DEFAULT_ACTIONS, MEANING

from .conftest import Rig

pytestmark = pytest.mark.asyncio
MakeRig = Callable[..., Rig]
# Open for so short that a test can wait for it, and long enough to be seen.
QUICK = "[breaker]\ntimeout_s = 0.05\njitter = 0\n"
SERVER_ERROR = BackendRefused("500", status=500)


@pytest.mark.parametrize("error", [SERVER_ERROR, BackendUnreachable("reset")])
async def test_a_hiccup_of_a_lone_backend_is_asked_once_more(
    rig: MakeRig, error: Exception
) -> None:
    r = rig("[backend.a]\n")
    r.a.failures = [error]
    reply = await r.balancer.ask("q")
    assert (reply.backend, reply.attempts) == ("a", 2)
    r.a.failures = [error, error]
    with pytest.raises(NoBackendAvailable):
        await r.balancer.ask("q")
    assert len(r.a.calls) == 4


async def test_a_hiccup_goes_elsewhere_when_the_tier_has_another(rig: MakeRig) -> None:
    r = rig("[backend.a]\n[backend.b]\n")
    r.a.failures = [SERVER_ERROR]
    assert (await r.balancer.ask("q")).backend == "b"
    assert len(r.a.calls) == 1


async def test_a_lone_backend_of_its_tier_comes_before_the_next_tier(
    rig: MakeRig,
) -> None:
    r = rig("[backend.a]\n[backend.b]\npriority = 2\n")
    r.a.failures = [SERVER_ERROR]
    assert (await r.balancer.ask("q")).backend == "a"


@pytest.mark.parametrize("error", [BackendTimeout("silent"), BadAnswer("cut")])
async def test_a_silent_or_wrong_backend_is_not_asked_twice(
    rig: MakeRig, error: Exception
) -> None:
    r = rig("[backend.a]\n")
    r.a.failures = [error]
    with pytest.raises(NoBackendAvailable):
        await r.balancer.ask("q")
    assert len(r.a.calls) == 1


async def test_a_short_wait_is_waited_when_nothing_else_is_open(rig: MakeRig) -> None:
    r = rig("[backend.a]\n")
    r.a.failures = [BackendBusy("429", retry_after_s=0.01)]
    reply = await r.balancer.ask("q")
    assert (reply.backend, reply.attempts) == ("a", 2)


async def test_a_long_wait_is_told_to_the_caller(rig: MakeRig) -> None:
    r = rig("[backend.a]\n")
    r.a.failures = [BackendBusy("429", retry_after_s=2.5)]
    with pytest.raises(NoBackendAvailable) as caught:
        await r.balancer.ask("q")
    assert caught.value.busy
    assert 2 < (caught.value.retry_after_s or 0) <= 2.5


async def test_an_action_is_settable_per_backend(rig: MakeRig) -> None:
    r = rig('[backend.a]\non_error = { backend_refused = "stop" }\n[backend.b]\n')
    r.a.failures = [SERVER_ERROR]
    with pytest.raises(BackendRefused) as caught:
        await r.balancer.ask("q")
    assert caught.value.request_id
    assert not r.b.calls


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('{ backend_refusd = "stop" }', "there is no error 'backend_refusd'"),
        ('{ backend_refused = "stopp" }', "did you mean 'stop'?"),
    ],
)
async def test_an_unknown_action_or_code_is_named(table: str, message: str) -> None:
    text = f"[backend.a]\non_error = {table}\n[track.m]\nalgorithm = 'x'\n"
    (found,) = read_text(text).problems.found
    assert message in str(found)


CONTEXTS = """
[backend.a]
context_tokens = 1000
[backend.b]
context_tokens = 1000
[backend.c]
context_tokens = 9000
"""


async def test_a_full_context_goes_at_once_to_a_larger_one(rig: MakeRig) -> None:
    r = rig(CONTEXTS)
    r.a.failures = [NoAnswer("too long", reason="context_length")]
    reply = await r.balancer.ask("q")
    assert (reply.backend, reply.attempts) == ("c", 2)
    assert not r.b.calls


async def test_without_a_larger_context_the_refusal_is_the_answer(rig: MakeRig) -> None:
    r = rig("[backend.a]\n[backend.b]\n")
    r.a.failures = [NoAnswer("too long", reason="context_length")]
    with pytest.raises(NoAnswer, match="too long"):
        await r.balancer.ask("q")
    assert not r.b.calls


async def test_a_content_filter_is_not_worked_around(rig: MakeRig) -> None:
    r = rig("[backend.b]\n[backend.a]\n")
    r.b.failures = [BadAnswer("x")]
    r.a.failures = [NoAnswer("declined", reason="content_filter")]
    with pytest.raises(NoAnswer, match="declined"):
        await r.balancer.ask("q")


class Ears:
    def __init__(self) -> None:
        self.events: list[Event] = []

    @hookimpl
    def plb_event(self, event: Event) -> None:
        self.events.append(event)


async def test_five_failures_open_the_breaker_and_spare_the_backend(
    rig: MakeRig,
) -> None:
    ears = Ears()
    r = rig("[backend.a]\n[backend.b]\n", extra=[ears])
    r.a.failures = [SERVER_ERROR] * 50
    for _ in range(20):
        assert (await r.balancer.ask("q")).backend == "b"
    assert len(r.a.calls) == 5
    assert r.candidate("a").breaker.state == "open"
    moved = [event.data for event in ears.events if event.name == "breaker_moved"]
    assert moved == [{"backend": "a", "from": "closed", "to": "open"}]


async def test_a_recovered_backend_is_found_by_trials_of_real_requests(
    rig: MakeRig,
) -> None:
    r = rig(f"{QUICK}success_threshold = 2\n[backend.a]\n[backend.b]\n")
    breaker = r.candidate("a").breaker
    r.a.failures = [SERVER_ERROR] * 5
    for _ in range(5):
        await r.balancer.ask("q")
    assert not breaker.closed
    await asyncio.sleep(0.06)
    # `first` always takes the first candidate; the trial comes before it chooses.
    r.first.answer = lambda candidates: Choice(candidates[-1])
    assert (await r.balancer.ask("q")).backend == "a"
    assert (await r.balancer.ask("q")).backend == "a"
    assert breaker.closed
    assert (await r.balancer.ask("q")).backend == "b"


async def test_exactly_one_of_many_waiting_requests_is_the_trial(rig: MakeRig) -> None:
    r = rig(QUICK + "[backend.a]\n[backend.b]\n")
    r.a.failures = [SERVER_ERROR] * 5
    for _ in range(5):
        await r.balancer.ask("q")
    await asyncio.sleep(0.06)
    gate, inside = asyncio.Event(), []

    async def slow(query: object, timeout_s: float) -> Answer:
        inside.append(query)
        await gate.wait()
        return Answer("late")

    r.a.ask = slow  # type: ignore[method-assign]
    tasks = [asyncio.create_task(r.balancer.ask("q")) for _ in range(100)]
    while sum(task.done() for task in tasks) < 99:
        await asyncio.sleep(0)
    assert len(inside) == 1
    gate.set()
    await asyncio.gather(*tasks)


async def test_a_cancelled_trial_gives_its_permit_back(rig: MakeRig) -> None:
    r = rig(QUICK + "[backend.a]\n")
    breaker = r.candidate("a").breaker
    for _ in range(5):
        breaker.finish(breaker.start(0.0), "failure", 0.1, r.balancer._now())
    await asyncio.sleep(0.06)
    entered = asyncio.Event()

    async def hang(query: object, timeout_s: float) -> Answer:
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    real, r.a.ask = r.a.ask, hang  # type: ignore[method-assign]
    task = asyncio.create_task(r.balancer.ask("q"))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    r.a.ask = real  # type: ignore[method-assign]
    assert (await r.balancer.ask("q")).backend == "a"


async def test_when_every_breaker_is_open_the_wait_is_known(rig: MakeRig) -> None:
    r = rig("[backend.a]\n")
    r.a.failures = [BackendTimeout("x")] * 5
    for _ in range(5):
        with pytest.raises(NoBackendAvailable):
            await r.balancer.ask("q")
    with pytest.raises(NoBackendAvailable) as caught:
        await r.balancer.ask("q")
    assert not caught.value.busy
    assert 0 < (caught.value.retry_after_s or 0) <= 7.5
    assert not r.balancer.ready()
    assert len(r.a.calls) == 5


async def test_extra_attempts_stay_a_small_share_when_everything_fails(
    rig: MakeRig,
) -> None:
    head = "[breaker]\nfailure_threshold = 100000\nminimum_calls = 100000\n"
    r = rig(head + "[backend.a]\n[backend.b]\n[backend.c]\n")
    for backend in (r.a, r.b, r.c):
        backend.failures = [SERVER_ERROR] * 5000
    for _ in range(500):
        with pytest.raises(NoBackendAvailable):
            await r.balancer.ask("q")
    calls = sum(len(backend.calls) for backend in (r.a, r.b, r.c))
    assert calls <= 500 * 1.10
    assert calls > 500


async def test_every_default_action_has_a_meaning() -> None:
    assert set(DEFAULT_ACTIONS.values()) <= set(MEANING)


class Held:
    """What a call had read when it failed."""


async def test_a_failed_call_leaves_nothing_of_what_it_read_in_memory(
    rig: MakeRig,
) -> None:
    """8 MiB of each refused answer stayed until a garbage collection."""
    r = rig("[backend.a]\n[backend.b]\n")
    seen = []

    async def fail(query: object, timeout_s: float) -> Answer:
        held = Held()
        seen.append(weakref.ref(held))
        raise BadAnswer("too large")

    r.a.ask = fail  # type: ignore[method-assign]
    gc.disable()
    try:
        assert (await r.balancer.ask("q")).backend == "b"
        assert [each() for each in seen] == [None]
    finally:
        gc.enable()
