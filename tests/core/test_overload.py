"""The gate: who runs, who waits, who is told at once; and how load changes that."""

from __future__ import annotations

import asyncio
import math
import random

import pytest

from plb_core.concurrency_limit import AdaptiveLimit
from plb_core.errors import BackendBusy, BackendTimeout, BadAnswer, Overloaded
from plb_core.overload import FEW, Gate, ended
from plb_core.sections import OverloadSettings, RateLimitSettings
from plb_core.testing.fakes import FakeClock
from tests.core.virtual_time import simulate


def gate(**options: float) -> Gate:
    """Return a gate on the running loop's clock; made inside a simulation."""
    settings = OverloadSettings(**{"max_in_flight": 1, **options})  # type: ignore[arg-type]
    return Gate(settings, asyncio.get_running_loop().time, random.Random(1))


def waiters(it: Gate, count: int) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(it.wait(60.0)) for _ in range(count)]


def test_a_free_place_is_taken_at_once_and_a_full_gate_says_zero() -> None:
    it = Gate(OverloadSettings(max_in_flight=2), FakeClock(), random.Random(1))
    assert (it.try_enter(), it.try_enter(), it.try_enter()) == (1, 2, 0)
    it.leave(2, 0.1, "success")
    assert it.in_flight == 1
    assert it.try_enter() == 2


def test_waiters_are_served_in_turn() -> None:
    async def main() -> list[int]:
        it = gate()
        ticket = it.try_enter()
        order: list[int] = []

        async def wait(number: int) -> None:
            held = await it.wait(60.0)
            order.append(number)
            it.leave(held, 0.01, "success")

        tasks = [asyncio.create_task(wait(number)) for number in range(5)]
        await asyncio.sleep(0)
        it.leave(ticket, 0.01, "success")
        await asyncio.gather(*tasks)
        assert (it.in_flight, it.waiting) == (0, 0)
        return order

    assert simulate(main()) == [0, 1, 2, 3, 4]


def test_waiting_with_a_free_place_returns_at_once() -> None:
    async def main() -> int:
        return await gate().wait(0.0)

    assert simulate(main()) == 1


@pytest.mark.parametrize("deadline_s", [0.0, -1.0, math.nan])
def test_a_deadline_that_allows_no_waiting_is_refused_at_once(
    deadline_s: float,
) -> None:
    async def main() -> None:
        it = gate()
        it.try_enter()
        with pytest.raises(Overloaded) as caught:
            await it.wait(deadline_s)
        assert asyncio.get_running_loop().time() == 0.0
        assert caught.value.busy
        assert 0.5 <= caught.value.retry_after_s <= 1.5

    simulate(main())


@pytest.mark.parametrize(("deadline_s", "ends_s"), [(60.0, 1.0), (0.25, 0.25)])
def test_a_waiter_is_refused_when_its_time_is_up(
    deadline_s: float, ends_s: float
) -> None:
    async def main() -> float:
        it = gate()
        it.try_enter()
        with pytest.raises(Overloaded):
            await it.wait(deadline_s)
        assert it.waiting == 0
        return asyncio.get_running_loop().time()

    assert simulate(main()) == pytest.approx(ends_s)


def test_more_than_the_queue_holds_are_refused_at_once() -> None:
    async def main() -> list[bool]:
        it = gate(queue_length=3)
        it.try_enter()
        tasks = waiters(it, 5)
        await asyncio.sleep(0)
        assert it.waiting == 3
        assert asyncio.get_running_loop().time() == 0.0
        refused = [task.done() for task in tasks]
        await asyncio.gather(*tasks, return_exceptions=True)
        return refused

    assert simulate(main()) == [False, False, False, True, True]


def test_without_a_queue_everyone_on_top_is_refused() -> None:
    async def main() -> None:
        it = gate(queue_length=0)
        it.try_enter()
        it.overloaded = True
        with pytest.raises(Overloaded):
            await it.wait(60.0)

    simulate(main())


def test_who_could_not_be_served_in_time_is_refused_at_once() -> None:
    async def main() -> None:
        it = gate(queue_length=256, max_in_flight=2)
        it.leave(it.try_enter(), 0.1, "success")  # 2 places of 0.1 s: 20 in a second
        it.try_enter(), it.try_enter()
        tasks = waiters(it, 30)
        await asyncio.sleep(0)
        assert it.waiting == 20
        assert sum(task.done() for task in tasks) == 10
        await asyncio.gather(*tasks, return_exceptions=True)

    simulate(main())


