"""The contract passes a plain good classifier and fails broken ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from plb_core import Decision, Provider, Query
from plb_core.protocols import Classifier
from plb_core.testing.contracts.classifier import ClassifierContract


class Plain:
    def classify(self, query: Query) -> Decision:
        wanted = "live" if "news" in query.text else "either"
        return Decision(wanted, "general", 0.5, "looked for news")  # type: ignore[arg-type]  # one of two words


class Broken:
    """Makes each decision by a function of the text."""

    def __init__(self, decide: Callable[[str], object]) -> None:
        self.decide = decide

    def classify(self, query: Query) -> Decision:
        return self.decide(query.text)  # type: ignore[return-value]  # broken


class Async(Plain):
    async def classify(self, query: Query) -> Decision:  # type: ignore[override]  # broken
        return super().classify(query)


class EditsOptions(Plain):
    def classify(self, query: Query) -> Decision:
        query.options.clear()  # type: ignore[attr-defined]  # broken
        return super().classify(query)


class KeepsQuestions(Plain):
    def __init__(self) -> None:
        self.seen: set[str] = set()

    def classify(self, query: Query) -> Decision:
        self.seen.add(query.text)
        return super().classify(query)


def contract_for(
    classifier: Classifier, kinds: frozenset[str] = frozenset({"general"})
) -> ClassifierContract:
    made: type[ClassifierContract] = type(
        "Contract",
        (ClassifierContract,),
        {"provider": Provider("broken", lambda _, __: classifier), "kinds": kinds},
    )
    return made()


class TestPlain(ClassifierContract):
    provider = Provider[Classifier]("plain", lambda _, __: Plain())
    kinds = frozenset({"general"})


@pytest.mark.parametrize(
    ("decide", "message"),
    [
        (lambda _: None, "got NoneType"),
        (lambda _: Decision("both", "general", 0.5), "wanted is 'both'"),  # type: ignore[arg-type]  # broken
        (lambda text: Decision("either", text, 0.5), "not one of `kinds`"),
        (lambda _: Decision("either", "general", 1.5), "confidence 1.5"),
        (lambda _: Decision("either", "general", float("nan")), "confidence nan"),
        (lambda _: Decision("either", "general", 0.5, "x" * 101), "too long"),
    ],
)
def test_fails_a_wrong_decision(decide: Callable[[str], object], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        contract_for(Broken(decide)).test_copes_with_odd_text("what is this?")


def test_fails_an_async_classifier() -> None:
    with pytest.raises(AssertionError, match="async"):
        contract_for(Async()).test_copes_with_odd_text("")  # type: ignore[arg-type]  # broken


def test_fails_a_classifier_that_changes_its_mind() -> None:
    turns = itertools.cycle([0.1, 0.2])
    broken = Broken(lambda _: Decision("either", "general", next(turns)))
    with pytest.raises(AssertionError, match="not the same every time"):
        contract_for(broken).test_copes_with_any_text()


def test_fails_a_classifier_that_repeats_the_question() -> None:
    broken = Broken(lambda text: Decision("either", "general", 0.5, text))
    with pytest.raises(AssertionError, match="repeats the question"):
        contract_for(broken).test_never_repeats_the_question()


def test_fails_a_classifier_that_changes_the_query() -> None:
    with pytest.raises(AssertionError, match="query was changed"):
        contract_for(EditsOptions()).test_does_not_change_the_query()


def test_fails_a_classifier_that_keeps_questions() -> None:
    with pytest.raises(AssertionError, match="state grew"):
        contract_for(KeepsQuestions()).test_keeps_no_questions()


@pytest.mark.parametrize("count", [0, 33])
def test_fails_too_few_or_too_many_kinds(count: int) -> None:
    kinds = frozenset(f"kind {i}" for i in range(count))
    with pytest.raises(AssertionError, match=f"{count} kinds"):
        contract_for(Plain(), kinds).test_has_few_kinds()


def test_builds_with_the_given_settings() -> None:
    class WithSettings(ClassifierContract):
        provider = Provider("plain", lambda settings, _: settings)
        settings = Plain()

    assert WithSettings().make() is WithSettings.settings
