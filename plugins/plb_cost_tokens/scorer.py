"""Costs from tokens, requests and searches, in whole micro-dollars, never too low."""

from __future__ import annotations

from typing import Final

import attrs

from plb_core import BackendInfo, Price, Query, Usage, doc
from plb_core.settings import at_least
from plb_cost_tokens.prompt import prompt_bytes

_PER_MTOK: Final = 1_000_000
_MAX_COUNT: Final = 10**9
"""A single answer cannot use a billion tokens or searches; such a report is wrong."""


def _whole(default: int, minimum: int, text: str) -> int:
    field: int = attrs.field(
        default=default, validator=at_least(minimum), metadata=doc(text)
    )
    return field


@attrs.frozen
class TokenCostSettings:
    """`[cost_scorer.NAME]`: the bounds of the ceiling, the habits of the estimate."""

    default_max_output_tokens: int = _whole(
        4096, 1, "Longest answer in tokens, for questions that set no limit."
    )
    max_added_tokens: int = _whole(
        4096, 0, "Most tokens a backend adds to a prompt: instructions, templates."
    )
    max_searches: int = _whole(
        20, 0, "Most web searches one answer makes, where searches have a price."
    )
    max_tokens_per_search: int = _whole(
        10_000, 0, "Most tokens of results the model reads per web search."
    )
    typical_bytes_per_token: int = _whole(
        4, 1, "Bytes of UTF-8 text per token, as the estimate assumes."
    )
    typical_output_tokens: int = _whole(
        400, 0, "Tokens in an answer, as the estimate assumes."
    )
    typical_searches: int = _whole(
        1, 0, "Web searches per answer, as the estimate assumes."
    )
    typical_tokens_per_search: int = _whole(
        3000, 0, "Tokens of results read per web search, as the estimate assumes."
    )


class TokenCost:
    """Reckons with the price in `BackendInfo.traits`; an unknown price gives None.

    Cost: ⌈(input tokens x input price + output tokens x output price) / 10⁶⌉
    + request fee + searches x search price; prices in micro-USD, tokens per million.
    Ceiling: a token per byte of UTF-8, the longest answer, the most searches.
    Memory: none.
    """

    def __init__(self, settings: TokenCostSettings) -> None:
        self._settings = settings

    def ceiling(self, query: Query, info: BackendInfo) -> int | None:
        """Return the most this query can cost, or None for an unknown price."""
        price = info.traits.price
        if price is None:
            return None
        if price.free:
            return 0
        settings = self._settings
        searches = settings.max_searches if price.search_micro_usd else 0
        return _cost(
            price,
            prompt_bytes(query)
            + settings.max_added_tokens
            + searches * settings.max_tokens_per_search,
            self._longest_answer(query),
            searches,
        )

    def estimate(self, query: Query, info: BackendInfo) -> int | None:
        """Return the expected cost, at most the ceiling; None when unknown."""
        price = info.traits.price
        ceiling = self.ceiling(query, info)
        if price is None or ceiling is None:
            return None
        settings = self._settings
        searches = settings.typical_searches if price.search_micro_usd else 0
        input_tokens = -(-prompt_bytes(query) // settings.typical_bytes_per_token)
        expected = _cost(
            price,
            input_tokens + searches * settings.typical_tokens_per_search,
            min(settings.typical_output_tokens, self._longest_answer(query)),
            searches,
        )
        return min(expected, ceiling)

    def actual(self, usage: Usage, info: BackendInfo) -> int | None:
        """Return the cost of what was used, or None when that cannot be known.

        Counts below zero or above a billion are a backend's mistake, not a price.
        """
        price = info.traits.price
        if price is None:
            return None
        if price.free:
            return 0
        counts = (usage.input_tokens, usage.output_tokens, usage.searches)
        if not all(0 <= count <= _MAX_COUNT for count in counts):
            return None
        return _cost(price, *counts)

    def _longest_answer(self, query: Query) -> int:
        if query.max_output_tokens is None:
            return self._settings.default_max_output_tokens
        return max(query.max_output_tokens, 0)


def _cost(price: Price, input_tokens: int, output_tokens: int, searches: int) -> int:
    tokens = (
        input_tokens * price.input_micro_usd_per_mtok
        + output_tokens * price.output_micro_usd_per_mtok
    )
    return (
        -(-tokens // _PER_MTOK)
        + price.request_micro_usd
        + searches * price.search_micro_usd
    )
