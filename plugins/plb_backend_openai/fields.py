"""Read single fields of answers that need not be what they should be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Final

from plb_core import Source, Usage
from plb_core.types import NOTHING

_MAX_TOKENS: Final = 100_000_000
"""No call uses more; a higher count is a mistake of the endpoint."""

_MAX_COST_USD: Final = 1000
_MAX_SOURCES: Final = 100
_MAX_TEXT: Final = 2000
_CHARACTERS_PER_TOKEN: Final = 4
"""The usual rule of thumb for English text."""


def table(value: object) -> Mapping[str, object]:
    """Return a JSON object, or an empty one for anything else."""
    return value if isinstance(value, dict) else NOTHING


def items(value: object) -> Sequence[object]:
    """Return a JSON array, or an empty one for anything else."""
    return value if isinstance(value, list) else ()


def text(value: object) -> str:
    """Return a string, or "" for anything else."""
    return value if isinstance(value, str) else ""


def estimated_tokens(characters: int) -> int:
    """Return about how many tokens so many characters are."""
    return -(-characters // _CHARACTERS_PER_TOKEN)


def usage(value: object) -> Usage | None:
    """Return the reported token counts; None when there are none or they are absurd."""
    counts = table(value)
    prompt = _count(counts.get("prompt_tokens"))
    completion = _count(counts.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    return Usage(prompt, completion)


def estimated_usage(prompt_characters: int, answer_characters: int) -> Usage:
    """Return token counts guessed from lengths."""
    return Usage(
        estimated_tokens(prompt_characters),
        estimated_tokens(answer_characters),
        estimated=True,
    )


def prompt_usage(value: object, prompt_characters: int) -> Usage:
    """Return the reported count of input tokens, or an estimated one."""
    prompt = _count(table(value).get("prompt_tokens"))
    if prompt is None:
        return Usage(estimated_tokens(prompt_characters), estimated=True)
    return Usage(prompt)


def _count(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value <= _MAX_TOKENS else None
    return None


def cost_micro_usd(value: object) -> int | None:
    """Return what `usage` says was billed, rounded up; None when it does not say."""
    cost = table(value).get("cost")
    if isinstance(cost, dict):
        cost = cost.get("total_cost")
    if isinstance(cost, bool) or not isinstance(cost, int | float):
        return None
    if not math.isfinite(cost) or not 0 <= cost <= _MAX_COST_USD:
        return None
    micro = Decimal(str(cost)) * 1_000_000
    return int(micro.to_integral_value(rounding=ROUND_CEILING))


def sources(
    answer: Mapping[str, object], message: Mapping[str, object]
) -> tuple[Source, ...]:
    """Return the cited sources, from the richest of the forms that are in use."""
    listed: Sequence[object] = (
        items(answer.get("search_results"))
        or items(answer.get("citations"))
        or items(message.get("citations"))
        or [
            table(note).get("url_citation") or note
            for note in items(message.get("annotations"))
            if table(note).get("type") == "url_citation"
        ]
    )
    if not listed:
        return ()
    made = [_source(each) for each in listed[:_MAX_SOURCES]]
    return tuple(dict.fromkeys(each for each in made if each is not None))


def _source(value: object) -> Source | None:
    if isinstance(value, str):
        value = {"url": value}
    entry = table(value)
    url = text(entry.get("url")).strip()
    if not url.startswith(("http://", "https://")) or len(url) > _MAX_TEXT:
        return None
    title = " ".join(text(entry.get("title")).split())[:_MAX_TEXT]
    quote = text(entry.get("snippet")) or text(entry.get("content"))
    return Source(
        title=title or url,
        url=url,
        quote=quote[:_MAX_TEXT],
        published=text(entry.get("date"))[:40],
    )
