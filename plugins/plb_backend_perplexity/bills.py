"""Tokens, searches and cost as Perplexity reports them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Final

from plb_backend_perplexity import wire
from plb_core import Usage

Flag = Callable[[str], None]
"""Called with a fixed text when a reported number cannot be true and is ignored."""

_MAX_COUNT: Final = 10**9
_MAX_USD: Final = Decimal(1000)
"""No single question costs this much; the dearest seen cost six cents."""
_MICRO: Final = Decimal(1_000_000)


def usage(reported: object, flag: Flag) -> Usage | None:
    """Return what was used, or None when nothing usable was reported."""
    if not isinstance(reported, Mapping):
        return None
    names = ("input_tokens", "output_tokens")
    if "input_tokens" not in reported:
        names = ("prompt_tokens", "completion_tokens")
    tokens = [wire.count(reported.get(name), _MAX_COUNT) for name in names]
    if tokens[0] is None or tokens[1] is None:
        flag("the reported token counts are impossible and were ignored")
        return None
    return Usage(tokens[0], tokens[1], searches=_searches(reported))


def _searches(reported: Mapping[str, object]) -> int:
    in_chat_form = wire.count(reported.get("num_search_queries"), _MAX_COUNT) or 0
    tools = wire.table(reported.get("tool_calls_details"))
    return in_chat_form + sum(
        wire.count(wire.table(details).get("invocation"), _MAX_COUNT) or 0
        for name, details in tools.items()
        if "search" in name
    )


def cost_micro_usd(reported: object, flag: Flag) -> int | None:
    """Return the reported total cost rounded up, or None when there is none.

    `usage.cost.total_cost` is what is billed. A negative, endless or absurd number,
    or another currency, is flagged and ignored.
    """
    cost = wire.table(wire.table(reported).get("cost"))
    total = cost.get("total_cost")
    if total is None:
        return None
    possible = (
        isinstance(total, int | float)
        and not isinstance(total, bool)
        and math.isfinite(total)
        and 0 <= total <= _MAX_USD
        and cost.get("currency") in (None, "USD")
    )
    if not possible:
        flag("the reported cost is impossible and was ignored")
        return None
    # Through its shortest text, so that 0.00125 is 1250 and not a hair more.
    exact = Decimal(repr(total)) * _MICRO
    return int(exact.to_integral_value(rounding=ROUND_CEILING))
