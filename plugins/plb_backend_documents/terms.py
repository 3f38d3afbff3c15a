"""Words of a text as the index sees them: folded, stemmed, without function words."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final

from plb_backend_documents.stem import stem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_QUESTION_CHARACTERS: Final = 8_000
MAX_TERMS: Final = 32
"""Bounds on what one question may cost; both are far above a spoken question."""

_WORD: Final = re.compile(r"[^\W_]+")
_FUNCTION_WORDS: Final = frozenset(
    """
    a about above after again against all also am an and any are aren as at be because
    been before being below between both but by can cannot could couldn d did didn do
    does doesn doing don down during each either explain few for from further give had
    hadn has hasn have haven having he her here hers herself him himself his how i if in
    into is isn it its itself just ll m me mean meant might more most must my myself no
    nor not now of off on once only or other our ours ourselves out over own please re s
    same shall she should shouldn so some such t tell than that the their theirs them
    themselves then there these they this those through to too under until up us very
    was wasn we were weren what when where which while who whom whose why will with
    would wouldn ve you your yours yourself yourselves describe
    """.split()  # noqa: SIM905 - a list of words reads best as one
)


def words(text: str) -> Iterator[str]:
    """Yield the words of `text`: lower case, without diacritics, unstemmed."""
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text)
        text = "".join(each for each in parts if not unicodedata.combining(each))
    for match in _WORD.finditer(text.lower()):
        yield match.group()


def stems(text: str) -> set[str]:
    """Return the stems of all words of `text`."""
    return {stem(word) for word in words(text)}


def question_terms(question: str) -> dict[str, str]:
    """Return {stem: word} of the words that carry meaning, in order, at most 32."""
    found: dict[str, str] = {}
    for word in words(question[:MAX_QUESTION_CHARACTERS]):
        if word not in _FUNCTION_WORDS:
            found.setdefault(stem(word), word)
            if len(found) == MAX_TERMS:
                break
    return found


def match_expression(terms: Sequence[str]) -> str:
    """Return an FTS5 expression that matches any of the words.

    The words hold letters and digits only and stand in double quotes, so no operator,
    column filter or prefix mark can come from a question.
    """
    return " OR ".join(f'"{word}"' for word in terms)
