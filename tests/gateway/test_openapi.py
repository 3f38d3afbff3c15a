"""The shipped OpenAPI document tells the truth about routes and bodies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from plb_core.errors import PlbError
from plb_gateway import chat_request, native, openai_embeddings, responses_request
from plb_gateway.catalogue import CATALOGUE
from plb_gateway.openapi import document
from plb_gateway.openapi_schemas import ALL
from plb_gateway.routes import EXACT, PREFIXED
from tests.gateway.gateway_raw import chat, get, send
from tests.gateway.gateway_setup import Served

Schema = dict[str, Any]
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}
WORDS = {
    *("type", "properties", "required", "additionalProperties", "items", "enum"),
    *("const", "oneOf", "minimum", "maximum", "minLength", "maxLength"),
    "description",
}


def of_type(value: object, name: str) -> bool:
    if isinstance(value, bool) and name in ("integer", "number"):
        return False
    return isinstance(value, TYPES[name])


def faults(value: Any, schema: Schema, place: str = "$") -> list[str]:
    """Check the JSON Schema words that the document uses, and no others."""
    assert schema.keys() <= WORDS, schema.keys() - WORDS
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(of_type(value, kind) for kind in kinds):
        return [f"{place}: not {kinds}"]
    fits = [not faults(value, each, place) for each in schema.get("oneOf", ())]
    wrong = {
        "enum": "enum" in schema and value not in schema["enum"],
        "const": "const" in schema and value != schema["const"],
        "oneOf": bool(fits) and sum(fits) != 1,
        "range": of_type(value, "number") and not in_range(value, schema),
        "length": isinstance(value, str) and not fits_length(value, schema),
    }
    found = [f"{place}: {word}" for word, is_wrong in wrong.items() if is_wrong]
    if isinstance(value, dict):
        found += members(value, schema, place)
    if isinstance(value, list) and "items" in schema:
        for index, each in enumerate(value):
            found += faults(each, schema["items"], f"{place}[{index}]")
    return found


def in_range(value: float, schema: Schema) -> bool:
    return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))


def fits_length(value: str, schema: Schema) -> bool:
    size = len(value)
    return bool(schema.get("minLength", 0) <= size <= schema.get("maxLength", size))


def members(value: dict[str, Any], schema: Schema, place: str) -> list[str]:
    known = schema.get("properties", {})
    lacking = [name for name in schema.get("required", ()) if name not in value]
    found = [f"{place}: lacks {name}" for name in lacking]
    for name, each in value.items():
        inner = known.get(name, schema.get("additionalProperties", {}))
        if inner is False:
            found.append(f"{place}: unknown {name}")
        else:
            found += faults(each, inner, f"{place}.{name}")
    return found


def plain() -> Any:
    """Return the document as a client reads it."""
    return json.loads(json.dumps(document(), default=dict))


def check(value: object, name: str) -> None:
    assert faults(value, ALL[name]) == []


@pytest.mark.asyncio
async def test_is_served(served: Served) -> None:
    status, _, body = await get(served, "/openapi.json")
    assert status == 200
    assert body == plain()
    assert body["openapi"] == "3.1.0"


def test_lists_exactly_the_routes() -> None:
    written = {
        (path, method.upper())
        for path, methods in plain()["paths"].items()
        for method in methods
    }
    served = {(path, method) for path, (method, _) in EXACT.items()}
    tails = {"/v1/models/": "{id}", "/api/explain/": "{request_id}"}
    served |= {
        (prefix + tails[prefix], method) for prefix, (method, _) in PREFIXED.items()
    }
    assert written == served


def test_operation_ids_are_unique_and_references_resolve() -> None:
    body = plain()
    operations = [each for path in body["paths"].values() for each in path.values()]
    names = [each["operationId"] for each in operations]
    assert len(set(names)) == len(names)

    def references(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for each in node.values():
                yield from references(each)
        elif isinstance(node, list):
            for each in node:
                yield from references(each)

    for reference in references(body):
        node = body
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("ChatRequest", chat_request._KNOWN),
        ("ResponsesRequest", responses_request._KNOWN),
        ("EmbeddingsRequest", openai_embeddings._KNOWN),
        ("Question", native._QUERY),
        ("Feedback", native._FEEDBACK),
    ],
)
def test_request_schemas_have_exactly_the_known_fields(
    name: str, known: frozenset[str]
) -> None:
    properties: Any = ALL[name]["properties"]
    assert set(properties) == known


BODIES = [
    ("/v1/chat/completions", "ChatRequest", "ChatAnswer", chat(model="auto", n=1)),
    ("/chat/completions", "ChatRequest", "ChatAnswer", chat(stop=["a"], user=None)),
    ("/v1/responses", "ResponsesRequest", "ResponsesAnswer", {"input": "Cell?"}),
    ("/v1/embeddings", "EmbeddingsRequest", "EmbeddingsAnswer", {"input": ["a"]}),
    (
        "/v1/embeddings",
        "EmbeddingsRequest",
        "EmbeddingsAnswer",
        {"input": "a", "encoding_format": "base64"},
    ),
    ("/api/query", "Question", "Answer", {"question": "x", "max_cost_usd": 1}),
]


@pytest.mark.parametrize(("path", "asked", "answered", "body"), BODIES)
@pytest.mark.asyncio
async def test_bodies_fit_their_schemas(
    served: Served, path: str, asked: str, answered: str, body: Any
) -> None:
    check(body, asked)
    status, answer = await send(served, body, path)
    assert status == 200
    check(answer, answered)


@pytest.mark.asyncio
async def test_the_other_answers_fit_too(served: Served) -> None:
    _, answer = await send(served, {"question": "x"}, "/api/query")
    request_id = answer["request_id"]
    verdict = {"request_id": request_id, "dimensions": {"relevance": 1}}
    check(verdict, "Feedback")
    check((await send(served, verdict, "/api/feedback"))[1], "Accepted")
    check((await get(served, f"/api/explain/{request_id}"))[2], "Explanation")
    check((await get(served, "/v1/models"))[2], "Models")
    check((await get(served, "/v1/models/one"))[2], "Model")
    check((await get(served, "/healthz"))[2], "Status")
    check((await get(served, "/nothing"))[2], "Error")


def test_the_schema_refuses_what_the_gateway_refuses_by_form() -> None:
    assert faults(chat(api_base="x"), ALL["ChatRequest"])
    assert faults({}, ALL["ChatRequest"])
    assert faults(chat(temperature=3), ALL["ChatRequest"])
    assert faults(chat(n=2), ALL["ChatRequest"])


def test_every_request_error_of_the_core_has_an_entry() -> None:
    def tree(kind: type[PlbError]) -> Iterator[type[PlbError]]:
        yield kind
        for each in kind.__subclasses__():
            yield from tree(each)

    own = {"model_not_found", "request_not_found", "no_backend_available", "no_answer"}
    codes = {kind.code for kind in tree(PlbError)}
    assert own <= codes
    assert own <= CATALOGUE.keys()
