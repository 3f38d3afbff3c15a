"""The `biomedical` classifier: research questions to graphs, news to live search."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from plb_classifier_biomedical import words
from plb_core import Decision, NoSettings, Provider, hookimpl

if TYPE_CHECKING:
    from plb_core import BuildContext, Query
    from plb_core.types import Wanted

# A question stands at the beginning or at the end of a long text.
_HEAD: Final = 250
_TAIL: Final = 150
_DECIDES: Final = 2.0
_STEM: Final = 6
_WORD: Final = re.compile(r"[^\W_]+")
# What a question says of these years is news to most collections.
_LIVE_YEARS: Final = range(2025, 2100)
_RESEARCH: Final = (words.MECHANISM, words.RELATION, words.METHOD)
_LIVE: Final = (words.NEWS, words.MARKET, words.EVENT)
MIXED: Final = "mixed"
GENERAL: Final = "general"
KINDS: Final = frozenset({*_RESEARCH, *_LIVE, words.DEFINITION, MIXED, GENERAL})
"""Every kind this classifier ever returns."""

_REASONS: Final = {
    words.MECHANISM: "words of mechanism or function",
    words.RELATION: "words of relation or comparison",
    words.METHOD: "words of research or measurement",
    words.DEFINITION: "asks what a biomedical term means",
    words.NEWS: "words of recent time or news",
    words.MARKET: "words of price or market",
    words.EVENT: "words of events or approvals",
    MIXED: "both research and live signals",
    GENERAL: "no clear signal",
}


class Biomedical:
    """Tells research questions from questions about current facts by their words.

    Each distinct word, phrase or year adds a weight to one signal. Mechanism,
    relation and method are research; subjects (glucose, tumour) add up to 2 to it and
    a definition ("what is") 1. News, market and event are live. A sum of 2 decides:
    live and research without subject and definition (nor method, when a price is
    asked) → hybrid; live → live; research → graph; neither → either.
    `confidence` is s / (s + 2), s the deciding sum.
    Knows nothing: "either", kind "general", confidence 0.
    Reads the first 250 and the last 150 characters of a longer text; keeps nothing.
    """

    def classify(self, query: Query) -> Decision:
        """Return the decision; the same text always gets the same one."""
        text = query.text
        if len(text) > _HEAD + _TAIL:
            text = f"{text[:_HEAD]} {text[-_TAIL:]}"
        sums = _sums(_WORD.findall(text.lower()))
        research = sum(sums.get(signal, 0.0) for signal in _RESEARCH)
        live = sum(sums.get(signal, 0.0) for signal in _LIVE)
        about = min(2.0, sums.get(words.SUBJECT, 0.0))
        asked = min(1.0, sums.get(words.DEFINITION, 0.0))
        graph = research + about + asked
        both = research
        if sums.get(words.MARKET, 0.0) >= _DECIDES:
            # The price of an instrument or assay is no research question.
            both -= sums.get(words.METHOD, 0.0)
        if live >= _DECIDES and both >= _DECIDES:
            return _decision("hybrid", MIXED, min(live, both))
        if live >= _DECIDES:
            return _decision("live", _strongest(sums, _LIVE), live)
        if graph >= _DECIDES:
            kind = _strongest(sums, _RESEARCH) if research else words.DEFINITION
            return _decision("graph", kind, graph)
        return _decision("either", GENERAL, max(graph, live))


def _sums(found: list[str]) -> dict[str, float]:
    """Add up the weights per signal; a repeated word or phrase counts once."""
    sums: dict[str, float] = {}
    signals = [_of_word(word) for word in dict.fromkeys(found)]
    signals += [
        words.PHRASES.get(phrase)
        for phrase in {
            f"{first} {second}"
            for first, second in pairwise(found)
            if second in words.PHRASE_ENDS
        }
    ]
    for signal in signals:
        if signal is not None:
            sums[signal[0]] = sums.get(signal[0], 0.0) + signal[1]
    return sums


def _of_word(word: str) -> words.Signal | None:
    signal = words.WORDS.get(word)
    if signal is not None:
        return signal
    if len(word) > _STEM:
        signal = words.STEMS.get(word[:_STEM])
        if signal is not None:
            return signal
        if word.endswith("ase") and word not in words.NOT_AN_ENZYME:
            return words.MECHANISM, 1.0
        if word.endswith("omics") and word not in words.NOT_A_FIELD:
            return words.METHOD, 1.0
    elif len(word) == 4 and word.isascii() and word.isdigit():  # noqa: PLR2004 - a year
        return (words.NEWS, 2.0) if int(word) in _LIVE_YEARS else None
    return None


def _strongest(sums: dict[str, float], signals: tuple[str, ...]) -> str:
    return max(signals, key=lambda signal: sums.get(signal, 0.0))


def _decision(wanted: Wanted, kind: str, strength: float) -> Decision:
    return Decision(wanted, kind, strength / (strength + _DECIDES), _REASONS[kind])


def _build(_: NoSettings, __: BuildContext) -> Biomedical:
    return Biomedical()


@hookimpl
def plb_register_classifier() -> Provider[Biomedical]:
    """Offer `biomedical`."""
    return Provider(
        name="biomedical",
        build=_build,
        summary="research and mechanism to graph knowledge, news and prices to live",
    )
