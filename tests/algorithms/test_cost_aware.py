from __future__ import annotations

from collections import Counter
from types import MappingProxyType

import pytest

from plb_contrib_algorithms.cost_aware import (
    CostAware,
    Settings,
    plb_register_algorithm,
)
from plb_core import Candidate, Price, Query, Rating
from plb_core.testing import fakes
from plb_core.testing.contracts import AlgorithmContract

QUERY = Query("What are metabolic pathways?", kind="general")
EXACT = Settings(cost_weight_factor=1.0, optimism=0.0, exploration=0.0)


class TestCostAware(AlgorithmContract):
    provider = plb_register_algorithm()
    worse_outcome = MappingProxyType({"result": "error", "error": "backend_error"})

    def candidate(self, name: str, clock: fakes.FakeClock) -> Candidate:
        # The contract's outcomes cost 1,000 micro-USD each; the price table says so.
        return fakes.candidate(name, now=clock, price=Price(request_micro_usd=1000))


class TestCostAwareAvoidsBadAnswers(TestCostAware):
    worse_outcome = MappingProxyType({"quality": 0.2})


class TestCostAwareAvoidsDearAnswers(TestCostAware):
    worse_outcome = MappingProxyType({"cost_micro_usd": 9000})


def make(settings: Settings = EXACT, **facts: object) -> CostAware:
    return CostAware(settings, fakes.context("cost_aware", **facts))  # type: ignore[arg-type]  # context fields


def priced(name: str, micro_usd: int | None) -> Candidate:
    price = None if micro_usd is None else Price(request_micro_usd=micro_usd)
    return fakes.candidate(name, price=price)


PAIR = (priced("a", 1000), priced("b", 1500))


@pytest.mark.parametrize(
    ("observed", "score_a", "taken"),
    [
        ({}, -1000 / 0.76, "a"),
        ({"result": "error"}, -1000 / 0.38, "b"),
        ({"quality": 0.1}, -1000 / 0.39, "b"),
        ({"quality": None}, -1000 / 0.78, "a"),
    ],
)
def test_worked_examples(
    observed: dict[str, object], score_a: float, taken: str
) -> None:
    lasting = Settings(
        cost_weight_factor=1.0,
        optimism=0.0,
        exploration=0.0,
        half_life_observations=1e12,
    )
    algorithm = make(lasting)
    for _ in range(5 if observed else 0):
        algorithm.observe(fakes.outcome("a", **observed))  # type: ignore[arg-type]  # Outcome fields
    choice = algorithm.choose(QUERY, PAIR)
    assert choice.candidate.name == taken
    assert algorithm.score(QUERY, PAIR[0]) == pytest.approx(score_a)
    assert algorithm.score(QUERY, PAIR[1]) == pytest.approx(-1500 / 0.76)
    assert choice.probability == 1.0


def test_a_bad_answer_costs_more_the_less_money_weighs() -> None:
    free_but_poor, dear_but_good = priced("free", 0), priced("dear", 2000)
    taken = {}
    for weight in (1.0, 0.3):
        algorithm = make(Settings(cost_weight_factor=weight, exploration=0.0))
        for _ in range(40):
            algorithm.observe(fakes.outcome("free", quality=0.1))
            algorithm.observe(fakes.outcome("dear", quality=0.9))
        choice = algorithm.choose(QUERY, (free_but_poor, dear_but_good))
        taken[weight] = choice.candidate.name
    assert taken == {1.0: "free", 0.3: "dear"}


def test_money_does_not_count_when_low_cost_is_not_preferred() -> None:
    algorithm = make(Settings(prefer_low_cost=False, exploration=0.0))
    for _ in range(40):
        algorithm.observe(fakes.outcome("a", quality=0.3))
        algorithm.observe(fakes.outcome("b", quality=0.9))
    dear = (priced("a", 1), priced("b", 10**6))
    assert algorithm.choose(QUERY, dear).candidate.name == "b"


