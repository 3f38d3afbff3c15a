from __future__ import annotations

from collections import Counter
from types import MappingProxyType

import pytest

from plb_contrib_algorithms.quality_aware import (
    QualityAware,
    Settings,
    plb_register_algorithm,
)
from plb_core import Query, Rating
from plb_core.testing import fakes
from plb_core.testing.contracts import AlgorithmContract

QUERY = Query("What are metabolic pathways?", kind="general")
EXACT = Settings(optimism=0.0, exploration=0.0, tie_quality=0.0)
PAIR = (fakes.candidate("a"), fakes.candidate("b"))


class TestQualityAware(AlgorithmContract):
    provider = plb_register_algorithm()
    worse_outcome = MappingProxyType({"quality": 0.3})


def make(settings: Settings = EXACT, **facts: object) -> QualityAware:
    return QualityAware(settings, fakes.context("quality_aware", **facts))  # type: ignore[arg-type]  # context fields


def judge(algorithm: QualityAware, backend: str, *, kind: str = "general",
          quality: float, times: int) -> None:  # fmt: skip
    for _ in range(times):
        algorithm.observe(fakes.outcome(backend, quality=quality, kind=kind))


@pytest.mark.parametrize(
    ("times", "facts", "score_b", "taken"),
    [
        (1, {"quality": 0.9}, 0.772, {"b"}),
        (1, {"quality": 0.5}, 0.628, {"a"}),
        (4, {"quality": 0.9}, 0.850, {"b"}),
        (4, {"quality": 0.9, "kind": "news"}, 0.800, {"b"}),
        (4, {"result": "error"}, 0.700, {"a", "b"}),
        (4, {"quality": None}, 0.700, {"a", "b"}),
    ],
)
def test_worked_examples(
    times: int, facts: dict[str, object], score_b: float, taken: set[str]
) -> None:
    algorithm = make()
    for _ in range(times):
        algorithm.observe(fakes.outcome("b", **facts))  # type: ignore[arg-type]  # Outcome fields
    assert algorithm.score(QUERY, PAIR[0]) == pytest.approx(0.7)
    assert algorithm.score(QUERY, PAIR[1]) == pytest.approx(score_b)
    chosen = {algorithm.choose(QUERY, PAIR).candidate.name for _ in range(40)}
    assert chosen == taken


def test_one_lucky_answer_does_not_beat_a_long_record() -> None:
    algorithm = make()
    judge(algorithm, "a", quality=0.85, times=100)
    judge(algorithm, "b", quality=1.0, times=1)
    assert algorithm.choose(QUERY, PAIR).candidate.name == "a"


def test_the_doubt_shrinks_with_judged_answers_of_the_same_quality() -> None:
    algorithm = make(Settings(optimism=1.0))
    judge(algorithm, "a", quality=0.7, times=3)
    early = algorithm.score(QUERY, PAIR[0])
    judge(algorithm, "a", quality=0.7, times=100)
    assert 0.7 < algorithm.score(QUERY, PAIR[0]) < early


def test_time_widens_the_doubt_again() -> None:
    clock = fakes.FakeClock()
    algorithm = make(Settings(optimism=1.0, half_life_s=100.0), now=clock)
    judge(algorithm, "a", quality=0.2, times=50)
    poor = algorithm.score(QUERY, PAIR[0])
    clock.advance(100.0)
    later = algorithm.score(QUERY, PAIR[0])
    clock.advance(1e9)
    stranger = make(Settings(optimism=1.0)).score(QUERY, PAIR[0])
    assert poor < later < algorithm.score(QUERY, PAIR[0])
    assert algorithm.score(QUERY, PAIR[0]) == pytest.approx(stranger)


