"""The models of the emulated Perplexity, with their prices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from plb_core.types import Price

MODELS: Final[Mapping[str, Price]] = {
    "openai/gpt-6-luna": Price(100_000, 500_000, 0, 1_000),
    "perplexity/sonar": Price(250_000, 2_500_000, 0, 2_500),
    "anthropic/claude-haiku-5": Price(1_000_000, 5_000_000, 0, 2_500),
}
_CACHE_WRITE_USD: Final = {"openai/gpt-6-luna": 0.125, "anthropic/claude-haiku-5": 1.25}
"""Dearer than plain input; a model of Perplexity's own has none."""


def model_list(created: int) -> dict[str, object]:
    """Return the body of `/v1/models`."""
    data = [
        {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": name.partition("/")[0],
            "pricing": _pricing(name, price),
        }
        for name, price in MODELS.items()
    ]
    return {"object": "list", "data": data}


def _pricing(name: str, price: Price) -> dict[str, object]:
    pricing: dict[str, object] = {
        "unit": "usd_per_1m_tokens",
        "input": price.input_micro_usd_per_mtok / 1e6,
        "output": price.output_micro_usd_per_mtok / 1e6,
        "cache_read": price.input_micro_usd_per_mtok / 1e7,
    }
    if name in _CACHE_WRITE_USD:
        pricing["cache_write"] = _CACHE_WRITE_USD[name]
    return pricing