def test_observed_costs_outweigh_the_price_table_in_time() -> None:
    algorithm = make()
    candidate = priced("a", 1000)
    for _ in range(5):
        candidate.observe(fakes.outcome("a", cost_micro_usd=3000))
    assert algorithm.expected_micro_usd(candidate) == pytest.approx(2000)
    for _ in range(995):
        candidate.observe(fakes.outcome("a", cost_micro_usd=3000))
    assert algorithm.expected_micro_usd(candidate) == pytest.approx(3000, rel=0.01)


def test_the_price_table_is_read_at_typical_usage() -> None:
    algorithm = make(Settings(typical_input_tokens=2000, typical_output_tokens=100))
    price = Price(1_000_000, 10_000_000, 50, 7)
    candidate = fakes.candidate("a", price=price)
    assert algorithm.expected_micro_usd(candidate) == 2000 + 1000 + 50 + 7


def test_an_unknown_price_is_a_stated_guess_and_a_free_one_is_zero() -> None:
    algorithm = make()
    assert algorithm.expected_micro_usd(priced("unknown", None)) == 5000.0
    assert algorithm.expected_micro_usd(priced("free", 0)) == 0.0


def test_a_changed_price_counts_at_once() -> None:
    algorithm = make()
    assert algorithm.expected_micro_usd(priced("a", 100)) == 100.0
    assert algorithm.expected_micro_usd(priced("a", 200)) == 200.0


@pytest.mark.parametrize(
    ("budget", "taken"),
    [(None, "good"), (2000, "good"), (1999, "mid"), (1000, "mid"), (999, "low"),
     (100, "low"), (99, "low"), (0, "low")],
)  # fmt: skip
def test_the_budget_rules_out_what_would_exceed_it(
    budget: int | None, taken: str
) -> None:
    algorithm = make(Settings(prefer_low_cost=False, exploration=1.0))
    algorithm.exploration = 0.0
    candidates = (priced("low", 100), priced("good", 2000), priced("mid", 1000))
    for _ in range(30):
        algorithm.observe(fakes.outcome("low", quality=0.1))
        algorithm.observe(fakes.outcome("mid", result="error"))
        algorithm.observe(fakes.outcome("mid"))
        algorithm.observe(fakes.outcome("good", quality=0.9))
    query = Query("x", kind="general", budget_micro_usd=budget)
    choice = algorithm.choose(query, candidates)
    assert choice.candidate.name == taken
    assert len(choice.scores) == 3


def test_exploration_stays_within_the_budget() -> None:
    algorithm = make(Settings(exploration=1.0))
    query = Query("x", budget_micro_usd=1200)
    chosen = Counter(algorithm.choose(query, PAIR).candidate.name for _ in range(200))
    assert chosen == {"a": 200}


def test_exploration_keeps_its_share_and_says_so() -> None:
    algorithm = make(Settings(exploration=0.2, cost_weight_factor=1.0))
    choices = [algorithm.choose(QUERY, PAIR) for _ in range(2000)]
    counts = Counter(choice.candidate.name for choice in choices)
    assert 130 < counts["b"] < 270
    probabilities = {each.candidate.name: each.probability for each in choices}
    assert probabilities == pytest.approx({"a": 0.9, "b": 0.1})


def test_nearly_equal_losses_share_the_traffic() -> None:
    algorithm = make()
    candidates = (priced("a", 1000), priced("b", 1009), priced("c", 1100))
    choices = [algorithm.choose(QUERY, candidates) for _ in range(400)]
    counts = Counter(choice.candidate.name for choice in choices)
    assert counts["c"] == 0
    assert min(counts["a"], counts["b"]) > 150
    assert {choice.probability for choice in choices} == {0.5}


def test_a_client_that_leaves_says_nothing_about_the_backend() -> None:
    algorithm = make()
    algorithm.observe(fakes.outcome("a", result="cancelled"))
    algorithm.observe(fakes.outcome("a", result="truncated"))
    assert algorithm.score(QUERY, PAIR[0]) == pytest.approx(-1000 / 0.76)
    algorithm.observe(fakes.outcome("a", result="truncated", error="bad_answer"))
    assert algorithm.score(QUERY, PAIR[0]) < -1000 / 0.76


