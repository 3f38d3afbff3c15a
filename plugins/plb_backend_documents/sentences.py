"""Find the sentences of a text, as exact slices of it.

Written for English prose with Markdown around it; list items and table rows count as
sentences of their own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

SENTENCE_CHARACTERS: Final = 400
"""Text without full stops is cut at a blank near this length."""

_MARK: Final = re.compile(r"[ \t]*(?:>[ \t]?)*(?:(?:[-*+•]|\d{1,3}[.)])[ \t]+)?")
_ITEM: Final = re.compile(r"[ \t]*(?:>[ \t]?)*(?:[-*+•]|\d{1,3}[.)])[ \t]")
_STOP: Final = re.compile(
    r"[.!?\u2026]+[\"'\u201d\u2019)\]*_]*\s+|[\u3002\uff01\uff1f]+"
)
_LAST_WORD: Final = re.compile(r"(\S*)\s+(\S+)$")
_OPENING: Final = "\"'\u201c\u2018([*_`"
_ABBREVIATIONS: Final = frozenset(
    """
    al. approx. ca. cf. dr. e.g. ed. eds. eq. fig. figs. i.e. mr. mrs. ms. no. nos. p.
    pp. prof. ref. refs. resp. sp. spp. st. vol. vs.
    """.split()  # noqa: SIM905 - a list of words reads best as one
)
_WRAP: Final = re.compile(r"\s*\n[ \t]*(?:>[ \t]?)*\s*|\s+")


def shown(sentence: str) -> str:
    """Return a sentence on one line: line wraps and quote marks become one blank."""
    return _WRAP.sub(" ", sentence).strip()


def sentence_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each sentence in order; slices do not overlap."""
    for start, end in _blocks(text):
        first = start
        for match in _STOP.finditer(text, start, end):
            if _is_boundary(text, match, start, end):
                stop = match.start() + len(match.group().rstrip())
                yield from _bounded(text, first, stop)
                first = match.end()
        yield from _bounded(text, first, end)


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Yield paragraphs, list items and table rows."""
    start = end = at = 0
    for line in text.split("\n"):
        row = line.lstrip().startswith("|")
        if not line.strip(" \t>") or _is_rule(line) or row or _ITEM.match(line):
            if end > start:
                yield start, end
            start = end = at
        if line.strip(" \t>") and not _is_rule(line):
            if end <= start:
                mark = _MARK.match(line)
                start = at + (mark.end() if mark else 0)
            end = at + len(line.rstrip())
            if row:
                yield start, end
                start = end
        at += len(line) + 1
    if end > start:
        yield start, end


def _is_rule(line: str) -> bool:
    return not line.strip(" \t|:-=_*~+#^")


def _is_boundary(text: str, match: re.Match[str], start: int, end: int) -> bool:
    """Tell a sentence's end from an abbreviation, an initial or "E. coli"."""
    after = text[match.end() : min(end, match.end() + 8)].lstrip(_OPENING)
    if after[:1].islower():
        return False
    if not match.group().startswith("."):
        return True
    before = text[max(start, match.start() - 40) : match.start()] + "."
    last = _LAST_WORD.search(before)
    word = (last[2] if last else before).lstrip(_OPENING)
    if word.lower() in _ABBREVIATIONS:
        return False
    initial = len(word) == len("J.") and word[0].isupper()
    # "J. Smith" is a name, "vitamin C. The" is not.
    return not initial or bool(last and last[1][:1].islower())


def _bounded(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the trimmed slice, in pieces when it is too long to quote."""
    while end - start > SENTENCE_CHARACTERS:
        cut = text.rfind(" ", start + 1, start + SENTENCE_CHARACTERS)
        cut = cut if cut > start else start + SENTENCE_CHARACTERS
        if text[start:cut].strip():
            yield _trimmed(text, start, cut)
        start = cut
    if text[start:end].strip():
        yield _trimmed(text, start, end)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return end - len(piece.lstrip()), start + len(piece.rstrip())
