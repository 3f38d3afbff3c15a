"""Build the request body for a question, in either form of the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from plb_backend_perplexity import wire
from plb_backend_perplexity.settings import (
    PerplexitySettings,
    SearchFilters,
    effort_level,
)
from plb_core import ModelMap, NoAnswer, Query

AGENT_PATH: Final = "/v1/responses"
CHAT_PATH: Final = "/chat/completions"

_ROLES: Final = frozenset({"system", "developer", "user", "assistant"})
_AGENT_OPTIONS: Final = ("temperature", "top_p", "response_format")
_CHAT_OPTIONS: Final = (
    *_AGENT_OPTIONS,
    "stop",
    "frequency_penalty",
    "presence_penalty",
)
_IN_BACKGROUND: Final = frozenset({"medium", "high", "xhigh"})
"""Levels that think for a minute or more; a held connection would be cut."""


@attrs.frozen
class Call:
    """One request. `model_from_client` is True when the client named the model."""

    path: str
    body: Mapping[str, object]
    background: bool = False
    model_from_client: bool = False


class RequestBuilder:
    """Builds calls for one configured backend."""

    def __init__(
        self, settings: PerplexitySettings, models: ModelMap, name: str
    ) -> None:
        self._settings = settings
        self._models = models
        self._name = name

    def build(self, query: Query, *, stream: bool) -> Call:
        """Return the call for a question; raises `NoAnswer` for what it cannot say."""
        name = self._models.upstream(query.model)
        if name in ("auto", self._name):
            name = None
        body: dict[str, object] = {}
        if self._settings.api == "chat":
            body |= self._chat_body(query, name)
            background = False
        else:
            effort = self._settings.effort
            model = self._settings.model
            if name is not None and effort_level(name):
                effort = name
            elif name is not None:
                model = name
            background = effort_level(effort) in _IN_BACKGROUND
            body |= self._agent_body(query, effort, model)
        if background:
            body["background"] = True
        elif stream:
            body["stream"] = True
        return Call(
            path=CHAT_PATH if self._settings.api == "chat" else AGENT_PATH,
            body=body,
            background=background,
            model_from_client=name == query.model and name not in self._models.exact,
        )

    def _agent_body(
        self, query: Query, effort: str, model: str | None
    ) -> dict[str, object]:
        settings = self._settings
        body: dict[str, object] = {
            "input": _input(query),
            "effort": effort or None,
            "model": model,
            "instructions": settings.instructions,
            "max_steps": settings.max_steps,
            "max_output_tokens": query.max_output_tokens or settings.max_output_tokens,
        }
        # A bare model searches nothing; an effort level brings its own search tool.
        if not effort or settings.search != SearchFilters():
            body["tools"] = [_search_tool(settings.search)]
        body |= _options(query, _AGENT_OPTIONS)
        return _without_none(body)

    def _chat_body(self, query: Query, name: str | None) -> dict[str, object]:
        settings = self._settings
        messages = _messages(query)
        if settings.instructions:
            messages.insert(0, {"role": "system", "content": settings.instructions})
        body: dict[str, object] = {
            "model": name or settings.model,
            "messages": messages,
            "max_tokens": query.max_output_tokens or settings.max_output_tokens,
            "web_search_options": _search_options(settings.search) or None,
            **search_filters(settings.search),
            **_options(query, _CHAT_OPTIONS),
        }
        return _without_none(body)


def search_filters(search: SearchFilters) -> dict[str, object]:
    """Return the filters under the names every Perplexity endpoint gives them."""
    return _without_none(
        {
            "search_domain_filter": list(search.domains) or None,
            "search_recency_filter": search.recency,
            "search_after_date_filter": search.after and f"{search.after:%m/%d/%Y}",
            "search_before_date_filter": search.before and f"{search.before:%m/%d/%Y}",
        }
    )


def _search_options(search: SearchFilters) -> dict[str, object]:
    return _without_none(
        {
            "search_context_size": search.context_size,
            "search_type": search.type,
            "user_location": search.country and {"country": search.country},
        }
    )


def _search_tool(search: SearchFilters) -> dict[str, object]:
    filters = search_filters(search)
    tool: dict[str, object] = {"type": "web_search", **_search_options(search)}
    if filters:
        tool["filters"] = filters
    return tool


def _input(query: Query) -> object:
    messages = _messages(query)
    if len(messages) == 1 and messages[0]["role"] == "user":
        return messages[0]["content"]
    return [{"type": "message", **message} for message in messages]


def _messages(query: Query) -> list[dict[str, object]]:
    if not query.messages:
        return [{"role": "user", "content": query.text}]
    return [
        {"role": _role(message), "content": _content(message)}
        for message in query.messages
    ]


def _role(message: Mapping[str, object]) -> str:
    role = wire.text(message.get("role"))
    if role not in _ROLES or message.get("tool_calls"):
        problem = "Perplexity takes no tool messages"
        raise NoAnswer(problem, reason="invalid_request")
    return role


def _content(message: Mapping[str, object]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = [wire.table(part) for part in wire.items(content)]
    if not parts or any(not isinstance(part.get("text"), str) for part in parts):
        problem = "this backend takes text messages only"
        raise NoAnswer(problem, reason="invalid_request")
    return "\n".join(wire.text(part.get("text")) for part in parts)


def _options(query: Query, names: tuple[str, ...]) -> dict[str, object]:
    return {name: query.options[name] for name in names if name in query.options}


def _without_none(body: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in body.items() if value is not None}
