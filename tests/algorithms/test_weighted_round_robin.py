import random
from collections import Counter
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from plb_contrib_algorithms.weighted_round_robin import (
    WeightedRoundRobin,
    plb_register_algorithm,
)
from plb_core import BackendInfo, Candidate, NoSettings, Query
from plb_core.testing import fakes
from plb_core.testing.contracts import AlgorithmContract

QUERY = Query("?")
PROVIDER = plb_register_algorithm()


def build(backends: str = "") -> WeightedRoundRobin:
    infos = [BackendInfo(name, "fake") for name in backends]
    return WeightedRoundRobin(NoSettings(), fakes.context(backends=infos))


def weighted(weights: str) -> list[Candidate]:
    return [
        fakes.candidate(each[0], weight=float(each[1:])) for each in weights.split()
    ]


def picks(
    algorithm: WeightedRoundRobin, candidates: list[Candidate], turns: int
) -> list[str]:
    return [algorithm.choose(QUERY, candidates).candidate.name for _ in range(turns)]


class TestWeightedRoundRobin(AlgorithmContract):
    provider = PROVIDER
    worse_state: ClassVar = {"weight": 0.5}


@pytest.mark.parametrize(
    ("weights", "order"),
    [
        ("a5 b1 c1", "a a b a c a a"),
        ("a1 b1 c1", "a b c a b c"),
        ("a3 b2", "a b a b a"),
        ("a2 b0", "a a a"),
        ("a0 b0", "a b a"),
    ],
)
def test_follows_the_worked_examples(weights: str, order: str) -> None:
    expected = order.split()
    assert picks(build(), weighted(weights), len(expected)) == expected


def test_repeats_its_cycle_exactly_for_long() -> None:
    names = picks(build(), weighted("a5 b1 c1"), 7 * 20_000)
    assert names == ["a", "a", "b", "a", "c", "a", "a"] * 20_000


def nginx(weights: list[int], turns: int) -> list[int]:
    """The original rule in integers."""
    current = [0] * len(weights)
    order = []
    for _ in range(turns):
        current = [now + weight for now, weight in zip(current, weights, strict=True)]
        best = current.index(max(current))
        current[best] -= sum(weights)
        order.append(best)
    return order


@hypothesis_settings(deadline=None, database=None, derandomize=True)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=8))
def test_gives_the_same_order_as_nginx(weights: list[int]) -> None:
    candidates = [
        fakes.candidate(str(i), weight=float(weight))
        for i, weight in enumerate(weights)
    ]
    turns = 2 * sum(weights)
    expected = [str(index) for index in nginx(weights, turns)]
    assert picks(build(), candidates, turns) == expected


def test_keeps_shares_when_the_list_is_shuffled() -> None:
    candidates = weighted("a5 b3 c2")
    algorithm = build()
    shuffle = random.Random(3).shuffle
    counts: Counter[str] = Counter()
    for _ in range(1000):
        shuffle(candidates)
        counts[algorithm.choose(QUERY, candidates).candidate.name] += 1
    for name, share in (("a", 500), ("b", 300), ("c", 200)):
        assert counts[name] == pytest.approx(share, abs=2)


def test_follows_a_changed_weight_at_once_and_without_debt() -> None:
    candidates = weighted("a1000 b1 c1")
    algorithm = build()
    picks(algorithm, candidates, 500)
    candidates[0].weight = 1.0
    counts = Counter(picks(algorithm, candidates, 30))
    for name in "abc":
        assert counts[name] == pytest.approx(10, abs=2)


def test_leaves_no_debt_when_most_backends_go_away() -> None:
    candidates = [fakes.candidate(f"b{i}") for i in range(100)]
    algorithm = build()
    picks(algorithm, candidates, 1)
    counts = Counter(picks(algorithm, candidates[:2], 10))
    assert counts["b0"] >= 4


def test_a_returning_backend_gets_no_flood() -> None:
    candidates = weighted("a1 b1 c1")
    algorithm = build()
    picks(algorithm, candidates, 4)
    picks(algorithm, candidates[:2], 1000)
    counts = Counter(picks(algorithm, candidates, 30))
    assert counts["c"] == pytest.approx(10, abs=2)


def test_never_chooses_weight_zero_even_when_the_others_owe() -> None:
    candidates = weighted("z0 a1 b1")
    algorithm = build()
    picks(algorithm, candidates[1:], 1)
    assert "z" not in picks(algorithm, candidates[:2], 50)


def test_resumes_after_all_weights_were_zero() -> None:
    candidates = weighted("a0 b0")
    algorithm = build()
    assert Counter(picks(algorithm, candidates, 10)) == {"a": 5, "b": 5}
    candidates[1].weight = 2.0
    assert picks(algorithm, candidates, 5) == ["b"] * 5


def test_adopts_the_credit_of_configured_backends_only() -> None:
    before = build()
    picks(before, weighted("a5 b1 c1 x1"), 2)
    after = build("abc")
    after.adopt(before)
    state = after.__dict__["_credit"]
    assert sorted(state) == ["a", "b", "c"]
    assert state["a"] == before.__dict__["_credit"]["a"]
