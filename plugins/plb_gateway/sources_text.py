"""What follows an answer's text: its numbered sources and its notice."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plb_core import Answer, Source

HEADING: Final = "Sources:"
_OWN_LIST: Final = re.compile(
    r"^[ \t#*_]*(?:sources|references|citations|bibliography)[ \t:*_]*$",
    re.IGNORECASE | re.MULTILINE,
)


def appendix(answer: Answer, *, with_sources: bool) -> str:
    """Return the text to show after `answer.text`; "" when there is none.

    Structured output and tool calls stay as they are: the caller leaves those out.
    """
    parts = []
    if with_sources and answer.sources and not lists_sources(answer):
        parts.append("\n".join([HEADING, *_numbered(answer.sources)]))
    if answer.label and answer.label not in answer.text:
        parts.append(answer.label)
    return "".join(f"\n\n{part}" for part in parts)


def lists_sources(answer: Answer) -> bool:
    """Tell whether the text has a list of sources or names each of them."""
    if _OWN_LIST.search(answer.text):
        return True
    return all((each.url or each.title) in answer.text for each in answer.sources)


def _numbered(sources: Sequence[Source]) -> list[str]:
    return [f"{i}. {_shown(each)}" for i, each in enumerate(sources, 1)]


def _shown(source: Source) -> str:
    # A title from the web must not be able to open a new line, or a new section.
    parts = (" ".join(each.split()) for each in (source.title, source.url))
    return " - ".join(dict.fromkeys(part for part in parts if part))
