"""The OpenAPI 3.1 document of the gateway, built once from the tables in the code."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from plb_gateway import openapi_schemas as schemas
from plb_gateway.answers import json_answer
from plb_gateway.catalogue import CATALOGUE

if TYPE_CHECKING:
    from aiohttp import web

    from plb_gateway.exchange import Exchange

_HINTS: Final = {
    "x-plb-session": "Keeps requests of one conversation together.",
    "x-plb-region": "Where the client is.",
    "x-plb-tenant": "Whose request it is.",
    "x-plb-timeout-ms": "Milliseconds the whole answer may take.",
}


async def show_openapi(exchange: Exchange) -> web.StreamResponse:
    """`GET /openapi.json`: this document."""
    return json_answer(document(), exchange.plain_headers())


@cache
def document() -> dict[str, object]:
    """Return the document; callers do not change it."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "plb",
            "version": "1",
            "description": "A load balancer for answer engines.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": _paths(),
        "components": {
            "schemas": schemas.ALL,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "parameters": {
                name: {
                    "name": name,
                    "in": "header",
                    "description": meaning,
                    "schema": {"type": "string", "maxLength": 256},
                }
                for name, meaning in _HINTS.items()
            },
            "responses": {
                "Error": {
                    "description": "Codes: " + ", ".join(CATALOGUE),
                    "content": _json("Error"),
                }
            },
        },
        "security": [{"token": []}, {}],
    }


def _paths() -> dict[str, object]:
    chat = _post("Answer a conversation", "ChatRequest", "ChatAnswer", stream=True)
    twin = {**chat, "operationId": "chat_completions_without_v1"}
    return {
        "/v1/chat/completions": {"post": {**chat, "operationId": "chat_completions"}},
        "/chat/completions": {"post": twin},
        "/v1/responses": {
            "post": {
                **_post(
                    "Answer in the Responses form",
                    "ResponsesRequest",
                    "ResponsesAnswer",
                    stream=True,
                ),
                "operationId": "responses",
            }
        },
        "/v1/embeddings": {
            "post": {
                **_post("Embed texts", "EmbeddingsRequest", "EmbeddingsAnswer"),
                "operationId": "embeddings",
            }
        },
        "/v1/models": {"get": _get("list_models", "List the names", "Models")},
        "/v1/models/{id}": {
            "get": _get("show_model", "Show one name", "Model", tail="id")
        },
        "/api/query": {
            "post": {
                **_post("Answer a question", "Question", "Answer"),
                "operationId": "query",
            }
        },
        "/api/feedback": {
            "post": {
                **_post("Rate an answer", "Feedback", "Accepted", hints=False),
                "operationId": "feedback",
            }
        },
        "/api/explain/{request_id}": {
            "get": _get("explain", "Why this backend", "Explanation", tail="request_id")
        },
        "/healthz": {"get": _open("healthz", "The process answers")},
        "/readyz": {"get": _open("readyz", "Some backend is open")},
        "/openapi.json": {"get": _get("openapi", "This document", "Document")},
    }


def _open(operation: str, summary: str) -> dict[str, object]:
    return {**_get(operation, summary, "Status"), "security": [{}]}


def _get(
    operation: str, summary: str, schema: str, tail: str = ""
) -> dict[str, object]:
    made: dict[str, object] = {
        "operationId": operation,
        "summary": summary,
        "responses": _responses(_json(schema)),
    }
    if tail:
        made["parameters"] = [
            {"name": tail, "in": "path", "required": True, "schema": {"type": "string"}}
        ]
    return made


def _post(
    summary: str, asked: str, answered: str, *, stream: bool = False, hints: bool = True
) -> dict[str, object]:
    content = _json(answered)
    if stream:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    parameters = [{"$ref": f"#/components/parameters/{name}"} for name in _HINTS]
    return {
        "summary": summary,
        "parameters": parameters if hints else [],
        "requestBody": {"required": True, "content": _json(asked)},
        "responses": _responses(content),
    }


def _responses(content: dict[str, object]) -> dict[str, object]:
    header = {"schema": {"type": "string"}, "description": "Names the request."}
    return {
        "200": {
            "description": "Done",
            "headers": {"x-request-id": header},
            "content": content,
        },
        "default": {"$ref": "#/components/responses/Error"},
    }


def _json(schema: str) -> dict[str, object]:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {"application/json": {"schema": reference}}
