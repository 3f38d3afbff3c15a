"""`POST /v1/embeddings`, as numbers or as base64."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Final

import attrs

from plb_core.types import NOTHING, Query
from plb_gateway import fields
from plb_gateway.answers import json_answer
from plb_gateway.reply_fields import usd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiohttp import web

    from plb_core.replies import EmbeddingsReply
    from plb_gateway.client_hints import Hints
    from plb_gateway.exchange import Exchange

_KNOWN: Final = frozenset({"dimensions", "encoding_format", "input", "model", "user"})
_MOST_INPUTS: Final = 2048
_FORMATS: Final = ("float", "base64")
_dimensions = fields.whole(1, 65_536)


@attrs.frozen
class EmbeddingsRequest:
    """What the body asks for."""

    query: Query
    inputs: list[str]
    as_base64: bool


async def embeddings(exchange: Exchange) -> web.StreamResponse:
    """Return one vector per input."""
    asked = read_embeddings(await exchange.body(), exchange.hints())
    reply = await exchange.balancer.embed(asked.query, asked.inputs)
    return json_answer(vectors(reply, asked.as_base64), exchange.reply_headers(reply))


def read_embeddings(body: Mapping[str, object], hints: Hints) -> EmbeddingsRequest:
    """Return the checked request; raise `Refusal` naming what is wrong."""
    fields.only_known(body, _KNOWN, "")
    model = body.get("model")
    user = body.get("user")
    dimensions = body.get("dimensions")
    options = NOTHING
    if dimensions is not None:
        options = {"dimensions": _dimensions(dimensions, "dimensions")}
    encoding = body.get("encoding_format")
    if encoding is not None and encoding not in _FORMATS:
        raise fields.wrong("encoding_format", "'float' or 'base64'")
    query = Query(
        "",
        model="auto" if model is None else fields.model_name(model),
        session=hints.session or ("" if user is None else fields.key(user, "user")),
        options=options,
        region=hints.region,
        attributes=hints.attributes,
        deadline_s=hints.deadline_s,
    )
    return EmbeddingsRequest(query, _inputs(body.get("input")), encoding == "base64")


def _inputs(value: object) -> list[str]:
    if value is None:
        raise fields.missing("input")
    given = [value] if isinstance(value, str) else fields.listing(value, "input")
    if not 1 <= len(given) <= _MOST_INPUTS:
        raise fields.wrong("input", f"1 to {_MOST_INPUTS} texts")
    texts = []
    for index, each in enumerate(given):
        place = f"input[{index}]"
        if isinstance(each, int | list):
            advice = "send text; token numbers mean different words to each backend."
            raise fields.unsupported(place, advice)
        text = fields.text(each, place)
        if not text:
            raise fields.wrong(place, "a text that is not empty")
        texts.append(text)
    return texts


def vectors(reply: EmbeddingsReply, as_base64: bool) -> dict[str, object]:
    """Return the body of the answer."""
    made = reply.embeddings
    tokens = None if made.usage is None else made.usage.input_tokens
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": packed(vector) if as_base64 else vector,
            }
            for index, vector in enumerate(made.vectors)
        ],
        "model": made.model or reply.backend,
        "usage": {
            "prompt_tokens": tokens,
            "total_tokens": tokens,
            "cost_usd": usd(reply.cost_micro_usd),
        },
    }


def packed(vector: Sequence[float]) -> str:
    """Return the base64 of little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
