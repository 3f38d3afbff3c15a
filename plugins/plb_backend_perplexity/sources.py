"""Cited sources, and the marks in the text that point at them.

The n-th source of an answer is the one a mark `[n]` means. Perplexity numbers its
search results; the numbers go on from one search of an answer to the next, and the
searches need not come in that order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from plb_backend_perplexity import wire
from plb_core import Source

_MAX_SOURCES: Final = 200
"""Far above the 20 to 60 that a long run of searches brings."""
_TITLE_CHARACTERS: Final = 300
_QUOTE_CHARACTERS: Final = 4000
_URL_CHARACTERS: Final = 2000
_UNLISTED: Final = Source("not listed by the backend")

_MARK: Final = re.compile(r"\[web:([1-9]\d{0,3})\]")
_BEGUN_MARK: Final = re.compile(r"\[(?:w(?:e(?:b(?::\d{0,4})?)?)?)?\Z")


def source(result: Mapping[str, object]) -> Source | None:
    """Return one search result as a source, or None when it names no web page."""
    url = wire.text(result.get("url")).strip()
    if not url.startswith(("https://", "http://")) or len(url) > _URL_CHARACTERS:
        return None
    return Source(
        title=wire.one_line(result.get("title"), _TITLE_CHARACTERS) or url,
        url=url,
        quote=wire.text(result.get("snippet"))[:_QUOTE_CHARACTERS],
        published=wire.one_line(result.get("date"), 40),
    )


def from_output(output: Iterable[object]) -> tuple[Source, ...]:
    """Return the sources among the items of an agent's output.

    Numbered results stand at their number; a number that was never listed keeps its
    place, so that later marks still point at the right page. Pages without a number
    follow.
    """
    numbered: dict[int, Source] = {}
    others: dict[str, Source] = {}
    for item in map(wire.table, output):
        kind = item.get("type")
        if kind == "search_results":
            found = wire.items(item.get("results"))
        elif kind == "fetch_url_results":
            found = wire.items(item.get("contents"))
        else:
            continue
        for result in map(wire.table, found):
            made = source(result)
            number = wire.count(result.get("id"), _MAX_SOURCES)
            if made is None:
                continue
            if number:
                numbered.setdefault(number, made)
            else:
                others.setdefault(made.url, made)
    known = {each.url for each in numbered.values()}
    placed = [
        numbered.get(number, _UNLISTED)
        for number in range(1, max(numbered, default=0) + 1)
    ]
    placed += [each for url, each in others.items() if url not in known]
    return tuple(placed[:_MAX_SOURCES])


def from_chat(data: Mapping[str, object]) -> tuple[Source, ...]:
    """Return the sources of a chat-completions body; `[n]` is the n-th citation."""
    results = [
        made
        for result in wire.items(data.get("search_results"))
        if (made := source(wire.table(result)))
    ]
    by_url = {each.url: each for each in results}
    cited = [
        by_url.get(url) or source({"url": url}) or _UNLISTED
        for url in map(wire.text, wire.items(data.get("citations")))
    ]
    return tuple((cited or results)[:_MAX_SOURCES])


def plain_marks(text: str) -> str:
    """Return the text with marks like `[web:3]` written as `[3]`."""
    return _MARK.sub(r"[\1]", text)


class MarkFilter:
    """Applies `plain_marks` to text that comes in pieces, holding back begun marks."""

    def __init__(self) -> None:
        self._held = ""

    def take(self, piece: str) -> str:
        """Return what is certain after one more piece."""
        text = plain_marks(self._held + piece)
        begun = _BEGUN_MARK.search(text)
        cut = begun.start() if begun else len(text)
        self._held = text[cut:]
        return text[:cut]

    def rest(self) -> str:
        """Return what was held back, at the end."""
        held, self._held = self._held, ""
        return held
