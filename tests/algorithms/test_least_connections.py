import random
from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from typing import ClassVar

import pytest

from plb_contrib_algorithms.least_connections import (
    LeastConnections,
    plb_register_algorithm,
)
from plb_core import Candidate, NoSettings, Query
from plb_core.testing import fakes
from plb_core.testing.contracts import AlgorithmContract

QUERY = Query("?")
PROVIDER = plb_register_algorithm()


def build(seed: int = 0) -> LeastConnections:
    return LeastConnections(NoSettings(), fakes.context(seed=seed))


def loaded(*loads: str) -> list[Candidate]:
    made = []
    for name, load in zip("abcdefgh", loads, strict=False):
        in_flight, weight = load.split("/")
        made.append(
            fakes.candidate(name, in_flight=int(in_flight), weight=float(weight))
        )
    return made


class TestLeastConnections(AlgorithmContract):
    provider = PROVIDER
    worse_state: ClassVar = {"in_flight": 3}


class TestByWeight(AlgorithmContract):
    provider = PROVIDER
    worse_state: ClassVar = {"weight": 0.5}


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        (("2/1", "1/1", "3/1"), {"b": 1.0}),
        (("4/4", "2/1"), {"a": 1.0}),
        (("1/1", "1/1", "9/1"), {"a": 0.5, "b": 0.5}),
        (("0/3", "0/1"), {"a": 0.75, "b": 0.25}),
        (("9/1", "0/0"), {"a": 1.0}),
        (("2/0", "1/0"), {"b": 1.0}),
        (("1/0", "1/0"), {"a": 0.5, "b": 0.5}),
        (("5/1",), {"a": 1.0}),
    ],
)
def test_follows_the_worked_examples(
    loads: tuple[str, ...], expected: dict[str, float]
) -> None:
    algorithm = build()
    seen: dict[str, float] = {}
    for _ in range(60):
        choice = algorithm.choose(QUERY, loaded(*loads))
        seen[choice.candidate.name] = choice.probability
    assert seen == expected


def test_finds_the_emptiest_of_five_in_any_order() -> None:
    candidates = loaded("30/1", "20/1", "10/1", "50/1", "40/1")
    algorithm = build()
    shuffle = random.Random(2).shuffle
    for _ in range(50):
        shuffle(candidates)
        assert algorithm.choose(QUERY, candidates).candidate.name == "c"


def chance(costs: list[int], index: int) -> float:
    """Count out every pair; a tie is half a win."""
    pairs = list(combinations(range(len(costs)), 2))
    won = 0.0
    for pair in pairs:
        if index in pair:
            other = pair[0] if pair[1] == index else pair[1]
            won += (costs[index] < costs[other]) + 0.5 * (costs[index] == costs[other])
    return won / len(pairs)


@pytest.mark.parametrize("in_flights", [range(8), [0] * 8, [3, 1, 3, 1, 0, 3, 1, 9]])
def test_tells_the_honest_probability_of_two_choices(in_flights: Iterable[int]) -> None:
    costs = list(in_flights)
    candidates = [fakes.candidate(f"b{i}", in_flight=n) for i, n in enumerate(costs)]
    algorithm = build()
    counts: Counter[int] = Counter()
    for _ in range(4000):
        choice = algorithm.choose(QUERY, candidates)
        index = candidates.index(choice.candidate)
        assert choice.probability == pytest.approx(chance(costs, index))
        counts[index] += 1
    for index in range(8):
        assert counts[index] / 4000 == pytest.approx(chance(costs, index), abs=0.04)


def test_estimates_the_probability_above_32_candidates() -> None:
    candidates = [fakes.candidate(f"b{i}", in_flight=i // 2) for i in range(40)]
    costs = [each.in_flight for each in candidates]
    algorithm = build()
    errors = []
    for _ in range(2000):
        choice = algorithm.choose(QUERY, candidates)
        assert 0.0 < choice.probability <= 2.0 / 40
        assert not choice.scores
        index = candidates.index(choice.candidate)
        errors.append(choice.probability - chance(costs, index))
    assert sum(errors) / len(errors) == pytest.approx(0.0, abs=0.003)


@pytest.mark.parametrize("count", [7, 40])
def test_never_chooses_weight_zero_among_many(count: int) -> None:
    candidates = [fakes.candidate(f"b{i}", in_flight=5) for i in range(count)]
    for each in candidates[1:]:
        each.in_flight = 0
        each.weight = 0.0
    algorithm = build()
    for _ in range(30):
        choice = algorithm.choose(QUERY, candidates)
        assert choice.candidate is candidates[0]
        assert choice.probability == 1.0


def test_draws_two_among_many_usable_ones_beside_a_weightless_one() -> None:
    candidates = [fakes.candidate(f"b{i}") for i in range(8)]
    candidates[0].weight = 0.0
    algorithm = build()
    names = {algorithm.choose(QUERY, candidates).candidate.name for _ in range(100)}
    assert names == {f"b{i}" for i in range(1, 8)}


def test_treats_all_weights_zero_as_equal() -> None:
    candidates = [fakes.candidate(f"b{i}", in_flight=i, weight=0.0) for i in range(7)]
    assert build().choose(QUERY, candidates).candidate.name == "b0"


def test_an_overloaded_backend_of_many_is_never_chosen() -> None:
    candidates = [fakes.candidate(f"b{i}") for i in range(9)]
    candidates[4].in_flight = 1000
    algorithm = build()
    for _ in range(200):
        assert algorithm.choose(QUERY, candidates).candidate.name != "b4"
