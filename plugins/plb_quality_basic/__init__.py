"""The `basic` quality scorer: empty, refused, uncited, off-topic, cut."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import attrs

from plb_core import Answer, BuildContext, Provider, Query, doc, hookimpl
from plb_core.settings import at_least

# Enough of an answer to judge it by; the rest would only cost time.
_READ: Final = 2000
_QUESTION: Final = 600
_STEM: Final = 6
# Refusals open an answer; later, the same words are about something else.
_OPENING: Final = 160
# Only at the start of a clause: "complex I cannot accept electrons" is no refusal.
_REFUSED: Final = re.compile(
    r"(?:^|[.!?,;:]|\b(?:but|and|sorry)\b)\s*(?:"
    r"(?:i|we)(?:'m|'re| am| are)? (?:sorry,? but|afraid|unable|not able|cannot|can't)"
    r"|(?:i|we) (?:do not|don't) (?:know|have (?:any |enough )?information)"
    r"|as an ai\b|no (?:relevant|sufficient) (?:information|context|documents?)\b)"
    r"|\[no-context\]"
)
_MARK: Final = re.compile(r"\[\^?(\d{1,3})\]")
# Scripts without spaces are compared sign by sign, all others word by word.
_TERM: Final = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af]|[^\W_]{3,}")
_COMMON_WORDS: Final = """
    about after also and any are because been before between both but can could did
    does each explain describe for from give had has have her him his how into its
    list many may me more most much not off one other our out over please same she
    should show since some such tell than that the their them then there these they
    this those through too under use used using very was way were what when where
    which while who why will with would you your
"""
_COMMON: Final = frozenset(_COMMON_WORDS.split())
# Fewer distinct words than this share: the text goes round in circles.
_REPEATS: Final = 0.3


@attrs.frozen
class BasicQualitySettings:
    """Settings of `[quality_scorer.NAME]` with `plugin = "basic"`."""

    full_length_words: int = attrs.field(
        default=40,
        validator=at_least(1),
        metadata=doc("Words from which an answer counts as long enough."),
    )
    cite_from_words: int = attrs.field(
        default=25,
        validator=at_least(1),
        metadata=doc("Words from which an answer should cite its sources."),
    )


class BasicQuality:
    """Scores an answer by what can be seen without understanding it.

    relevance: share of the question's terms found in the answer, from 0.2 (none) to
    1 (two thirds or more); left out when the question has no terms.
    factual_accuracy, a proxy by citations: 0.95 quoted text with sources; 0.9 text
    with sources and marks that all refer to one; 0.7 sources without marks; 0.6 an
    answer too short to need any; 0.4 an uncited longer one; marks without a source
    behind them lower it in proportion, down to 0.2.
    content: 0.4 to 1 by length; halved when it repeats itself, and when it was cut.
    Empty: all 0. Refused: all at most 0.1. An answer that only calls tools: no
    opinion. User satisfaction comes from ratings alone, never from here.
    Reads 600 characters of the question and 2,000 of the answer; keeps nothing.
    """

    def __init__(self, settings: BasicQualitySettings) -> None:
        self._settings = settings

    def score(self, query: Query, answer: Answer) -> Mapping[str, float] | None:
        """Return relevance, factual_accuracy and content, each 0..1."""
        text = answer.text[:_READ].lower()
        if not text.strip():
            return None if answer.tool_calls else _all(0.0)
        if answer.finish_reason == "content_filter" or _refused(text):
            return _all(0.1)
        terms = _TERM.findall(text)
        scores = {
            "factual_accuracy": self._factual_accuracy(answer, text, len(terms)),
            "content": self._content(answer, terms),
        }
        asked = {
            term[:_STEM]
            for term in _TERM.findall(query.text[:_QUESTION].lower())
            if term not in _COMMON
        }
        if asked:
            found = len(asked.intersection([term[:_STEM] for term in terms]))
            scores["relevance"] = min(1.0, 0.2 + 1.2 * found / len(asked))
        return scores

    def _factual_accuracy(self, answer: Answer, text: str, words: int) -> float:
        sources = len(answer.sources)
        marks = {int(number) for number in _MARK.findall(text)}
        if marks:
            valid = sum(1 <= mark <= sources for mark in marks) / len(marks)
            return 0.2 + 0.7 * valid
        if sources:
            return 0.7 if answer.llm_generated else 0.95
        return 0.6 if words < self._settings.cite_from_words else 0.4

    def _content(self, answer: Answer, terms: list[str]) -> float:
        score = 0.4 + 0.6 * min(1.0, len(terms) / self._settings.full_length_words)
        if len(set(terms)) < _REPEATS * len(terms):
            score /= 2.0
        if answer.finish_reason == "length":
            score /= 2.0
        return score


def _refused(text: str) -> bool:
    opening = text[:_OPENING].replace("\u2019", "'")
    return _REFUSED.search(opening) is not None


def _all(value: float) -> dict[str, float]:
    return {"relevance": value, "factual_accuracy": value, "content": value}


def _build(settings: BasicQualitySettings, _: BuildContext) -> BasicQuality:
    return BasicQuality(settings)


@hookimpl
def plb_register_quality_scorer() -> Provider[BasicQuality]:
    """Offer `basic`."""
    return Provider(
        name="basic",
        build=_build,
        settings=BasicQualitySettings,
        summary="quality by cheap signals: empty, refused, uncited, off-topic, cut",
    )
