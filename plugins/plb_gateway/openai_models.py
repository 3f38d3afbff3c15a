"""`GET /v1/models` and `GET /v1/models/{id}`: every name a request may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plb_gateway.answers import json_answer
from plb_gateway.errors import Refusal

if TYPE_CHECKING:
    from aiohttp import web

    from plb_gateway.exchange import Exchange


async def list_models(exchange: Exchange) -> web.StreamResponse:
    """List the names."""
    names = exchange.balancer.plan.model_names()
    body = {"object": "list", "data": [_model(name) for name in names]}
    return json_answer(body, exchange.plain_headers())


async def show_model(exchange: Exchange) -> web.StreamResponse:
    """Show one name."""
    name = exchange.tail
    if name not in exchange.balancer.plan.model_names():
        raise Refusal("model_not_found", param="model")
    return json_answer(_model(name), exchange.plain_headers())


def _model(name: str) -> dict[str, object]:
    # plb does not know when a model was made; 0 is the form's "unknown".
    return {"id": name, "object": "model", "created": 0, "owned_by": "plb"}
