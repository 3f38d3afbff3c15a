"""Read embeddings."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from typing import TYPE_CHECKING

from plb_backend_openai import fields
from plb_backend_openai.answers import json_object
from plb_backend_openai.refusals import WHAT
from plb_core import BadAnswer, Embeddings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plb_core.http.client import HttpAnswer

Vector = tuple[float, ...]


def embeddings(answer: HttpAnswer, inputs: Sequence[str], model: str) -> Embeddings:
    """Return one vector per input, in input order, all of one length."""
    data = json_object(answer)
    vectors: dict[int, Vector] = {}
    for place, entry in enumerate(fields.items(data.get("data"))):
        index = fields.table(entry).get("index", place)
        vector = _vector(fields.table(entry).get("embedding"))
        if not isinstance(index, int) or index in vectors or vector is None:
            raise BadAnswer(f"{WHAT} sent a vector that cannot be used")
        vectors[index] = vector
    wanted = range(len(inputs))
    if vectors.keys() != set(wanted):
        raise BadAnswer(f"{WHAT} did not send one vector per input")
    if len({len(vector) for vector in vectors.values()}) > 1:
        raise BadAnswer(f"{WHAT} sent vectors of different lengths")
    characters = sum(map(len, inputs))
    return Embeddings(
        tuple(vectors[index] for index in wanted),
        fields.prompt_usage(data.get("usage"), characters),
        fields.text(data.get("model"))[:200] or model,
    )


def _vector(value: object) -> Vector | None:
    if isinstance(value, str):
        # Some endpoints send packed numbers whatever they were asked for.
        try:
            packed = base64.b64decode(value, validate=True)
            value = list(struct.unpack(f"<{len(packed) // 4}f", packed))
        except (binascii.Error, struct.error, ValueError):
            return None
    if not isinstance(value, list) or not value:
        return None
    for number in value:
        if type(number) not in (float, int) or not math.isfinite(number):
            return None
    return tuple(map(float, value))
