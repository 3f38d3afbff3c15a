"""Random histories of one balancer: whatever happens, the books are right.

Questions, streams and leases run side by side and end in every way there is, while
backends are added, removed and changed. After each step everything is counted anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Sequence,
)
from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from plb_core import (
    Answer,
    BackendBusy,
    BackendRefused,
    BackendTimeout,
    BuildContext,
    Choice,
    Chunk,
    NoAnswer,
    PlbError,
    ProbeResult,
    Provider,
    Query,
    attempts,
    hookimpl,
    lifecycle,
)
from plb_core.balancer import Balancer
from plb_core.candidate import Candidate
from plb_core.config import read_text
from plb_core.error_actions import DEFAULT_ACTIONS
from plb_core.history import History, Trace
from plb_core.lease import Lease
from plb_core.plan import Plan
from plb_core.types import BackendTraits, Outcome

# Another weight is a changed section: the backend is replaced.
WEIGHTS = st.dictionaries(
    st.sampled_from(("a", "b", "c", "d")), st.sampled_from((1.0, 2.0)), min_size=1
)
OVERLOAD = "[overload]\nmax_in_flight = 4\nqueue_age_s = 1000.0\n"
KEPT = 5
SLOTS = 2
ANSWER = Answer("text")

FAILURES: dict[str, Callable[[], Exception]] = {
    "no answer": lambda: NoAnswer("nothing found"),
    "error": lambda: BackendRefused("500", status=500),
    "timeout": lambda: BackendTimeout("late"),
    "busy": lambda: BackendBusy("429", retry_after_s=60.0),
    "fault": ZeroDivisionError,
    "inner timeout": TimeoutError,
}
FINE = ("text", "complete", "truncated", "nothing")


class Script:
    """A backend whose every step waits until the machine says what it is to be."""

    traits = BackendTraits(max_in_flight=SLOTS)

    def __init__(self, complaints: list[str], waiting: list[asyncio.Future[str]]):
        self.complaints = complaints
        self.waiting = waiting
        self.running = 0
        self.leased = 0
        self.started = 0
        self.closed = 0

    async def start(self) -> None:
        await asyncio.sleep(0)
        self.started += 1

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1
        if self.running or self.leased:
            self.complaints.append("closed while in use")

    async def ping(self, timeout_s: float) -> ProbeResult:
        return ProbeResult(ok=True, latency_s=0.0)

    async def ask(self, query: Query, timeout_s: float) -> Answer:
        with self._call():
            await self._step()
            return ANSWER

    async def stream(self, query: Query, timeout_s: float) -> AsyncIterator[Chunk]:
        with self._call():
            while True:
                step = await self._step()
                if step == "nothing":
                    return
                if step == "text":
                    yield Chunk("text")
                elif step == "complete":
                    yield Chunk(end="complete", answer=ANSWER)
                else:
                    yield Chunk(end="truncated")

    def _call(self) -> _Call:
        if self.closed or not self.started:
            self.complaints.append("called while not open")
        return _Call(self)

    async def _step(self) -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        try:
            return await future
        finally:
            self.waiting.remove(future)


class _Call:
    def __init__(self, backend: Script) -> None:
        self.backend = backend

    def __enter__(self) -> None:
        self.backend.running += 1

    def __exit__(self, *_: object) -> None:
        self.backend.running -= 1


class Recorder:
    """Chooses by lot, fails when told to, and counts what it is shown."""

    def __init__(self, context: BuildContext, failing: set[str]) -> None:
        self.name = context.name
        self.rng = context.rng
        self.failing = failing
        self.seen: Counter[tuple[str, int]] = Counter()

    def choose(self, query: Query, candidates: Sequence[Candidate]) -> Choice:
        if self.name in self.failing:
            self.failing.discard(self.name)
            raise RuntimeError("told to")
        return Choice(self.rng.choice(candidates), 1.0 / len(candidates))

    def observe(self, outcome: Outcome) -> None:
        self.seen[outcome.request_id, outcome.attempt] += 1


class Remembers(History):
    """A short history, and beside it everything that was ever put in."""

    def __init__(self) -> None:
        super().__init__(KEPT)
        self.all: list[Trace] = []

    def add(self, trace: Trace) -> None:
        super().add(trace)
        self.all.append(trace)


@attrs.define(eq=False)
class Reader:
    """A task with a question; one that streams leaves early when it is told to."""

    task: asyncio.Task[None] = attrs.field(init=False)
    leaves: bool = False


def toml(weights: dict[str, float]) -> str:
    backends = "".join(
        f'[backend.{name}]\nplugin = "script"\nweight = {weight}\n'
        for name, weight in weights.items()
    )
    track = '[track.t]\nalgorithm = "one"\nfallback_algorithms = ["two"]\n'
    return backends + OVERLOAD + track


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(lifecycle, "_LOOK_S", 0.0)
        self.patch.setattr(attempts, "AGAIN_WITHIN_S", 0.0)
        self.runner = asyncio.Runner()
        self.complaints: list[str] = []
        self.waiting: list[asyncio.Future[str]] = []
        self.made: list[Script] = []
        self.failing: set[str] = set()
        self.readers: list[Reader] = []
        self.leases: list[tuple[Lease, Script]] = []
        self.plans: list[Plan] = []
        self.history = Remembers()
        config = read_text(toml({"a": 1.0, "b": 1.0}))
        self.balancer = Balancer(config, plugins=[self], seed=1)
        self.balancer._history = self.history
        self.run(self.balancer.start())

    @hookimpl
    def plb_register_backend(self) -> Provider[Script]:
        def build(settings: object, context: BuildContext) -> Script:
            self.made.append(Script(self.complaints, self.waiting))
            return self.made[-1]

        return Provider("script", build)

    @hookimpl
    def plb_register_algorithm(self) -> list[Provider[Recorder]]:
        def build(settings: object, context: BuildContext) -> Recorder:
            return Recorder(context, self.failing)

        return [Provider("one", build), Provider("two", build)]

    def run(self, *doing: Awaitable[object]) -> None:
        """Do these together, then let everything that can run come to rest."""

        async def settle() -> None:
            await asyncio.gather(*doing)
            for _ in range(30):
                await asyncio.sleep(0)

        self.runner.run(settle())
        self.readers = [each for each in self.readers if not each.task.done()]
        if self.balancer.plan not in self.plans:
            self.plans.append(self.balancer.plan)

    def begin(self, work: Callable[[Reader], Coroutine[Any, Any, None]]) -> None:
        reader = Reader()

        async def guarded() -> None:
            with contextlib.suppress(PlbError):  # a question may end so
                await work(reader)

        reader.task = self.runner.get_loop().create_task(guarded())
        self.readers.append(reader)
        self.run()

    @rule()
    def ask(self) -> None:
        async def work(_: Reader) -> None:
            assert (await self.balancer.ask("q")).answer is ANSWER

        self.begin(work)

    @rule(leaves=st.booleans())
    def stream(self, leaves: bool) -> None:
        async def work(reader: Reader) -> None:
            reader.leaves = leaves
            async with self.balancer.stream("q") as stream:
                async for _ in stream:
                    if reader.leaves:
                        break

        self.begin(work)

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def leave_at_the_next_chunk(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.readers)).leaves = True

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.readers)).task.cancel()
        self.run()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), step=st.sampled_from(FINE))
    def go_on(self, data: st.DataObject, step: str) -> None:
        data.draw(st.sampled_from(self.waiting)).set_result(step)
        self.run()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), failure=st.sampled_from(sorted(FAILURES)))
    def fail(self, data: st.DataObject, failure: str) -> None:
        data.draw(st.sampled_from(self.waiting)).set_exception(FAILURES[failure]())
        self.run()

    @rule(names=st.sets(st.sampled_from(("one", "two"))))
    def algorithms_fail_next_time(self, names: set[str]) -> None:
        self.failing |= names

    @rule()
    def lease(self) -> None:
        lease = self.balancer.lease("q")
        try:
            lease.__enter__()
        except PlbError:
            return
        backend = lease.backend
        assert isinstance(backend, Script)
        backend.leased += 1
        self.leases.append((lease, backend))

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(),
        end=st.sampled_from(["answer", "nothing", "cancelled", *sorted(FAILURES)]),
    )
    def give_back(self, data: st.DataObject, end: str) -> None:
        lease, backend = data.draw(st.sampled_from(self.leases))
        self.leases.remove((lease, backend))
        error: BaseException | None = None
        if end == "answer":
            lease.answer(ANSWER)
        elif end == "cancelled":
            error = asyncio.CancelledError()
        elif end in FAILURES:
            error = FAILURES[end]()
        backend.leased -= 1
        lease.__exit__(type(error) if error else None, error, None)
        self.run()

    @rule(weights=WEIGHTS)
    def reload(self, weights: dict[str, float]) -> None:
        self.run(self.balancer.apply(read_text(toml(weights))))

    @rule(first=WEIGHTS, second=WEIGHTS)
    def reload_twice_at_once(
        self, first: dict[str, float], second: dict[str, float]
    ) -> None:
        self.run(
            self.balancer.apply(read_text(toml(first))),
            self.balancer.apply(read_text(toml(second))),
        )

    @rule()
    def pauses_pass(self) -> None:
        for candidate, _ in self.pairs():
            candidate.closed_until_s = -math.inf
            candidate.breaker.probe_passed(candidate.now())

    def pairs(self) -> Iterator[tuple[Candidate, Script]]:
        for plan in self.plans:
            for name, backend in plan.backends.items():
                assert isinstance(backend, Script)
                yield plan.candidates[name], backend

    @invariant()
    def slots_are_open_requests(self) -> None:
        for candidate, backend in self.pairs():
            assert candidate.in_flight == backend.running + backend.leased
            assert 0 <= candidate.in_flight <= SLOTS

    @invariant()
    def each_algorithm_sees_each_attempt_once_it_is_over(self) -> None:
        for trace in self.history.all:
            for named in trace.track.observers:
                recorder = named.algorithm
                assert isinstance(recorder, Recorder)
                for attempt in trace.attempts:
                    times = recorder.seen[trace.request_id, attempt.number]
                    assert times == bool(attempt.result)

    @invariant()
    def no_request_asks_one_backend_again_but_once_where_that_may_help(self) -> None:
        for trace in self.history.all:
            names = [attempt.candidate.name for attempt in trace.attempts]
            for name in set(names):
                assert names.count(name) <= 2
                if names.count(name) == 2:
                    place = names.index(name)
                    assert names[place + 1] == name
                    error = trace.attempts[place].error
                    assert DEFAULT_ACTIONS[error] == "again"

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.history._traces) == min(KEPT, len(self.history.all))

    @invariant()
    def backends_close_once_and_only_when_they_are_gone_and_idle(self) -> None:
        assert self.complaints == []
        used = set(map(id, self.balancer.plan.backends.values()))
        idle = not self.readers and not self.leases
        for backend in self.made:
            assert backend.started == 1
            if id(backend) in used:
                assert backend.closed == 0
            elif idle:
                assert backend.closed == 1
            else:
                assert backend.closed <= 1

    @invariant()
    def a_place_is_taken_by_each_that_runs(self) -> None:
        gate = self.balancer._gate
        assert gate is not None
        assert gate.in_flight <= 4
        assert gate.in_flight + gate.waiting == len(self.readers) + len(self.leases)

    @invariant()
    def only_waiting_requests_may_still_choose(self) -> None:
        choosing = sum(plan.choosing for plan in self.plans)
        assert 0 <= choosing <= len(self.readers)

    def teardown(self) -> None:
        for lease, backend in self.leases:
            backend.leased -= 1
            lease.__exit__(None, None, None)
        for reader in self.readers:
            reader.task.cancel()
        self.run()
        assert self.readers == []
        assert all(candidate.in_flight == 0 for candidate, _ in self.pairs())
        assert not any(plan.choosing for plan in self.plans)
        self.run(self.balancer.close())
        assert self.complaints == []
        assert {backend.closed for backend in self.made} == {1}
        self.runner.close()
        self.patch.undo()


TestRequests = Machine.TestCase
TestRequests.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
