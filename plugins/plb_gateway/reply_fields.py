"""The parts that several answer bodies share: sources, usage, money."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plb_core.types import Source, Usage


def usd(micro_usd: int | None) -> float | None:
    """Return US dollars for display; None stays unknown."""
    return None if micro_usd is None else micro_usd / 1_000_000


def citations(sources: Sequence[Source]) -> list[str]:
    """Return the address of each source, or its title where it has none."""
    return [each.url or each.title for each in sources]


def search_results(sources: Sequence[Source]) -> list[dict[str, object]]:
    """Return the sources as search results; `[n]` in the text is the one with id n."""
    return [
        {
            "id": number,
            "title": each.title,
            "url": each.url,
            "snippet": each.quote,
            "date": each.published or None,
        }
        for number, each in enumerate(sources, 1)
    ]


def chat_usage(usage: Usage | None, cost_micro_usd: int | None) -> object:
    """Return usage in the chat form with the cost beside it; None when unknown."""
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "cost_usd": usd(cost_micro_usd),
        "estimated": usage.estimated,
    }


def response_usage(usage: Usage | None, cost_micro_usd: int | None) -> object:
    """Return usage in the Responses form; None when unknown."""
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "cost_usd": usd(cost_micro_usd),
        "estimated": usage.estimated,
    }
