"""The gate keeps its promises whatever happens in whatever order."""

from __future__ import annotations

import asyncio
import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from plb_core.errors import Overloaded
from plb_core.overload import Ended, Gate
from plb_core.sections import OverloadSettings
from tests.core.virtual_time import VirtualLoop

LATENCIES_S = st.sampled_from([0.0, 0.01, 0.1, 1.0, 30.0])
RESULTS: st.SearchStrategy[Ended] = st.sampled_from(["success", "overload", "ignored"])


class GateMachine(RuleBasedStateMachine):
    @initialize(
        fixed=st.one_of(st.none(), st.integers(1, 3)),
        queue=st.integers(0, 8),
        initial=st.integers(2, 6),
    )
    def begin(self, fixed: int | None, queue: int, initial: int) -> None:
        self.settings = OverloadSettings(
            max_in_flight=fixed,
            initial_limit=initial,
            min_limit=2,
            max_limit=7,
            queue_length=queue,
        )
        self.loop = VirtualLoop()
        self.gate = Gate(self.settings, self.loop.time, random.Random(1))
        self.tickets: list[int] = []
        self.waiting: dict[asyncio.Task[int], float] = {}  # in order of arrival
        self.cancelled: set[asyncio.Task[int]] = set()
        self.most = self.gate.limit

    def settle(self, seconds: float = 0.0) -> list[asyncio.Task[int]]:
        """Let everyone run; return who was admitted, checking how each one ended."""
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(asyncio.sleep(0))
        admitted = []
        for task, came_s in list(self.waiting.items()):
            if not task.done():
                assert task not in self.cancelled
                assert self.loop.time() - came_s <= self.settings.queue_age_s
                continue
            del self.waiting[task]
            if task.cancelled():
                assert task in self.cancelled
            elif task.exception() is None:
                self.tickets.append(task.result())
                admitted.append(task)
            else:
                assert isinstance(task.exception(), Overloaded)
        return admitted

    @rule()
    def enter(self) -> None:
        free = self.gate.in_flight < self.gate.limit
        ticket = self.gate.try_enter()
        assert bool(ticket) == free
        if ticket:
            self.tickets.append(ticket)

    @rule(count=st.integers(1, 4))
    def wait(self, count: int) -> None:
        for _ in range(count):
            task = self.loop.create_task(self.gate.wait(60.0))
            self.waiting[task] = self.loop.time()
        self.settle()

    @rule(data=st.data(), latency_s=LATENCIES_S, result=RESULTS)
    def leave(self, data: st.DataObject, latency_s: float, result: Ended) -> None:
        if not self.tickets:
            return
        before = list(self.waiting)
        newest_first = self.gate.overloaded
        place = data.draw(st.integers(0, len(self.tickets) - 1))
        self.gate.leave(self.tickets.pop(place), latency_s, result)
        admitted = self.settle()
        expected = before[::-1] if newest_first else before
        assert set(admitted) == set(expected[: len(admitted)])

    @rule(data=st.data(), leaves=st.booleans())
    def cancel(self, data: st.DataObject, leaves: bool) -> None:
        if not self.waiting:
            return
        task = data.draw(st.sampled_from(list(self.waiting)))
        self.cancelled.add(task)
        task.cancel()
        if leaves and self.tickets:
            self.gate.leave(self.tickets.pop(), 0.1, "success")
        self.settle()

    @rule(data=st.data())
    def cancel_whoever_is_admitted(self, data: st.DataObject) -> None:
        if not self.waiting or not self.tickets:
            return
        self.gate.leave(self.tickets.pop(), 0.1, "success")
        task = data.draw(st.sampled_from(list(self.waiting)))
        self.cancelled.add(task)
        task.cancel()
        self.settle()

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.5, 1.0]))
    def pass_time(self, seconds: float) -> None:
        self.settle(seconds)

    @rule(lane_full=st.booleans())
    def admin(self, lane_full: bool) -> None:
        tickets = [self.gate.try_enter("admin") for _ in range(5 if lane_full else 1)]
        assert tickets == [-1, -1, -1, -1, 0][: len(tickets)]
        for ticket in filter(None, tickets):
            self.gate.leave(ticket, 0.0, "success")

    @invariant()
    def bounds_hold(self) -> None:
        if not hasattr(self, "gate"):
            return
        gate = self.gate
        assert gate.in_flight == len(self.tickets)
        assert gate.waiting == len(self.waiting) <= self.settings.queue_length
        # A limit that shrinks stops nobody who is inside.
        self.most = max(gate.limit, min(self.most, max(gate.in_flight, gate.limit)))
        assert gate.in_flight <= self.most
        assert not gate.waiting or gate.in_flight >= gate.limit, "a lost wake-up"
        if self.settings.max_in_flight is None:
            assert 2 <= gate.limit <= 7

    def teardown(self) -> None:
        if not hasattr(self, "gate"):
            return
        while self.tickets or self.waiting:
            while self.tickets:
                self.gate.leave(self.tickets.pop(), 0.1, "success")
            self.settle(0.25)
        assert (self.gate.in_flight, self.gate.waiting) == (0, 0)
        self.loop.close()


TestGate = GateMachine.TestCase
TestGate.settings = settings(max_examples=2000, stateful_step_count=25, deadline=None)
