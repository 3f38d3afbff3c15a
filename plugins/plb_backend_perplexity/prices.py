"""Dated prices: the shipped table, a user's own, and fresh ones from `/v1/models`.

They serve estimates and limits only; what is billed is read from each answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import ROUND_CEILING, Decimal
from email.utils import parsedate_to_datetime
from typing import Final

import attrs

from plb_backend_perplexity import wire
from plb_backend_perplexity.refusals import refuse
from plb_backend_perplexity.settings import effort_level, is_namespaced
from plb_core import BadAnswer, Price
from plb_core.http.client import HttpClient

MODELS_PATH: Final = "/v1/models"
_UNIT: Final = "usd_per_1m_tokens"
_MAX_USD: Final = Decimal(100_000)


@attrs.frozen
class ModelPrice:
    """US dollars per million tokens; None where the vendor names no price."""

    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cache_write_usd_per_mtok: Decimal | None = None
    cache_read_usd_per_mtok: Decimal | None = None


_WIRE_KEYS: Final = ("input", "output", "cache_write", "cache_read")


@attrs.frozen
class PriceBook:
    """Prices by model, effort level and search type; `as_of` is their day."""

    as_of: date
    source: str = ""
    models: Mapping[str, ModelPrice] = attrs.field(factory=dict)
    efforts: Mapping[str, str] = attrs.field(factory=dict)
    search_usd: Mapping[str, Decimal] = attrs.field(factory=dict)
    search_api_usd: Mapping[str, Decimal] = attrs.field(factory=dict)

    def over(self, base: PriceBook) -> PriceBook:
        """Return `base` with everything that this book says put over it."""
        return PriceBook(
            as_of=self.as_of,
            source=self.source or base.source,
            models={**base.models, **self.models},
            efforts={**base.efforts, **self.efforts},
            search_usd={**base.search_usd, **self.search_usd},
            search_api_usd={**base.search_api_usd, **self.search_api_usd},
        )

    def agent(self, effort: str, model: str | None, search: str | None) -> Price | None:
        """Return the price of an agent call, or None when its model has none here.

        Prompts that are written to a cache cost more than plain input, so the dearer
        of the two counts. Without a search type the dearer one is assumed.
        """
        name = model or self.efforts.get(effort_level(effort) or "", "")
        tokens = self.models.get(name)
        if tokens is None:
            return None
        return Price(
            input_micro_usd_per_mtok=_micro(
                max(
                    tokens.input_usd_per_mtok,
                    tokens.cache_write_usd_per_mtok or Decimal(0),
                )
            ),
            output_micro_usd_per_mtok=_micro(tokens.output_usd_per_mtok),
            search_micro_usd=_micro(_by_type(self.search_usd, search)),
            as_of=self.as_of,
        )

    def search_api(self, search: str | None) -> Price:
        """Return the price of one Search API request."""
        return Price(
            request_micro_usd=_micro(_by_type(self.search_api_usd, search)),
            as_of=self.as_of,
        )


def _by_type(prices: Mapping[str, Decimal], search: str | None) -> Decimal:
    return prices[search] if search else max(prices.values())


def _micro(usd: Decimal) -> int:
    return int((usd * 1_000_000).to_integral_value(rounding=ROUND_CEILING))


def dollars(value: object) -> Decimal | None:
    """Return a plausible amount exactly, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    usd = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return usd if usd.is_finite() and 0 <= usd <= _MAX_USD else None


async def refresh_prices(client: HttpClient, timeout_s: float) -> PriceBook:
    """Return the token prices that `GET /v1/models` names now, dated by the server.

    Models without a complete price in dollars per million tokens are left out. Raises
    the errors of a backend call, and `BadAnswer` when no model has a price or the
    response no date.
    """
    answer = await client.request("GET", MODELS_PATH, timeout_s=timeout_s)
    if answer.status not in range(200, 300):
        raise refuse(answer)
    models: dict[str, ModelPrice] = {}
    for model in map(wire.table, wire.items(wire.table(answer.data).get("data"))):
        price = _model_price(wire.table(model.get("pricing")))
        name = wire.text(model.get("id"))
        if price is not None and is_namespaced(name):
            models[name] = price
    if not models:
        message = "the list of models names no prices"
        raise BadAnswer(message)
    return PriceBook(_day(answer.headers), "GET /v1/models", models)


def _model_price(pricing: Mapping[str, object]) -> ModelPrice | None:
    usd = [dollars(pricing.get(name)) for name in _WIRE_KEYS]
    if pricing.get("unit") != _UNIT or usd[0] is None or usd[1] is None:
        return None
    return ModelPrice(usd[0], usd[1], usd[2], usd[3])


def _day(headers: Mapping[str, str]) -> date:
    try:
        return parsedate_to_datetime(headers.get("date", "")).date()
    except (TypeError, ValueError, OverflowError) as error:
        message = "the list of models comes without a usable Date header"
        raise BadAnswer(message) from error
