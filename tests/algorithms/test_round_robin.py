import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from plb_contrib_algorithms.round_robin import RoundRobin, plb_register_algorithm
from plb_core import BackendInfo, Candidate, NoSettings, Query
from plb_core.testing import fakes
from plb_core.testing.contracts import AlgorithmContract

QUERY = Query("?")
PROVIDER = plb_register_algorithm()


def build(seed: int = 0, backends: str = "") -> RoundRobin:
    infos = [BackendInfo(name, "fake") for name in backends]
    return RoundRobin(NoSettings(), fakes.context(seed=seed, backends=infos))


def picks(algorithm: RoundRobin, *rounds: str) -> str:
    known: dict[str, Candidate] = {}
    names = []
    for round_ in rounds:
        candidates = [
            known.setdefault(name, fakes.candidate(name)) for name in round_.split()
        ]
        names.append(algorithm.choose(QUERY, candidates).candidate.name)
    return " ".join(names)


class TestRoundRobin(AlgorithmContract):
    provider = PROVIDER


def test_follows_the_worked_example() -> None:
    algorithm = build()
    assert picks(algorithm, "a", "b", "c") == "a b c"
    rounds = ("a b c", "b c", "a b c", "a b c d", "a b c d")
    assert picks(algorithm, *rounds) == "a b c d a"


@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_serves_everyone_once_per_round_in_any_list_order(count: int) -> None:
    algorithm = build()
    candidates = [fakes.candidate(f"b{i}") for i in range(count)]
    shuffle = random.Random(1).shuffle
    order = []
    for _ in range(5 * count):
        shuffle(candidates)
        order.append(algorithm.choose(QUERY, candidates).candidate.name)
    for start in range(0, len(order), count):
        assert order[start : start + count] == order[:count]
    assert len(set(order)) == count


def test_starts_with_a_random_backend() -> None:
    firsts = {picks(build(seed), "a b c") for seed in range(40)}
    assert firsts == {"a", "b", "c"}


def test_tells_the_probability_of_a_tie() -> None:
    algorithm = build()
    candidates = [fakes.candidate(name) for name in "abc"]
    probabilities = [algorithm.choose(QUERY, candidates).probability for _ in range(4)]
    assert probabilities == [1 / 3, 1 / 2, 1.0, 1.0]


def test_gives_a_returning_backend_one_turn_and_no_flood() -> None:
    algorithm = build()
    picks(algorithm, *["a b c"] * 3)
    picks(algorithm, *["a b"] * 1000)
    after = picks(algorithm, *["a b c"] * 9).split()
    assert after[0] == "c"
    assert Counter(after) == {"a": 3, "b": 3, "c": 3}


@hypothesis_settings(deadline=None, database=None, derandomize=True)
@given(st.lists(st.sets(st.sampled_from("abcd"), min_size=1), max_size=60))
def test_serves_nobody_twice_while_another_waits(rounds: list[set[str]]) -> None:
    algorithm = build()
    waiting: set[tuple[str, str]] = set()
    for names in rounds:
        chosen = picks(algorithm, " ".join(sorted(names)))
        # (x, y): x was served after y was; then y must come before x does again.
        assert not any((chosen, other) in waiting for other in names)
        waiting -= {(x, y) for x, y in waiting if y == chosen}
        waiting |= {(chosen, other) for other in "abcd" if other != chosen}


def test_stays_fair_when_one_backend_is_missing_every_other_time() -> None:
    algorithm = build()
    counts = Counter(picks(algorithm, *["a b c", "a b"] * 300).split())
    # c is asked in every second of the rounds it is there for, a and b share the rest.
    assert counts["c"] == pytest.approx(150, abs=2)
    assert counts["a"] == pytest.approx(counts["b"], abs=2)


def test_ignores_weights() -> None:
    algorithm = build()
    candidates = [fakes.candidate("a", weight=0.0), fakes.candidate("b", weight=9.0)]
    counts = Counter(
        algorithm.choose(QUERY, candidates).candidate.name for _ in range(10)
    )
    assert counts == {"a": 5, "b": 5}


def test_adopts_the_turns_of_configured_backends_only() -> None:
    before = build()
    picks(before, "a", "b", "gone")
    after = build(backends="abc")
    after.adopt(before)
    assert picks(after, "a b", "a b", "a b gone") == "a b gone"
    assert picks(after, "a b gone c") == "c"