def test_a_standing_queue_serves_the_newest_and_drops_the_oldest() -> None:
    async def main() -> None:
        it = gate(queue_length=8)
        it.leave(it.try_enter(), 0.05, "success")
        ticket = it.try_enter()
        old = waiters(it, 8)
        await asyncio.sleep(0.1)
        (pushing,) = waiters(it, 1)
        await asyncio.sleep(0)
        assert it.overloaded
        assert [task.done() for task in old[:3]] == [False, False, False]
        await asyncio.sleep(0)
        assert [task.done() for task in old[:3]] == [True, True, False]
        it.leave(ticket, 0.05, "success")
        assert await pushing == 1
        (second,) = waiters(it, 1)
        await asyncio.sleep(0)
        it.leave(1, 0.05, "success")
        assert await second == 1
        more = waiters(it, 20)
        await asyncio.sleep(0)
        assert it.waiting == FEW
        await asyncio.gather(*old, *more, return_exceptions=True)

    simulate(main())


def test_overload_ends_when_the_queue_is_empty_and_nobody_is_refused() -> None:
    async def main() -> None:
        it = gate(queue_length=4)
        it.leave(it.try_enter(), 0.05, "success")
        ticket = it.try_enter()
        tasks = waiters(it, 5)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert it.overloaded
        it.leave(ticket, 0.05, "success")
        assert it.overloaded  # the last refusal was just now
        await asyncio.sleep(0.1)
        it.leave(it.try_enter(), 0.05, "success")
        assert not it.overloaded

    simulate(main())


def test_a_cancelled_waiter_leaves_the_queue() -> None:
    async def main() -> None:
        it = gate()
        ticket = it.try_enter()
        first, second = waiters(it, 2)
        await asyncio.sleep(0)
        first.cancel()
        it.leave(ticket, 0.1, "success")  # before the first one has noticed
        assert await second == 1
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (it.in_flight, it.waiting) == (1, 0)

    simulate(main())


def test_a_waiter_cancelled_with_a_ticket_in_hand_passes_it_on() -> None:
    async def main() -> None:
        it = gate()
        ticket = it.try_enter()
        first, second = waiters(it, 2)
        await asyncio.sleep(0)
        it.leave(ticket, 0.1, "success")
        first.cancel()  # it was admitted, but has not run since
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await second == 1
        assert it.in_flight == 1

    simulate(main())


def test_a_waiter_cancelled_when_already_refused_is_cancelled() -> None:
    async def main() -> None:
        it = gate(queue_length=1)
        it.leave(it.try_enter(), 0.05, "success")
        ticket = it.try_enter()
        (old,) = waiters(it, 1)
        await asyncio.sleep(0.1)
        newer = waiters(it, 1)
        await asyncio.sleep(0)
        old.cancel()
        with pytest.raises(asyncio.CancelledError):
            await old
        it.leave(ticket, 0.05, "success")
        assert await newer[0] == 1

    simulate(main())


def test_the_admin_lane_has_places_of_its_own_and_no_queue() -> None:
    async def main() -> None:
        it = gate(admin_lane=1)
        it.try_enter()
        async with it.enter("admin") as held:
            held.result = "overload"
            assert (it.in_flight, it.admin_in_flight) == (1, 1)
            with pytest.raises(Overloaded):
                async with it.enter("admin"):
                    pass
        assert it.admin_in_flight == 0

    simulate(main())


def test_a_block_waits_for_its_place_and_gives_it_back_whatever_happens() -> None:
    async def main() -> None:
        it = gate()
        ticket = it.try_enter()
        asyncio.get_running_loop().call_later(0.5, it.leave, ticket, 0.5, "success")
        with pytest.raises(ValueError, match="x"):
            async with it.enter():
                raise ValueError("x")
        async with it.enter() as held:
            assert held.result == "success"
        with pytest.raises(ValueError, match="x"):
            async with it.enter() as held:
                held.result = "overload"
                raise ValueError("x")
        assert it.in_flight == 0

    simulate(main())


