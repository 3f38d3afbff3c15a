from collections import Counter
from typing import ClassVar

import attrs
import pytest

from plb_contrib_algorithms.health_aware import (
    HealthAware,
    HealthAwareSettings,
    plb_register_algorithm,
)
from plb_core import BackendInfo, Query
from plb_core.testing import fakes
from plb_core.testing.contracts import AlgorithmContract
from plb_core.types import Health, Result

QUERY = Query("?")
State = tuple[int, int, Health, int]
ANSWER: tuple[Result] = ("answer",)
ERROR: tuple[Result] = ("error",)
PROVIDER = plb_register_algorithm()


class Stage:
    def __init__(
        self, *, backends: str = "", count: int = 2, served: int = 20, **settings: float
    ) -> None:
        self.clock = fakes.FakeClock()
        infos = [BackendInfo(name, "fake") for name in backends]
        self.algorithm = HealthAware(
            HealthAwareSettings(**settings),  # type: ignore[arg-type]  # test shorthand
            fakes.context(now=self.clock, backends=infos),
        )
        self.candidates = [fakes.candidate(name) for name in "abcdef"[:count]]
        for each in self.candidates:
            each.served = served

    def see(self, name: str, *results: Result, error: str | None = None) -> None:
        for result in results:
            facts = {} if error is None else {"error": error}
            outcome = fakes.outcome(name, result=result, **facts)  # type: ignore[arg-type]  # test shorthand
            self.algorithm.observe(outcome)

    def shares(self) -> list[float]:
        choice = self.algorithm.choose(QUERY, self.candidates)
        total = sum(choice.scores)
        shares = [score / total for score in choice.scores]
        index = self.candidates.index(choice.candidate)
        assert choice.probability == pytest.approx(shares[index])
        return shares


class TestHealthAware(AlgorithmContract):
    provider = PROVIDER
    worse_outcome: ClassVar = {"result": "error"}


class TestByHealth(AlgorithmContract):
    provider = PROVIDER
    worse_state: ClassVar = {"health": "degraded"}


class TestByWeight(AlgorithmContract):
    provider = PROVIDER
    worse_state: ClassVar = {"weight": 0.5}


