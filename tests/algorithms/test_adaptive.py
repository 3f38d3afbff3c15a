from __future__ import annotations

import math
import random
from collections import Counter, deque
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plb_contrib_algorithms.adaptive import (
    Adaptive,
    Settings,
    plb_register_algorithm,
)
from plb_contrib_algorithms.arms import chances_of_best
from plb_core import (
    AlgorithmFailed,
    BuildContext,
    Candidate,
    Choice,
    ConfigError,
    Outcome,
    Query,
    Rating,
)
from plb_core.protocols import Algorithm
from plb_core.testing import fakes
from plb_core.testing.contracts import AlgorithmContract

QUERY = Query("What are metabolic pathways?", kind="general")
TWO = Settings(algorithms=("a", "b"))
PAIR = (fakes.candidate("x"), fakes.candidate("y"))


class Evenly:
    """Draws a candidate evenly."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.seen: list[Outcome] = []
        self.rated: list[Rating] = []

    def choose(self, query: Query, candidates: Sequence[Candidate]) -> Choice:
        share = 1.0 / len(candidates)
        return Choice(self.rng.choice(candidates), share, [share] * len(candidates))

    def observe(self, outcome: Outcome) -> None:
        self.seen = [outcome]

    def rate(self, rating: Rating) -> None:
        self.rated.append(rating)


class Always:
    """Takes the candidate at one position; learns nothing."""

    def __init__(self, position: int) -> None:
        self.position = position

    def choose(self, query: Query, candidates: Sequence[Candidate]) -> Choice:
        return Choice(candidates[min(self.position, len(candidates) - 1)])

    def observe(self, outcome: Outcome) -> None:
        pass


class TestAdaptive(AlgorithmContract):
    provider = plb_register_algorithm()

    def context(self, clock: fakes.FakeClock, seed: int) -> BuildContext:
        return fakes.context(now=clock, seed=seed, algorithm=lambda _: Evenly(seed))


class TestAdaptiveOverFixedChoices(AlgorithmContract):
    provider = plb_register_algorithm()
    settings = Settings(algorithms=("0", "1", "2"), exploration=0.1)
    worse_outcome = MappingProxyType({"quality": 0.2})

    def context(self, clock: fakes.FakeClock, seed: int) -> BuildContext:
        return fakes.context(
            now=clock, seed=seed, algorithm=lambda name: ByName("abn"[int(name)], seed)
        )

    def test_shares_ties_fairly(self) -> None:  # type: ignore[override]  # the inner algorithms are fixed: it is they that share
        algorithm = make(seed=3)
        counts: Counter[str] = Counter()
        for _ in range(600):
            choice = algorithm.choose(QUERY, PAIR)
            counts[choice.via] += 1
            teach(algorithm, choice.via, 1)
        assert min(counts["a"], counts["b"]) > 200


class ByName(Evenly):
    """Takes the candidate of one name, else any."""

    def __init__(self, name: str, seed: int) -> None:
        super().__init__(seed)
        self.name = name

    def choose(self, query: Query, candidates: Sequence[Candidate]) -> Choice:
        for each in candidates:
            if each.name.startswith(self.name):
                return Choice(each)
        return super().choose(query, candidates)


def make(settings: Settings = TWO, *, seed: int = 0, **facts: object) -> Adaptive:
    inner: dict[str, Algorithm] = {
        name: Always(index) for index, name in enumerate(settings.algorithms)
    }
    context = fakes.context(
        "adaptive",
        seed=seed,
        algorithm=inner.__getitem__,
        **facts,  # type: ignore[arg-type]  # context fields
    )
    return Adaptive(settings, context)


def teach(
    algorithm: Adaptive, via: str, times: int, *, kind: str = "general", **facts: object
) -> None:
    values = {"latency_s": 0.0, "cost_micro_usd": 0, "quality": 0.7, **facts}
    for _ in range(times):
        algorithm.observe(
            fakes.outcome("x", algorithm="adaptive", via=via, kind=kind, **values)  # type: ignore[arg-type]  # Outcome fields
        )


def shares(algorithm: Adaptive, kind: str = "general") -> dict[str, float]:
    known = algorithm._kind(kind)
    algorithm._refresh(known)
    return dict(zip(algorithm.names, known.shares, strict=True))


def test_knowing_nothing_every_algorithm_gets_an_equal_share() -> None:
    settings = Settings(algorithms=("a", "b", "c", "d"))
    algorithm = make(settings)
    assert list(shares(algorithm).values()) == pytest.approx([0.25] * 4)


def test_worked_example_of_better_answers() -> None:
    algorithm = make()
    teach(algorithm, "a", 200, quality=0.9)
    teach(algorithm, "b", 200, quality=0.6)
    assert shares(algorithm) == pytest.approx({"a": 0.99, "b": 0.01}, abs=0.001)


def test_worked_example_of_answers_that_nobody_judged() -> None:
    algorithm = make()
    teach(algorithm, "a", 200, quality=None)
    assert shares(algorithm)["a"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    "worse",
    [
        {"quality": 0.4},
        {"cost_micro_usd": 40_000},
        {"latency_s": 40.0},
        {"result": "error"},
        {"result": "no_answer"},
        {"result": "truncated", "error": "bad_answer"},
    ],
)
def test_every_part_of_the_utility_counts(worse: dict[str, Any]) -> None:
    algorithm = make()
    for _ in range(100):
        teach(algorithm, "a", 1)
        teach(algorithm, "b", 1, **worse)
    assert shares(algorithm)["a"] > 0.95


def test_penalties_are_per_dollar_and_per_second() -> None:
    indifferent = Settings(
        algorithms=("a", "b"), cost_penalty_per_usd=5.0, latency_penalty_per_s=0.05
    )
    algorithm = make(indifferent)
    for _ in range(300):
        teach(algorithm, "a", 1, cost_micro_usd=20_000)  # 0.02 USD: 0.1
        teach(algorithm, "b", 1, latency_s=2.0)  # 2 s: 0.1
    assert shares(algorithm)["a"] == pytest.approx(0.5, abs=0.02)


def test_a_missing_quality_is_never_learned_as_zero() -> None:
    judged, partly = make(), make()
    for _ in range(60):
        for algorithm in (judged, partly):
            teach(algorithm, "a", 1, quality=0.8)
            teach(algorithm, "b", 1, quality=0.6)
        teach(partly, "a", 3, quality=None)
    assert shares(partly)["a"] > 0.9
    mean = partly._kind("general").arms[0].means[1].value
    assert mean == pytest.approx(0.8)


@pytest.mark.parametrize("result", ["cancelled", "truncated"])
def test_a_client_that_leaves_only_ends_the_wait(result: str) -> None:
    algorithm = make()
    choice = algorithm.choose(QUERY, PAIR)
    before = shares(algorithm)
    teach(algorithm, choice.via, 1, result=result)
    kind = algorithm._kind("general")
    assert kind.tick == 0.0
    assert kind.pending == [0.0, 0.0]
    assert shares(algorithm) == pytest.approx(before, abs=0.01)


@pytest.mark.parametrize(
    "facts", [{"via": "z"}, {"via": ""}, {"algorithm": "round_robin", "via": "a"}]
)
def test_outcomes_of_other_choices_are_not_credited(facts: dict[str, str]) -> None:
    algorithm = make()
    algorithm.observe(fakes.outcome("x", quality=0.9, **facts))  # type: ignore[arg-type]  # Outcome fields
    assert algorithm.tick == 0.0


def test_says_which_algorithm_chose_and_with_what_probability() -> None:
    inner: dict[str, Algorithm] = {"a": Evenly(), "b": Always(1)}
    algorithm = Adaptive(TWO, fakes.context("adaptive", algorithm=inner.__getitem__))
    teach(algorithm, "a", 40, quality=0.9)
    teach(algorithm, "b", 40, quality=0.7)
    expected = {"a": shares(algorithm)["a"] / 2, "b": shares(algorithm)["b"]}
    choices = [algorithm.choose(QUERY, PAIR) for _ in range(20)]
    for choice in choices:
        assert choice.probability == pytest.approx(expected[choice.via])
    assert {choice.via for choice in choices} <= {"a", "b"}


def test_draws_follow_the_stated_probabilities() -> None:
    algorithm = make()
    teach(algorithm, "a", 30, quality=0.75)
    teach(algorithm, "b", 30, quality=0.70)
    counts: Counter[str] = Counter()
    expected = 0.0
    for _ in range(3000):
        choice = algorithm.choose(QUERY, PAIR)
        teach(algorithm, choice.via, 1, result="cancelled")
        share = choice.probability
        expected += share if choice.via == "a" else 1.0 - share
        counts[choice.via] += 1
    assert abs(counts["a"] - expected) < 5 * math.sqrt(3000 * 0.25)


def test_the_exploration_floor_holds_for_a_hopeless_algorithm() -> None:
    algorithm = make()
    teach(algorithm, "a", 500, quality=1.0)
    teach(algorithm, "b", 500, result="error", latency_s=1e6, cost_micro_usd=10**12)
    assert shares(algorithm)["b"] == pytest.approx(0.01)


def test_choices_still_out_count_so_a_delay_does_not_stampede() -> None:
    algorithm = make()
    teach(algorithm, "a", 60, quality=0.75)
    before = shares(algorithm)
    kind = algorithm._kind("general")
    for _ in range(200):
        algorithm.choose(QUERY, PAIR)
    assert kind.shares[1] < before["b"]
    assert sum(kind.pending) == pytest.approx(200)


def test_choices_that_never_became_attempts_fade() -> None:
    clock = fakes.FakeClock()
    algorithm = make(now=clock)
    for _ in range(100):
        algorithm.choose(QUERY, PAIR)
    clock.advance(600.0)
    shares(algorithm)
    assert sum(algorithm._kind("general").pending) < 0.2


def test_kinds_are_learned_apart_and_new_ones_start_from_what_is_usual() -> None:
    algorithm = make()
    teach(algorithm, "a", 100, quality=0.9, kind="graph")
    teach(algorithm, "b", 100, quality=0.5, kind="graph")
    teach(algorithm, "a", 100, quality=0.3, kind="live")
    teach(algorithm, "b", 100, quality=0.6, kind="live")
    assert shares(algorithm, "graph")["a"] > 0.97
    assert shares(algorithm, "live")["a"] < 0.03
    assert 0.4 < shares(algorithm, "new")["a"] < 0.9


def test_a_rating_is_credited_to_the_algorithm_that_chose() -> None:
    inner: dict[str, Algorithm] = {"a": Evenly(), "b": Always(1)}
    algorithm = Adaptive(TWO, fakes.context("adaptive", algorithm=inner.__getitem__))
    good = Rating("r", "x", "adaptive", "general", {"user": 1.0}, via="b")
    poor = Rating("r", "x", "adaptive", "general", {"user": 0.5}, via="a")
    foreign = Rating("r", "x", "round_robin", "general", {"user": 0.0}, via="b")
    unknown = Rating("r", "x", "adaptive", "general", {"user": 0.0}, via="z")
    for _ in range(50):
        for rating in (good, poor, foreign, unknown):
            algorithm.rate(rating)
    assert shares(algorithm)["b"] > 0.9


def test_leaves_it_to_the_core_to_let_inner_algorithms_observe() -> None:
    # The core hands every outcome to all algorithms a track is composed of, once each.
    inner = {"a": Evenly(), "b": Evenly()}
    algorithm = Adaptive(TWO, fakes.context("adaptive", algorithm=inner.__getitem__))
    teach(algorithm, "a", 1)
    algorithm.rate(Rating("r", "x", "adaptive", "general", {"user": 1.0}, via="a"))
    assert [each.seen + each.rated for each in inner.values()] == [[], []]


def test_a_failing_inner_algorithm_is_not_hidden() -> None:
    class Broken(Always):
        def choose(self, query: Query, candidates: Sequence[Candidate]) -> Choice:
            raise AlgorithmFailed("inner", f"broken for {query.kind} {len(candidates)}")

    algorithm = Adaptive(TWO, fakes.context(algorithm=lambda _: Broken(0)))
    with pytest.raises(AlgorithmFailed, match="broken"):
        algorithm.choose(QUERY, PAIR)
    assert algorithm._kind("general").pending == [0.0, 0.0]


def test_kinds_beyond_the_limit_share_one_entry() -> None:
    algorithm = make()
    for index in range(300):
        teach(algorithm, "a", 1, kind=f"kind {index}")
    assert len(algorithm.kinds) == 65


def test_adopts_what_is_known_of_algorithms_still_in_the_list() -> None:
    old = make(Settings(algorithms=("a", "b", "c")))
    teach(old, "a", 50, quality=0.5)
    teach(old, "b", 50, quality=0.9)
    teach(old, "c", 50, quality=0.1)
    teach(old, "c", 1, quality=None, kind="never judged")
    new = make(Settings(algorithms=("d", "b", "a")))
    new.adopt(old)
    taken = shares(new)
    assert taken["b"] > 0.5 > taken["d"] > taken["a"]
    assert new.tick == old.tick
    same = make(Settings(algorithms=("a", "b", "c")))
    same.adopt(old)
    assert shares(same) == pytest.approx(shares(old))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "at least two"),
        (("a",), "at least two"),
        (("a", "b", "a"), "named twice"),
        (("a", "adaptive"), "cannot choose itself"),
    ],
)
def test_impossible_lists_are_refused_with_their_key(
    names: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make(Settings(algorithms=names))
    (problem,) = caught.value.problems
    assert problem.key == "algorithm.adaptive.algorithms"
    assert said in problem.message


@pytest.mark.parametrize(
    ("means", "deviations", "expected"),
    [
        ((0.5, 0.5), (0.1, 0.1), (0.5, 0.5)),
        ((0.6, 0.5), (0.1, 0.1), (0.7602, 0.2398)),  # Φ(1/√2)
        ((0.6, 0.5), (0.01, 0.2), (0.6914, 0.3086)),
        ((0.5, 0.5, 0.5), (0.1, 0.1, 0.1), (1 / 3, 1 / 3, 1 / 3)),
        ((0.9, 0.1, 0.1), (0.01, 0.01, 0.01), (1.0, 0.0, 0.0)),
        ((-100.0, 0.5), (0.1, 0.1), (0.0, 1.0)),
    ],
)
def test_chances_of_being_the_largest(
    means: tuple[float, ...],
    deviations: tuple[float, ...],
    expected: tuple[float, ...],
) -> None:
    assert chances_of_best(means, deviations) == pytest.approx(expected, abs=0.01)


_normal = st.tuples(st.floats(-100, 1), st.floats(1e-4, 0.3))


@given(st.lists(_normal, min_size=1, max_size=8))
def test_chances_are_a_distribution(pairs: list[tuple[float, float]]) -> None:
    chances = chances_of_best([m for m, _ in pairs], [d for _, d in pairs])
    assert sum(chances) == pytest.approx(1.0)
    assert all(chance >= 0.0 for chance in chances)


class World:
    """Three algorithms of known worth; answers arrive after `delay` more requests."""

    def __init__(self, seed: int, delay: int) -> None:
        self.rng = random.Random(seed)
        self.algorithm = make(Settings(algorithms=("a", "b", "c")), seed=seed)
        self.candidates = tuple(fakes.candidate(name) for name in "xyz")
        self.waiting: deque[Outcome] = deque()
        self.delay = delay

    def run(self, requests: int, worth: dict[str, float]) -> Counter[str]:
        counts: Counter[str] = Counter()
        for _ in range(requests):
            choice = self.algorithm.choose(QUERY, self.candidates)
            counts[choice.via] += 1
            noisy = worth[choice.via] + self.rng.uniform(-0.3, 0.3)
            quality = min(1.0, max(0.0, noisy))
            self.waiting.append(
                fakes.outcome(
                    choice.candidate.name,
                    quality=quality if self.rng.random() < 0.5 else None,
                    algorithm="adaptive",
                    via=choice.via,
                    cost_micro_usd=1000,
                )
            )
            if len(self.waiting) > self.delay:
                self.algorithm.observe(self.waiting.popleft())
        return counts


@pytest.mark.parametrize("delay", [0, 100])
@pytest.mark.parametrize("seed", range(5))
def test_finds_the_best_algorithm_and_follows_a_change(seed: int, delay: int) -> None:
    # Half of the answers are never judged; the gaps are a third of the noise's range.
    world = World(seed, delay)
    world.run(1500, {"a": 0.5, "b": 0.7, "c": 0.6})
    found = world.run(500, {"a": 0.5, "b": 0.7, "c": 0.6})
    assert found["b"] > 0.75 * 500
    world.run(2500, {"a": 0.7, "b": 0.5, "c": 0.6})
    followed = world.run(500, {"a": 0.7, "b": 0.5, "c": 0.6})
    assert followed["a"] > 0.75 * 500
