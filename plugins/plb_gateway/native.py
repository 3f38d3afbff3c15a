"""plb's own routes: ask, rate, explain, and whether it is alive and ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from plb_core.types import Query
from plb_gateway import fields
from plb_gateway.answers import json_answer
from plb_gateway.chat_request import output_tokens
from plb_gateway.errors import Refusal
from plb_gateway.reply_fields import usd

if TYPE_CHECKING:
    from aiohttp import web

    from plb_core.replies import Reply
    from plb_gateway.client_hints import Hints
    from plb_gateway.exchange import Exchange

Value = TypeVar("Value")

_QUERY: Final = frozenset(
    {
        "attributes",
        "max_cost_usd",
        "max_output_tokens",
        "model",
        "question",
        "region",
        "session",
        "stream",
    }
)
_FEEDBACK: Final = frozenset({"dimensions", "rating", "request_id"})
_MOST_ENTRIES: Final = 16
_MOST_TOKENS: Final = "max_output_tokens"
_cost_usd = fields.number(0, 1_000_000)
_share = fields.number(0, 1)


async def ask(exchange: Exchange) -> web.StreamResponse:
    """`POST /api/query`: answer a question."""
    query = read_query(await exchange.body(), exchange.hints())
    reply = await exchange.balancer.ask(query)
    return json_answer(answer_body(reply), exchange.reply_headers(reply))


def read_query(body: Mapping[str, object], hints: Hints) -> Query:
    """Return the checked question; raise `Refusal` naming what is wrong."""
    fields.only_known(body, _QUERY, "")
    if body.get("stream") not in (None, False):
        raise fields.unsupported("stream", "stream with /v1/chat/completions.")
    if body.get("question") is None:
        raise fields.missing("question")
    question = fields.text(body["question"], "question")
    if not question.strip():
        raise fields.wrong("question", "a text that is not empty")
    cost, most = body.get("max_cost_usd"), body.get("max_output_tokens")
    model, given = body.get("model"), body.get("attributes")
    attributes = {} if given is None else _entries(given, "attributes", fields.key)
    return Query(
        question,
        model="auto" if model is None else fields.model_name(model),
        session=_short(body, "session") or hints.session,
        max_output_tokens=None if most is None else output_tokens(most, _MOST_TOKENS),
        region=_short(body, "region") or hints.region,
        budget_micro_usd=None if cost is None else _micro_usd(cost),
        attributes={**attributes, **hints.attributes},
        deadline_s=hints.deadline_s,
    )


def _short(body: Mapping[str, object], name: str) -> str:
    value = body.get(name)
    return "" if value is None else fields.key(value, name)


def _micro_usd(value: object) -> int:
    usd_limit = _cost_usd(value, "max_cost_usd")
    # Rounded down: a cap is never exceeded by rounding.
    return int(Decimal(repr(usd_limit)) * 1_000_000)


def _entries(
    value: object, param: str, check: Callable[[object, str], Value]
) -> dict[str, Value]:
    table = fields.mapping(value, param)
    if len(table) > _MOST_ENTRIES:
        raise fields.wrong(param, f"at most {_MOST_ENTRIES} entries")
    return {
        str(fields.key(name, param)): check(each, f"{param}.{name}")
        for name, each in table.items()
    }


def answer_body(reply: Reply) -> dict[str, object]:
    """Return an answer with everything plb knows about it."""
    answer = reply.answer
    usage = answer.usage
    return {
        "request_id": reply.request_id,
        "answer": answer.text,
        "sources": [attrs.asdict(each) for each in answer.sources],
        "label": answer.label,
        "llm_generated": answer.llm_generated,
        "finish_reason": answer.finish_reason,
        "backend": reply.backend,
        "model": answer.model,
        "track": reply.track,
        "algorithm": reply.algorithm,
        "attempts": reply.attempts,
        "cost_usd": usd(reply.cost_micro_usd),
        "quality": None if reply.quality is None else dict(reply.quality),
        "usage": None if usage is None else attrs.asdict(usage),
        "latency_ms": round(reply.latency_s * 1000, 3),
    }


async def feedback(exchange: Exchange) -> web.StreamResponse:
    """`POST /api/feedback`: take a verdict on an earlier answer."""
    body = await exchange.body()
    fields.only_known(body, _FEEDBACK, "")
    if body.get("request_id") is None:
        raise fields.missing("request_id")
    request_id = fields.key(body["request_id"], "request_id")
    ratings = _ratings(body.get("rating"), body.get("dimensions"))
    exchange.balancer.rate(request_id, ratings)
    answer = {"request_id": request_id, "accepted": ratings}
    return json_answer(answer, exchange.plain_headers())


def _ratings(rating: object, dimensions: object) -> dict[str, float]:
    if (rating is None) == (dimensions is None):
        raise fields.wrong("rating", "either rating or dimensions")
    if dimensions is None:
        return {"user_satisfaction": _share(rating, "rating")}
    table = _entries(dimensions, "dimensions", _share)
    if not table:
        raise fields.wrong("dimensions", "at least one entry")
    return table


async def explain(exchange: Exchange) -> web.StreamResponse:
    """`GET /api/explain/{request_id}`: why this backend."""
    why = exchange.balancer.explain(exchange.tail)
    return json_answer(why, exchange.plain_headers())


async def healthz(exchange: Exchange) -> web.StreamResponse:
    """`GET /healthz`: the process answers."""
    return json_answer({"status": "ok"}, exchange.plain_headers())


async def readyz(exchange: Exchange) -> web.StreamResponse:
    """`GET /readyz`: some backend of the default track is open."""
    if not exchange.balancer.ready():
        raise Refusal("not_ready")
    return json_answer({"status": "ready"}, exchange.plain_headers())
