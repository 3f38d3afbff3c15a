"""Which function answers which method and path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from plb_gateway import native
from plb_gateway.errors import Refusal
from plb_gateway.openai_chat import chat_completions
from plb_gateway.openai_embeddings import embeddings
from plb_gateway.openai_models import list_models, show_model
from plb_gateway.openai_responses import responses
from plb_gateway.openapi import show_openapi

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from plb_gateway.exchange import Exchange

    Answerer = Callable[[Exchange], Awaitable[web.StreamResponse]]

# The paths without /v1 are for clients whose base URL lacks it.
EXACT: Final[Mapping[str, tuple[str, Answerer]]] = MappingProxyType(
    {
        "/v1/chat/completions": ("POST", chat_completions),
        "/chat/completions": ("POST", chat_completions),
        "/v1/responses": ("POST", responses),
        "/v1/embeddings": ("POST", embeddings),
        "/v1/models": ("GET", list_models),
        "/api/query": ("POST", native.ask),
        "/api/feedback": ("POST", native.feedback),
        "/healthz": ("GET", native.healthz),
        "/readyz": ("GET", native.readyz),
        "/openapi.json": ("GET", show_openapi),
    }
)

# The rest of the path, decoded, becomes `Exchange.tail`.
PREFIXED: Final[Mapping[str, tuple[str, Answerer]]] = MappingProxyType(
    {
        "/v1/models/": ("GET", show_model),
        "/api/explain/": ("GET", native.explain),
    }
)

OPEN: Final = frozenset({"/healthz", "/readyz"})
"""Paths that need no token."""


def find_route(method: str, path: str) -> tuple[Answerer, str]:
    """Return the function and the tail for a path without its query string.

    Raises `Refusal` for an unknown path or a method the path does not have.
    """
    found, tail = EXACT.get(path), ""
    if found is None:
        for prefix, route in PREFIXED.items():
            if path.startswith(prefix) and len(path) > len(prefix):
                found, tail = route, unquote(path[len(prefix) :])
                break
        else:
            message = "There is no such route; /openapi.json lists them."
            raise Refusal("route_not_found", message, close=method == "CONNECT")
    allowed, answerer = found
    # aiohttp leaves the body out when the method was HEAD.
    if method != allowed and not (method == "HEAD" and allowed == "GET"):
        message = f"This route has the method {allowed} only."
        allow = "GET, HEAD" if allowed == "GET" else allowed
        raise Refusal("method_not_allowed", message, allow=allow)
    return answerer, tail
