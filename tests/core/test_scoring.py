from __future__ import annotations

from collections import Counter

import pytest

from plb_core import AlgorithmFailed, Query, ScoringAlgorithm
from plb_core.candidate import Candidate
from plb_core.testing.contracts import AlgorithmContract
from plb_core.testing.fakes import candidate, context
from plb_core.types import Outcome


class ByWeight(ScoringAlgorithm):
    def score(self, query: Query, candidate: Candidate) -> float:
        return candidate.weight


class TestByWeight(AlgorithmContract):
    def make(self, context: object) -> ByWeight:
        return ByWeight(context)  # type: ignore[arg-type]


QUERY = Query("q")


def test_the_highest_score_wins_with_certainty() -> None:
    low, high = candidate("low", weight=1.0), candidate("high", weight=2.0)
    choice = ByWeight(context()).choose(QUERY, (low, high))
    assert choice.candidate is high
    assert choice.probability == 1.0
    assert list(choice.scores) == [1.0, 2.0]


def test_ties_are_drawn_evenly_and_say_so() -> None:
    algorithm = ByWeight(context())
    three = [candidate(name) for name in "abc"]
    choices = [algorithm.choose(QUERY, three) for _ in range(900)]
    counts = Counter(choice.candidate.name for choice in choices)
    assert all(count > 200 for count in counts.values())
    assert {choice.probability for choice in choices} == {1 / 3}


def test_exploration_reaches_everyone_with_honest_probabilities() -> None:
    algorithm = ByWeight(context())
    algorithm.exploration = 0.5
    two = (candidate("low", weight=1.0), candidate("high", weight=2.0))
    choices = [algorithm.choose(QUERY, two) for _ in range(2000)]
    shares = Counter(choice.candidate.name for choice in choices)
    assert shares["low"] / 2000 == pytest.approx(0.25, abs=0.05)
    by_name = {choice.candidate.name: choice.probability for choice in choices}
    assert by_name == {"low": 0.25, "high": 0.75}


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_no_number_names_the_backend(weight: float) -> None:
    odd = candidate("odd", weight=weight)
    with pytest.raises(AlgorithmFailed, match="score of backend 'odd'"):
        ByWeight(context()).choose(QUERY, (candidate("even"), odd))


def test_scores_too_large_to_compare_are_refused() -> None:
    huge = [candidate(name, weight=1.7e308) for name in "ab"]
    with pytest.raises(AlgorithmFailed, match="too large"):
        ByWeight(context()).choose(QUERY, huge)


def test_learning_is_optional() -> None:
    ByWeight(context()).observe(Outcome("r", "a", "t", "x", "k", "answer", 1, 0.0, 0.1))