def test_no_answer_is_not_a_good_answer() -> None:
    algorithm = make()
    algorithm.observe(fakes.outcome("a", result="no_answer"))
    assert algorithm.score(QUERY, PAIR[0]) < -1000 / 0.76


def test_kinds_are_learned_apart() -> None:
    algorithm = make()
    for _ in range(20):
        algorithm.observe(fakes.outcome("a", quality=0.1, kind="news"))
    assert algorithm.choose(QUERY, PAIR).candidate.name == "a"
    assert algorithm.choose(Query("x", kind="news"), PAIR).candidate.name == "b"


def test_a_rating_counts_as_a_judged_answer() -> None:
    rated, scored = make(), make()
    for quality in (0.1, 0.9, 0.4):
        rated.rate(Rating("req_1", "a", "cost_aware", "general", {"user": quality}))
        scored.observe(fakes.outcome("a", quality=quality))
    judged = [each.answers.records["general"]["a"].good for each in (rated, scored)]
    assert judged[0] == judged[1] > 0
    assert rated.answers.records["general"]["a"].tries == 0.0


def test_old_observations_fade() -> None:
    algorithm = make(
        Settings(half_life_observations=10.0, cost_weight_factor=1.0, optimism=0.0)
    )
    for _ in range(200):
        algorithm.observe(fakes.outcome("a", result="error"))
    poor = algorithm.score(QUERY, PAIR[0])
    for _ in range(60):
        algorithm.observe(fakes.outcome("a", quality=1.0))
    assert algorithm.score(QUERY, PAIR[0]) > 0.6 * -1000 / 0.38 > poor


def test_kinds_beyond_the_limit_share_one_entry() -> None:
    algorithm = make()
    for index in range(500):
        algorithm.observe(fakes.outcome("a", result="error", kind=f"kind {index}"))
    assert len(algorithm.answers.records) == 65
    late = algorithm.score(Query("x", kind="kind 499"), PAIR[0])
    assert late < algorithm.score(Query("x", kind="kind 1"), PAIR[0])


def test_adopts_counts_of_backends_that_are_still_configured() -> None:
    old = make()
    for name in ("a", "gone"):
        for _ in range(9):
            old.observe(fakes.outcome(name, quality=0.1))
            old.observe(fakes.outcome(name, result="error"))
    backends = (PAIR[0].info, PAIR[1].info)
    new = make(backends=backends)
    new.adopt(old)
    assert new.score(QUERY, PAIR[0]) == old.score(QUERY, PAIR[0])
    assert new.answers.records["general"].keys() == {"a"}
    new.observe(fakes.outcome("a"))
    assert new.score(QUERY, PAIR[0]) != old.score(QUERY, PAIR[0])


def test_adopting_under_another_bar_forgets_what_was_judged_good() -> None:
    old = make()
    for _ in range(9):
        old.observe(fakes.outcome("a", quality=0.6))
    settings = Settings(
        quality_bar=0.9, cost_weight_factor=1.0, optimism=0.0, exploration=0.0
    )
    new = make(settings, backends=(PAIR[0].info,))
    new.adopt(old)
    record = new.answers.records["general"]["a"]
    assert record.judged == record.good == 0.0
    assert record.answers == old.answers.records["general"]["a"].answers


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("quality_bar", 1.5),
        ("cost_weight_factor", -0.1),
        ("prior_answered", 0.0),
        ("prior_good", 2.0),
        ("prior_strength", 0.0),
        ("bad_answer_micro_usd", -1.0),
        ("typical_searches", -1),
        ("half_life_observations", 0.0),
    ],
)
def test_impossible_settings_are_refused(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        Settings(**{setting: value})  # type: ignore[arg-type]  # the table's values
