"""Building blocks of the JSON Schemas in the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

Schema = dict[str, object]

STRING: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
OBJECT: Final[Schema] = {"type": "object"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
TOKENS: Final[Schema] = {"type": ["integer", "null"], "minimum": 1}
SHARE: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 1}
ANYTHING: Final[Schema] = {}
USD: Final[Schema] = {"type": ["number", "null"]}
MAYBE_STRING: Final[Schema] = {"type": ["string", "null"]}
MAYBE_FLAG: Final[Schema] = {"type": ["boolean", "null"]}


def record(
    required: Iterable[str] = (), *, closed: bool = False, **properties: Schema
) -> Schema:
    """Return an object schema; a closed one has no other properties."""
    made: Schema = {
        "type": "object",
        "properties": properties,
        "required": list(required),
    }
    if closed:
        made["additionalProperties"] = False
    return made


def listing(items: Schema) -> Schema:
    """Return a list schema."""
    return {"type": "array", "items": items}


def number(minimum: float, maximum: float) -> Schema:
    """Return a nullable number schema."""
    return {"type": ["number", "null"], "minimum": minimum, "maximum": maximum}


def constant(value: object, *, nullable: bool = True) -> Schema:
    """Return a schema for an option of which plb has one value only."""
    return {"enum": [value, None] if nullable and value is not None else [value]}


MODEL: Final[Schema] = {
    "type": ["string", "null"],
    "minLength": 1,
    "maxLength": 200,
    "description": "auto, a route, a track, a backend or a served model.",
}
SEARCH_RESULT: Final = record(
    ("id", "title", "url"),
    id=COUNT,
    title=STRING,
    url=STRING,
    snippet=STRING,
    date=MAYBE_STRING,
)
MESSAGE: Final = record(
    ("role",),
    role={"enum": ["system", "developer", "user", "assistant", "tool"]},
    content={
        "oneOf": [STRING, listing(record(("type",), type=STRING)), {"type": "null"}]
    },
    name=STRING,
    tool_calls=listing(OBJECT),
    tool_call_id=STRING,
)
USAGE: Final[Schema] = {"type": ["object", "null"]}
