"""Pick the sentences that answer a question, or abstain.

Coverage is the share of the question's words that the picked sentences contain, each
word weighted by its rarity: ln((N + 1) / (n + 1)) for n of N passages. A word that
occurs nowhere weighs most, so one common word in an unrelated question is no match.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import attrs

from plb_backend_documents.sentences import sentence_spans, shown
from plb_backend_documents.terms import question_terms, stems
from plb_core import Source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from plb_backend_documents.index import Found, Index

HEADING_SHARE: Final = 0.5
"""A word found only in the heading above a sentence counts half for choosing it."""

_RANK_DISCOUNT: Final = 0.03
_REPEAT_SHARE: Final = 0.8
_DEFINITION_BONUS: Final = 0.5
_WORTH_ADDING: Final = 0.7
_OWN_CITATION: Final = re.compile(r"\s?\[\d{1,3}(?:\s?[,\u2013-]\s?\d{1,3})*\]")
"""Reference numbers inside a document would be read as numbers of our sources."""

_COPULA: Final = re.compile(r"(.{1,80}?)\s(?:is|are|means|was|were)\s")
_DEFINING: Final = re.compile(
    r"\s*(?:what(?:['\u2019]s| is| are| was| were)|define|who (?:is|was))\b",
    re.IGNORECASE,
)


@attrs.frozen
class Sentence:
    """A sentence of a found passage; `rank` is the passage's, `span` its slice."""

    text: str
    passage: Found
    rank: int
    span: tuple[int, int]
    line: int
    stems: frozenset[str]
    heading_stems: frozenset[str]


@attrs.frozen
class Extract:
    """Picked sentences in reading order, and how much of the question they cover."""

    sentences: tuple[Sentence, ...]
    coverage: float


def weights(index: Index, terms: Mapping[str, str]) -> dict[str, float]:
    """Return each stem's rarity; a word in every passage keeps a small weight."""
    frequencies = index.ranking.frequencies(terms)
    total = index.ranking.passages
    return {
        term: math.log((total + 1) / (frequencies.get(term, 0) + 1)) + 0.1
        for term in terms
    }


def extract(index: Index, question: str, passages: int, limit: int) -> Extract | None:
    """Return the best sentences for a question; None when nothing matches at all."""
    terms = question_terms(question)
    if not terms:
        return None
    found = index.search(terms, passages)
    if not found:
        return None
    return pick(sentences_of(found), weights(index, terms), question, limit)


def sentences_of(found: Sequence[Found]) -> list[Sentence]:
    """Return the sentences of all found passages."""
    sentences = []
    for rank, passage in enumerate(found):
        heading = frozenset(stems(passage.heading))
        for span in sentence_spans(passage.text):
            text = shown(passage.text[slice(*span)])
            line = passage.line + passage.text.count("\n", 0, span[0])
            own = frozenset(stems(text))
            sentences.append(Sentence(text, passage, rank, span, line, own, heading))
    return sentences


def pick(
    sentences: Sequence[Sentence],
    weight: Mapping[str, float],
    question: str,
    limit: int,
) -> Extract:
    """Choose at most `limit` sentences, each for what it adds to those before it."""
    total = sum(weight.values())
    defining = bool(_DEFINING.match(question))
    left = list(sentences)
    picked: list[Sentence] = []
    covered: set[str] = set()
    first_value = 0.0
    while left and len(picked) < limit:
        values = [
            _value(each, weight, covered)
            * (
                1.0
                + _DEFINITION_BONUS
                * (defining and not picked and _defines(each, weight))
            )
            for each in left
        ]
        value = max(values)
        if value <= 0 or (picked and value < _WORTH_ADDING * first_value):
            break
        best = left.pop(values.index(value))
        first_value = first_value or _value(best, weight, covered)
        covered |= weight.keys() & best.stems
        picked.append(best)
        left = [each for each in left if each.text != best.text]
    coverage = _coverage(picked, weight) if total else 0.0
    return Extract(in_reading_order(picked), coverage)


def in_reading_order(picked: Sequence[Sentence]) -> tuple[Sentence, ...]:
    """Return sentences, best first, as one reads them: the best one's file comes first.

    Within that file they stand in its order, after it by rank of their passages.
    """

    def place(each: Sentence) -> tuple[bool, int, int, tuple[int, int]]:
        elsewhere = each.passage.path != picked[0].passage.path
        return elsewhere, 0 if elsewhere else each.line, each.rank, each.span

    return tuple(sorted(picked, key=place))


def numbered(sentences: Sequence[Sentence]) -> tuple[list[str], tuple[Source, ...]]:
    """Return each sentence with the number of its source, and the sources.

    A source is a passage; its quote holds the sentences as they stand in the file,
    joined by " … " where something between them is left out.
    """
    ranks = list(dict.fromkeys(each.rank for each in sentences))
    texts = [
        f"{_OWN_CITATION.sub('', each.text)} [{ranks.index(each.rank) + 1}]"
        for each in sentences
    ]
    groups = [[each for each in sentences if each.rank == rank] for rank in ranks]
    return texts, tuple(_source(group) for group in groups)


def _source(group: Sequence[Sentence]) -> Source:
    first = group[0]
    text = first.passage.text
    runs = [first.span]
    for each in group[1:]:
        start, end = runs[-1]
        if text[end : each.span[0]].strip():
            runs.append(each.span)
        else:
            runs[-1] = (start, each.span[1])
    words = " … ".join(shown(text[slice(*run)]) for run in runs)
    path = first.passage.path
    title = first.passage.heading or path.rpartition("/")[2]
    return Source(title, f"{_shown_path(path)}#L{first.line}", words)


def _shown_path(path: str) -> str:
    """Percent-encode what would break the address or hide in a terminal."""
    return "".join(
        each if each.isprintable() and each not in "#%?" else quote(each)
        for each in path
    )


def _coverage(picked: Sequence[Sentence], weight: Mapping[str, float]) -> float:
    """Return the weighted share of the question found in one passage's picks."""
    best = 0.0
    for rank in {each.rank for each in picked}:
        here = [each for each in picked if each.rank == rank]
        have: set[str] = set().union(
            *(each.stems | each.heading_stems for each in here)
        )
        best = max(best, sum(weight[term] for term in weight.keys() & have))
    return best / sum(weight.values())


def _value(sentence: Sentence, weight: Mapping[str, float], covered: set[str]) -> float:
    value = 0.0
    for term, size in weight.items():
        share = _REPEAT_SHARE if term in covered else 1.0
        if term in sentence.stems:
            value += size * share
        elif term in sentence.heading_stems:
            value += size * share * HEADING_SHARE
    return value * (1.0 - _RANK_DISCOUNT * sentence.rank)


def _defines(sentence: Sentence, weight: Mapping[str, float]) -> bool:
    """Tell whether a sentence says "TERM is …" of all the words asked for."""
    match = _COPULA.match(sentence.text)
    return bool(match) and weight.keys() <= stems(match[1] if match else "")
