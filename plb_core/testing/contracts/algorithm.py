"""What every algorithm must do, as a test class to subclass."""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final, get_args

import attrs
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from plb_core.candidate import Candidate, Decayed
from plb_core.testing import fakes
from plb_core.testing.contracts.bench import Bench, state_bytes
from plb_core.types import Health, Query, Result, Usage

if TYPE_CHECKING:
    from plb_core.hookspecs import BuildContext, Provider
    from plb_core.protocols import Algorithm

# Derandomised: the contract gives the same verdict on every machine.
_examples = hypothesis_settings(
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    report_multiple_bugs=False,
)
_STATE_LIMIT_BYTES: Final = 512 * 1024
"""600 (backend, kind) pairs at some hundred bytes each, with room to spare."""
_PLAIN: Final[Mapping[str, object]] = MappingProxyType({})


class AlgorithmContract:
    """Subclass as `class TestMine(AlgorithmContract)` and set `provider`.

    `settings` are the settings to build with, None for the defaults. Say what makes a
    backend worse for this algorithm with `worse_state` (fields of the candidate) or
    `worse_outcome` (fields of its outcomes); the comparison is skipped when both are
    empty. Override `make`, `context`, `candidate` or `query` where an algorithm needs
    more than the plain ones.
    """

    provider: ClassVar[Provider[Algorithm]]
    settings: ClassVar[object] = None
    worse_state: ClassVar[Mapping[str, object]] = _PLAIN
    worse_outcome: ClassVar[Mapping[str, object]] = _PLAIN

    def make(self, context: BuildContext) -> Algorithm:
        """Build the algorithm under test."""
        settings = self.settings
        if settings is None:
            settings = self.provider.settings()
        return self.provider.build(settings, context)

    def context(self, clock: fakes.FakeClock, seed: int) -> BuildContext:
        """Return the context to build with."""
        return fakes.context(now=clock, seed=seed)

    def candidate(self, name: str, clock: fakes.FakeClock) -> Candidate:
        """Return an idle, healthy candidate, equal to all others but in name."""
        return fakes.candidate(name, now=clock)

    def query(self) -> Query:
        """Return the query to choose for."""
        return Query("What are metabolic pathways?", kind="general")

    def worsen(self, candidate: Candidate) -> None:
        """Make this candidate worse in the way that matters to the algorithm."""
        for field, value in self.worse_state.items():
            setattr(candidate, field, value)

    @pytest.mark.parametrize("count", [1, 2, 5, 10, 100])
    def test_returns_one_of_the_candidates(self, count: int) -> None:
        """Every choice is one of the given candidates, whatever their order."""
        bench = Bench(self)
        candidates = bench.candidates(*(f"b{i}" for i in range(count)))
        shuffle = random.Random(count).shuffle
        for _ in range(20):
            shuffle(candidates)
            choice = bench.choose(tuple(candidates))
            bench.finish(choice.candidate, choice)

    def test_choose_and_observe_are_synchronous(self) -> None:
        """Neither method is a coroutine function."""
        algorithm = Bench(self).algorithm
        for method in (algorithm.choose, algorithm.observe):
            assert not inspect.iscoroutinefunction(method), f"{method} is async"

    @pytest.mark.parametrize("count", [2, 3, 5, 8])
    def test_shares_ties_fairly(self, count: int) -> None:
        """Idle equal backends each get about their share."""
        bench = Bench(self)
        names = [f"b{i}" for i in range(count)]
        counts = bench.serve(bench.candidates(*names), 600)
        share = 600 / count
        # Five standard deviations of a fair lot, so a fair rule never fails by chance.
        slack = 5.0 * (share * (1.0 - 1.0 / count)) ** 0.5
        for name in names:
            assert abs(counts[name] - share) <= slack, (
                f"idle equal backends got {dict(counts)}, expected about {share:.0f}"
            )

    @pytest.mark.parametrize("worse", ["a", "b"])
    @pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
    def test_does_not_prefer_the_worse_of_a_pair(
        self, order: tuple[str, str], worse: str
    ) -> None:
        """Of two backends alike but for one thing, the worse gets less."""
        if not self.worse_state and not self.worse_outcome:
            pytest.skip("the algorithm names nothing that makes a backend worse")
        bench = Bench(self)
        pair = bench.candidates(*order)
        for candidate in pair:
            if candidate.name == worse:
                self.worsen(candidate)
        counts = bench.serve(pair, 300, {worse: self.worse_outcome})
        better = "b" if worse == "a" else "a"
        assert counts[worse] < counts[better], (
            f"{worse!r} is worse, yet of 300 requests {dict(counts)}"
        )

    def test_does_not_starve_a_new_backend(self) -> None:
        """A backend that joins later gets requests too."""
        bench = Bench(self)
        candidates = bench.candidates("a", "b", "c")
        bench.serve(candidates, 200)
        candidates += bench.candidates("new")
        counts = bench.serve(candidates, 400)
        assert counts["new"], "a new backend got none of 400 requests"

    def test_does_not_change_query_candidates_or_outcome(self) -> None:
        """What is handed in stays as it was."""
        bench = Bench(self)
        bench.query = attrs.evolve(
            bench.query, options={"temperature": 0.5, "stop": []}
        )
        options = copy.deepcopy(bench.query.options)
        candidates = bench.candidates("c", "a", "b")
        for _ in range(30):
            order = list(candidates)
            before = [_frozen(each) for each in candidates]
            choice = bench.choose(candidates)
            assert all(map(_same, candidates, order)), "the candidates were reordered"
            assert len(candidates) == len(order), "the candidates were reordered"
            outcome = fakes.outcome(choice.candidate.name, at_s=bench.clock.now_s)
            seen = attrs.astuple(outcome)
            bench.algorithm.observe(outcome)
            assert attrs.astuple(outcome) == seen, "observe changed the outcome"
            after = [_frozen(each) for each in candidates]
            assert after == before, "a candidate was changed"
            assert bench.query.options == options, "the query was changed"

    def test_copes_with_unknown_and_extreme_measurements(self) -> None:
        """Fresh, dead, overloaded and weightless backends give valid choices."""

        @_examples
        @given(st.lists(_states, min_size=1, max_size=12), st.integers(0, 3))
        def check(states: list[_State], seed: int) -> None:
            bench = Bench(self, seed)
            candidates = bench.candidates(*(f"b{i}" for i in range(len(states))))
            for candidate, state in zip(candidates, states, strict=True):
                state.apply(candidate)
            for _ in range(3):
                bench.choose(candidates)
                bench.clock.advance(3600.0)

        check()

    def test_observes_every_result_in_any_order(self) -> None:
        """Every result is accepted, also from backends never seen."""

        @_examples
        @given(st.lists(_reports, max_size=40))
        def check(reports: list[Mapping[str, object]]) -> None:
            bench = Bench(self)
            candidates = bench.candidates("a", "b")
            for report in reports:
                outcome = fakes.outcome(**report)  # type: ignore[arg-type]  # Outcome fields
                for candidate in candidates:
                    if candidate.name == outcome.backend:
                        candidate.observe(outcome)
                returned: object = bench.algorithm.observe(outcome)  # type: ignore[func-returns-value]  # that is the check
                assert returned is None, "observe must return nothing"
                bench.choose(candidates)

        check()

    def test_backends_may_come_and_go(self) -> None:
        """The candidates may differ from call to call."""

        @_examples
        @given(st.lists(st.sets(st.sampled_from("abcdef"), min_size=1), max_size=30))
        def check(rounds: list[set[str]]) -> None:
            bench = Bench(self)
            known = {each.name: each for each in bench.candidates(*"abcdef")}
            for names in rounds:
                choice = bench.choose([known[name] for name in sorted(names)])
                bench.finish(choice.candidate, choice)

        check()

    def test_is_reproducible_with_the_same_seed(self) -> None:
        """Chance comes from the context alone."""

        def picks() -> list[str]:
            bench = Bench(self, seed=7)
            candidates = bench.candidates(*(f"b{i}" for i in range(8)))
            names = []
            for _ in range(100):
                choice = bench.choose(candidates)
                bench.finish(choice.candidate, choice)
                names.append(choice.candidate.name)
            return names

        assert picks() == picks(), "the same seed gave different choices"

    def test_memory_stays_bounded(self) -> None:
        """Distinct questions, sessions and requests leave nothing behind."""
        bench = Bench(self)
        candidates = bench.candidates("a", "b", "c")
        sizes = []
        for request in range(10_000):
            kind = f"kind {request % 200}"
            bench.query = attrs.evolve(
                bench.query, text=f"question {request}", kind=kind, session=f"{request}"
            )
            choice = bench.choose(candidates)
            bench.clock.advance(0.1)
            bench.finish(choice.candidate, choice, kind=kind)
            if request in (4_999, 9_999):
                sizes.append(state_bytes(bench.algorithm))
        assert sizes[1] <= sizes[0] * 1.1 + 1024, (
            f"state grew from {sizes[0]} to {sizes[1]} bytes in 5,000 requests"
        )
        assert sizes[1] <= _STATE_LIMIT_BYTES, f"state holds {sizes[1]} bytes"