def test_a_backend_under_the_bar_is_not_even_explored() -> None:
    algorithm = make(Settings(exploration=1.0))
    judge(algorithm, "a", quality=0.1, times=50)
    choices = [algorithm.choose(QUERY, PAIR) for _ in range(200)]
    assert {choice.candidate.name for choice in choices} == {"b"}
    assert {choice.probability for choice in choices} == {1.0}
    assert all(len(choice.scores) == 2 for choice in choices)


def test_the_bar_is_ignored_when_nobody_reaches_it() -> None:
    algorithm = make()
    judge(algorithm, "a", quality=0.1, times=90)
    judge(algorithm, "b", quality=0.2, times=90)
    assert algorithm.choose(QUERY, PAIR).candidate.name == "b"


def test_exploration_tries_all_that_reach_the_bar() -> None:
    algorithm = make(Settings(exploration=0.2, optimism=0.0))
    judge(algorithm, "a", quality=0.95, times=50)
    choices = [algorithm.choose(QUERY, PAIR) for _ in range(2000)]
    counts = Counter(choice.candidate.name for choice in choices)
    assert 130 < counts["b"] < 270
    probabilities = {each.candidate.name: each.probability for each in choices}
    assert probabilities == pytest.approx({"a": 0.9, "b": 0.1})


def test_nearly_equal_backends_share_the_traffic() -> None:
    algorithm = make(Settings(exploration=0.0, optimism=0.0, tie_quality=0.05))
    judge(algorithm, "a", quality=0.80, times=200)
    judge(algorithm, "b", quality=0.83, times=200)
    counts = Counter(algorithm.choose(QUERY, PAIR).candidate.name for _ in range(400))
    assert min(counts["a"], counts["b"]) > 150


def test_a_rating_counts_as_a_judged_answer() -> None:
    rated, scored = make(), make()
    rated.rate(Rating("req_1", "b", "any", "general", {"user": 0.2, "expert": 0.4}))
    scored.observe(fakes.outcome("b", quality=0.3))
    assert rated.score(QUERY, PAIR[1]) == pytest.approx(scored.score(QUERY, PAIR[1]))


def test_news_of_one_kind_reaches_the_others_at_once() -> None:
    algorithm = make()
    judge(algorithm, "a", quality=0.7, times=1)
    before = algorithm.score(QUERY, PAIR[0])
    judge(algorithm, "a", quality=0.0, times=20, kind="news")
    assert algorithm.score(QUERY, PAIR[0]) < before - 0.2


def test_kinds_beyond_the_limit_share_one_entry() -> None:
    algorithm = make()
    for index in range(500):
        judge(algorithm, "a", quality=0.1, times=1, kind=f"kind {index}")
    assert len(algorithm.by_kind) == 65
    late = algorithm.score(Query("x", kind="kind 499"), PAIR[0])
    assert late < algorithm.score(Query("x", kind="kind 1"), PAIR[0])


def test_adopts_what_is_known_of_backends_that_are_still_configured() -> None:
    clock = fakes.FakeClock()
    old = make(now=clock)
    judge(old, "a", quality=0.2, times=9)
    judge(old, "a", quality=0.9, times=2, kind="news")
    judge(old, "gone", quality=0.2, times=9)
    new = make(now=clock, backends=(PAIR[0].info, PAIR[1].info))
    new.adopt(old)
    for query in (QUERY, Query("x", kind="news"), Query("x", kind="other")):
        assert new.score(query, PAIR[0]) == pytest.approx(old.score(query, PAIR[0]))
    assert new.overall.keys() == {"a"}
    learned = old.score(QUERY, PAIR[0])
    judge(new, "a", quality=1.0, times=9)
    assert old.score(QUERY, PAIR[0]) == learned < new.score(QUERY, PAIR[0])


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("quality_bar", 1.5),
        ("optimism", -1.0),
        ("exploration", 1.1),
        ("tie_quality", -0.1),
        ("prior_quality", 2.0),
        ("prior_strength", 0.0),
        ("half_life_s", 0.0),
    ],
)
def test_impossible_settings_are_refused(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        Settings(**{setting: value})