@pytest.mark.parametrize(
    ("a", "b", "share"),
    [
        ((0, 0, "healthy", 0), (0, 0, "healthy", 0), 0.5),
        ((8, 8, "healthy", 20), (0, 8, "healthy", 20), 0.9987),
        ((0, 0, "degraded", 20), (0, 0, "healthy", 20), 0.2308),
        ((0, 0, "healthy", 4), (0, 0, "healthy", 20), 0.2),
        ((0, 0, "unhealthy", 20), (0, 0, "degraded", 20), 0.5),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_follows_the_worked_examples(
    a: State, b: State, share: float, swapped: bool
) -> None:
    stage = Stage()
    for each, (successes, attempts, health, served) in zip(
        stage.candidates, (a, b), strict=True
    ):
        stage.see(each.name, *ANSWER * successes)
        stage.see(each.name, *ERROR * (attempts - successes))
        each.health = health
        each.served = served
    if swapped:
        stage.candidates.reverse()
    shares = stage.shares()
    assert shares[1 if swapped else 0] == pytest.approx(share, abs=0.0001)


def test_draws_in_proportion_to_the_scores() -> None:
    stage = Stage()
    stage.candidates[0].weight = 3.0
    counts = Counter(
        stage.algorithm.choose(QUERY, stage.candidates).candidate.name
        for _ in range(4000)
    )
    assert counts["a"] / 4000 == pytest.approx(0.75, abs=0.04)


def test_forgets_failures_with_time() -> None:
    stage = Stage(half_life_s=300.0)
    stage.see("a", *("error",) * 10)
    shares = []
    for _ in range(5):
        shares.append(stage.shares()[0])
        stage.clock.advance(900.0)
    assert shares == sorted(shares)
    assert shares[0] < 0.002
    assert shares[-1] > 0.4


def test_halves_what_it_knows_in_one_half_life() -> None:
    stage = Stage(half_life_s=300.0, sharpness=1.0)
    stage.see("a", *("error",) * 4)
    stage.clock.advance(300.0)
    expected = (1.9 / 4.0) / (1.9 / 4.0 + 0.95)
    assert stage.shares()[0] == pytest.approx(expected)
    stage.clock.advance(300.0)
    stage.see("b", "error")
    rates = 1.9 / 3.0, 1.9 / 3.0
    assert stage.shares()[0] == pytest.approx(rates[0] / sum(rates))


def test_an_honest_no_answer_is_a_success() -> None:
    stage = Stage()
    stage.see("a", *("no_answer",) * 9)
    assert stage.shares()[0] > 0.5


@pytest.mark.parametrize(
    ("result", "error"),
    [("cancelled", ""), ("truncated", ""), ("error", "backend_busy")],
)
def test_learns_nothing_from_what_says_nothing(result: Result, error: str) -> None:
    stage = Stage()
    stage.see("a", *(result,) * 9, error=error)
    assert stage.shares() == [0.5, 0.5]


def test_a_cut_answer_is_a_failure() -> None:
    stage = Stage()
    stage.see("a", "truncated", error="bad_answer")
    assert stage.shares()[0] < 0.5


def test_slow_start_ramps_by_answers_served() -> None:
    stage = Stage(slow_start_requests=10, slow_start_floor=0.2)
    ramp = []
    for served in (0, 1, 4, 9, 10, 50):
        stage.candidates[0].served = served
        share = stage.shares()[0]
        ramp.append(share / (1.0 - share))
    assert ramp == pytest.approx([0.2, 0.2, 0.5, 1.0, 1.0, 1.0])


def test_no_slow_start_while_everybody_is_cold() -> None:
    stage = Stage(served=0)
    stage.candidates[0].served = 7
    assert stage.shares() == [0.5, 0.5]


def test_slow_start_can_be_switched_off() -> None:
    stage = Stage(slow_start_requests=0)
    stage.candidates[0].served = 0
    assert stage.shares() == [0.5, 0.5]


def test_unknown_health_counts_as_healthy() -> None:
    stage = Stage()
    stage.candidates[0].health = "unknown"
    assert stage.shares() == [0.5, 0.5]


def test_sends_nothing_to_an_unhealthy_backend_while_others_are_well() -> None:
    stage = Stage(count=3)
    stage.candidates[1].health = "unhealthy"
    assert stage.shares() == [0.5, 0.0, 0.5]


def test_panics_below_the_share_and_still_counts_real_failures() -> None:
    stage = Stage(count=3)
    stage.candidates[0].health = "unhealthy"
    stage.candidates[1].health = "unhealthy"
    stage.see("b", *("error",) * 10)
    shares = stage.shares()
    assert shares[0] == pytest.approx(shares[2])
    assert shares[1] < 0.01


def test_believes_the_checks_without_a_panic_share() -> None:
    stage = Stage(count=3, panic_share=0.0)
    stage.candidates[0].health = "unhealthy"
    stage.candidates[1].health = "unhealthy"
    assert stage.shares() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("panic_share", [0.0, 0.5])
def test_chooses_somebody_when_all_are_unhealthy(panic_share: float) -> None:
    stage = Stage(panic_share=panic_share)
    for each in stage.candidates:
        each.health = "unhealthy"
    assert stage.shares() == [0.5, 0.5]


def test_weight_zero_gets_nothing_unless_all_are_zero() -> None:
    stage = Stage()
    stage.candidates[0].weight = 0.0
    assert stage.shares() == [0.0, 1.0]
    stage.candidates[1].weight = 0.0
    assert stage.shares() == [0.5, 0.5]


def test_adopts_the_counts_of_configured_backends_only() -> None:
    before = Stage()
    before.see("a", *("error",) * 6)
    before.see("gone", "error")
    after = Stage(backends="ab")
    after.algorithm.adopt(before.algorithm)
    assert after.shares() == pytest.approx(before.shares())
    assert sorted(after.algorithm.__dict__["_counts"]) == ["a"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("half_life_s", 0.0),
        ("sharpness", -1.0),
        ("degraded_share", 1.5),
        ("slow_start_requests", -1),
        ("slow_start_floor", -0.1),
        ("panic_share", 2.0),
    ],
)
def test_refuses_a_setting_out_of_range(field: str, value: float) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        attrs.evolve(HealthAwareSettings(), **{field: value})  # type: ignore[arg-type]  # by name