def test_a_growing_limit_lets_waiters_in() -> None:
    async def main() -> None:
        settings = OverloadSettings(initial_limit=4)
        loop = asyncio.get_running_loop()
        it = Gate(settings, loop.time, random.Random(1))
        tickets = [it.try_enter() for _ in range(4)]
        tasks = waiters(it, 40)
        while it.limit == 4:
            await asyncio.sleep(0.03)
            for ticket in tickets:
                it.leave(ticket, 0.03, "success")
            await asyncio.sleep(0)
            tickets = [task.result() for task in tasks if task.done()]
            tasks = [task for task in tasks if not task.done()]
        assert it.in_flight == it.limit > 4
        for task in tasks:
            task.cancel()

    simulate(main())


@pytest.mark.parametrize("latency_s", [math.nan, math.inf, -1.0, 1e308, 0.0])
def test_odd_latencies_leave_the_limit_within_its_bounds(latency_s: float) -> None:
    it = Gate(OverloadSettings(), FakeClock(), random.Random(1))
    for _ in range(100):
        it.leave(it.try_enter(), latency_s, "success")
    assert it.in_flight == 0
    assert 4 <= it.limit <= 1024


def test_load_failures_shrink_the_limit_once_an_answer_to_its_minimum() -> None:
    clock = FakeClock()
    it = Gate(OverloadSettings(), clock, random.Random(1))
    for _ in range(10):
        it.leave(it.try_enter(), 1.0, "overload")
    assert it.limit == 57
    for _ in range(200):
        clock.advance(1.0)
        it.leave(it.try_enter(), 1.0, "overload")
    assert it.limit == 4


def test_a_fixed_limit_stays() -> None:
    it = Gate(OverloadSettings(max_in_flight=7), FakeClock(), random.Random(1))
    it.leave(it.try_enter(), 1.0, "overload")
    it.leave(it.try_enter(), 1.0, "ignored")
    assert it.limit == 7


def test_a_limit_in_little_use_stays() -> None:
    clock = FakeClock()
    limit = AdaptiveLimit(OverloadSettings(), clock())
    for _ in range(1000):
        clock.advance(0.1)
        limit.answered(0.1, 3, clock())
    assert limit.limit == 64


@pytest.mark.parametrize(
    ("result", "error", "end"),
    [
        ("answer", "", "success"),
        ("no_answer", "no_answer", "success"),
        ("error", BackendBusy.code, "overload"),
        ("error", BackendTimeout.code, "overload"),
        ("truncated", BackendTimeout.code, "overload"),
        ("error", BadAnswer.code, "ignored"),
        ("cancelled", "", "ignored"),
    ],
)
def test_only_answers_and_load_failures_say_anything_of_load(
    result: str, error: str, end: str
) -> None:
    assert ended(result, error) == end  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bounds", [{"min_limit": 65}, {"max_limit": 63}, {"initial_limit": 2}]
)
def test_bounds_out_of_order_are_refused(bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="min_limit <= initial_limit <= max_limit"):
        OverloadSettings(**bounds)  # type: ignore[arg-type]


def test_no_client_is_limited_unless_asked_for() -> None:
    assert OverloadSettings().rate_limit is None
    assert RateLimitSettings(60).burst == 10


def test_calm_after_a_long_overload_is_believed_soon() -> None:
    clock = FakeClock()
    limit = AdaptiveLimit(OverloadSettings(max_limit=64), clock())

    def window(latency_s: float) -> None:
        clock.advance(latency_s + 0.01)
        for _ in range(64):
            limit.answered(latency_s, 64, clock())

    for _ in range(50):
        window(10.0)
    for _ in range(40):
        window(0.1)
    for _ in range(3):
        window(1.0)
    assert limit.limit < 64  # ten times slower than usual, and noticed


def test_a_waiter_cancelled_just_now_is_pushed_out_as_cancelled() -> None:
    async def main() -> None:
        it = gate(queue_length=2)
        it.leave(it.try_enter(), 0.05, "success")
        it.try_enter()
        old = waiters(it, 2)
        await asyncio.sleep(0.1)
        old[0].cancel()
        with pytest.raises(TimeoutError):
            # Without a step between the cancelling and the newcomer.
            async with asyncio.timeout(0.01):
                await it.wait(60.0)
        assert old[0].cancelled()
        assert not old[1].done()
        old[1].cancel()

    simulate(main())


def test_a_waiter_cancelled_as_its_time_is_up_is_cancelled() -> None:
    async def main() -> None:
        it = gate()
        it.try_enter()
        (task,) = waiters(it, 1)
        await asyncio.sleep(0)
        # Made after the waiter's own timer and due at the same time: it runs first.
        asyncio.get_running_loop().call_at(0.999_999_999_9, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert it.waiting == 0

    simulate(main())