def _same(one: object, other: object) -> bool:
    return one is other


def _frozen(candidate: Candidate) -> tuple[object, ...]:
    """Return everything that can be changed about a candidate."""
    values: list[object] = []
    for field in attrs.fields(Candidate):
        value = getattr(candidate, field.name)
        if isinstance(value, Decayed):
            value = (value.mass, value.value)
        values.append(value)
    return tuple(values)


@attrs.frozen
class _State:
    """Live state of a candidate, from untouched to absurd."""

    weight: float
    in_flight: int
    health: Health
    served: int
    error: float | None
    latency_s: float | None
    quality: float | None
    cost_micro_usd: int | None

    def apply(self, candidate: Candidate) -> None:
        candidate.weight = self.weight
        candidate.in_flight = self.in_flight
        candidate.health = self.health
        candidate.served = self.served
        now_s = candidate.now()
        if self.error is not None:
            candidate.success.add(1.0 - self.error, now_s)
        if self.latency_s is not None:
            candidate.latency.add(self.latency_s, now_s)
            candidate.ttft.add(self.latency_s, now_s)
        if self.quality is not None:
            candidate.quality.add(self.quality, now_s)
        if self.cost_micro_usd is not None:
            candidate.cost.add(self.cost_micro_usd, now_s)


_states = st.builds(
    _State,
    weight=st.sampled_from([0.0, 1e-6, 1.0, 5.0, 1e6]),
    in_flight=st.sampled_from([0, 1, 64, 10**6]),
    health=st.sampled_from(get_args(Health)),
    served=st.sampled_from([0, 1, 10**9]),
    error=st.sampled_from([None, 0.0, 1.0]),
    latency_s=st.sampled_from([None, 0.0, 0.2, 1e9]),
    quality=st.sampled_from([None, 0.0, 1.0]),
    cost_micro_usd=st.sampled_from([None, 0, 1000, 10**12]),
)
_reports = st.fixed_dictionaries(
    {
        "backend": st.sampled_from(["a", "b", "never seen"]),
        "result": st.sampled_from(get_args(Result)),
        "kind": st.sampled_from(["", "general", "unheard of"]),
        "at_s": st.floats(500.0, 1500.0),
        "latency_s": st.sampled_from([0.0, 0.1, 1e6]),
        "ttft_s": st.sampled_from([None, 0.0, 0.05, 1e6]),
        "usage": st.sampled_from([None, Usage(), Usage(10, 10**9)]),
        "cost_micro_usd": st.sampled_from([None, 0, 10**12]),
        "quality": st.sampled_from([None, 0.0, 1.0]),
        "error": st.sampled_from(["", "backend_busy", "backend_error"]),
        "probability": st.sampled_from([1e-9, 0.5, 1.0]),
        "via": st.sampled_from(["", "no such algorithm"]),
    }
)

__all__ = ["AlgorithmContract", "Bench", "state_bytes"]
