"""The contract passes a plain good scorer and fails broken ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import pytest

from plb_core import Answer, Provider, Query
from plb_core.protocols import QualityScorer
from plb_core.testing.contracts.quality_scorer import QualityScorerContract


class Plain:
    def score(self, _: Query, answer: Answer) -> Mapping[str, float] | None:
        return {"content": 1.0 if answer.text else 0.0}


class NoOpinionOnEmpty(Plain):
    def score(self, query: Query, answer: Answer) -> Mapping[str, float] | None:
        return super().score(query, answer) if answer.text else None


class Broken:
    """Scores each answer by a function of it."""

    def __init__(self, rate: Callable[[Answer], object]) -> None:
        self.rate = rate

    def score(self, _: Query, answer: Answer) -> Mapping[str, float] | None:
        return self.rate(answer)  # type: ignore[return-value]  # broken


class Async(Plain):
    async def score(self, query: Query, answer: Answer) -> Mapping[str, float] | None:  # type: ignore[override]  # broken
        return super().score(query, answer)


class EditsOptions(Plain):
    def score(self, query: Query, answer: Answer) -> Mapping[str, float] | None:
        query.options.clear()  # type: ignore[attr-defined]  # broken
        return super().score(query, answer)


class KeepsTexts(Plain):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def score(self, query: Query, answer: Answer) -> Mapping[str, float] | None:
        self.seen.append(answer.text)
        return super().score(query, answer)


def contract_for(scorer: QualityScorer) -> QualityScorerContract:
    made: type[QualityScorerContract] = type(
        "Contract",
        (QualityScorerContract,),
        {"provider": Provider("broken", lambda _, __: scorer)},
    )
    return made()


class TestPlain(QualityScorerContract):
    provider = Provider[QualityScorer]("plain", lambda _, __: Plain())


class TestNoOpinionOnEmpty(QualityScorerContract):
    provider = Provider[QualityScorer]("plain", lambda _, __: NoOpinionOnEmpty())


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (0.5, "got float"),
        ({}, "0 dimensions"),
        ({f"d{i}": 0.5 for i in range(9)}, "9 dimensions"),
        ({1: 0.5}, "not a string"),
        ({"content": float("nan")}, "content is nan"),
        ({"content": 1.1}, "content is 1.1"),
        ({"content": -0.1}, "content is -0.1"),
        ({"user_satisfaction": 0.9}, "only people"),
    ],
)
def test_fails_a_wrong_score(scores: object, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        contract_for(Broken(lambda _: scores)).test_copes_with_odd_text("text")


def test_fails_an_async_scorer() -> None:
    with pytest.raises(AssertionError, match="async"):
        contract_for(Async()).test_copes_with_odd_text("")  # type: ignore[arg-type]  # broken


def test_fails_a_scorer_that_changes_its_mind() -> None:
    turns = itertools.cycle([0.1, 0.2])
    broken = Broken(lambda _: {"content": next(turns)})
    with pytest.raises(AssertionError, match="not the same every time"):
        contract_for(broken).test_copes_with_any_answer()


def test_fails_a_scorer_that_likes_empty_answers() -> None:
    broken = Broken(lambda _: {"content": 0.5})
    with pytest.raises(AssertionError, match="scores as high"):
        contract_for(broken).test_prefers_a_good_answer_to_an_empty_one()


def test_fails_a_scorer_without_any_opinion() -> None:
    broken = Broken(lambda _: None)
    with pytest.raises(AssertionError, match="no opinion"):
        contract_for(broken).test_prefers_a_good_answer_to_an_empty_one()


def test_fails_a_scorer_that_changes_the_query() -> None:
    with pytest.raises(AssertionError, match="input was changed"):
        contract_for(EditsOptions()).test_does_not_change_query_or_answer()


def test_fails_a_scorer_that_keeps_texts() -> None:
    with pytest.raises(AssertionError, match="state grew"):
        contract_for(KeepsTexts()).test_keeps_no_texts()


def test_builds_with_the_given_settings() -> None:
    class WithSettings(QualityScorerContract):
        provider = Provider("plain", lambda settings, _: settings)
        settings = Plain()

    assert WithSettings().make() is WithSettings.settings
