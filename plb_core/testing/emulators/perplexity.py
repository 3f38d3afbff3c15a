"""An emulated Perplexity, in the wire form of its Agent API."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import ClassVar, Final

import attrs

from plb_core.testing.emulators.base import Emulator, Tokens
from plb_core.testing.emulators.facts import Fact, answer_text, matching
from plb_core.testing.emulators.responses import (
    message_item,
    question_of,
    sse,
    text_events,
)
from plb_core.testing.emulators.wire import Reply, Request, json_reply
from plb_core.types import Price

CREATED: Final = 1_791_562_351
MODELS: Final[Mapping[str, Price]] = {
    "openai/gpt-6-luna": Price(100_000, 500_000, 0, 1_000),
    "perplexity/sonar": Price(250_000, 2_500_000, 0, 2_500),
    "anthropic/claude-haiku-5": Price(1_000_000, 5_000_000, 0, 2_500),
}
EFFORTS: Final = ("fast", "low", "medium", "high", "xhigh")
_RETIRED: Final = ("/chat/completions", "/v1/sonar", "/async/chat/completions")
_RUN: Final = re.compile(r"/v1/(?:agent|responses)/([^/]+)(/cancel)?")
_TYPES: Final = {
    400: ("invalid_request", "Invalid request"),
    401: ("invalid_api_key", "Invalid API key provided"),
    402: ("insufficient_quota", "You have used up your credits"),
    404: ("not_found", "Not found"),
    405: ("method_not_allowed", "Method not allowed"),
    429: ("rate_limit_exceeded", "Too many requests"),
    500: ("internal_error", "Stream error from backend"),
    503: ("service_unavailable", "Service temporarily unavailable"),
}


@attrs.define(kw_only=True)
class PerplexityEmulator(Emulator):
    """Speaks `/v1/responses` (= `/v1/agent`), `/search` and `/v1/models`.

    `api_key` "" accepts any bearer, but one must be sent. Background runs are
    completed after `polls` look-ups. `rate_limit_remaining` and `rate_limit_reset`
    fill the headers. Hidden failures: `failed`, `incomplete`, `cancelled`,
    `requires_action`, `no_text`, `text_only_at_end` (an answer, but without deltas),
    `no_sources`, `stream_fails` (`response.failed` after some text), `stream_ends` (no
    terminal event).
    """

    hidden_failures: ClassVar = frozenset(
        {
            "failed",
            "incomplete",
            "cancelled",
            "requires_action",
            "no_text",
            "text_only_at_end",
            "no_sources",
            "stream_fails",
            "stream_ends",
        }
    )

    api_key: str = ""
    polls: int = 1
    rate_limit_remaining: int = 49
    rate_limit_reset: int = CREATED + 60
    _numbers: itertools.count[int] = attrs.field(factory=itertools.count, init=False)
    _runs: dict[str, dict[str, object]] = attrs.field(factory=dict, init=False)
    _polled: dict[str, int] = attrs.field(factory=dict, init=False)

    def handle(self, request: Request, hidden: str) -> Reply:
        """Check the key, then the path; add the rate-limit headers."""
        reply = self._route(request, hidden)
        headers = {
            "x-request-id": f"req-{len(self.requests):06d}",
            "x-ratelimit-limit": "50",
            "x-ratelimit-remaining": str(self.rate_limit_remaining),
            "x-ratelimit-reset": str(self.rate_limit_reset),
            "x-ratelimit-used": str(50 - self.rate_limit_remaining),
            **reply.headers,
        }
        return attrs.evolve(reply, headers=headers)

    def error(self, status: int) -> Reply:
        """Return `{"error": {"message", "type", "code"}}` with the status as code."""
        kind, message = _TYPES.get(status, ("error", "Error"))
        return _error(status, kind, message)

    def _route(self, request: Request, hidden: str) -> Reply:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not bearer or (self.api_key and bearer != self.api_key):
            return self.error(401)
        path = request.path
        if path in _RETIRED:
            message = "Sonar is now the Agent API. Use /v1/responses instead."
            return _error(403, "chat_completions_not_available", message)
        run = _RUN.fullmatch(path)
        if run is not None:
            return self._run(request.method, run[1], cancel=run[2] is not None)
        routes = {
            "/v1/responses": ("POST", self._respond),
            "/v1/agent": ("POST", self._respond),
            "/search": ("POST", self._search),
            "/v1/models": ("GET", self._models),
        }
        method, route = routes.get(path, ("", self._models))
        if not method:
            return self.error(404)
        if method != request.method:
            return self.error(405)
        if request.json_error:
            return _error(400, "invalid_request", "Request body is not valid JSON")
        return route(request, hidden)

    def _respond(self, request: Request, hidden: str) -> Reply:
        problem = _problem(request.fields)
        if problem:
            return _error(400, "invalid_request", problem)
        final, micro_usd = self._response(request.fields, hidden)
        if request.fields.get("background") is True:
            queued = {**final, "status": "queued", "output": [], "usage": None}
            self._runs[str(final["id"])] = final
            return json_reply(queued, micro_usd=micro_usd)
        if request.fields.get("stream") is True:
            headers = {"content-type": "text/event-stream; charset=utf-8"}
            pieces = sse(_events(final, hidden))
            return Reply(200, headers=headers, pieces=pieces, micro_usd=micro_usd)
        return json_reply(final, micro_usd=micro_usd)

    def _response(
        self, body: Mapping[str, object], hidden: str
    ) -> tuple[dict[str, object], int]:
        """Return the final response object and what it costs."""
        number = next(self._numbers)
        question = question_of(body)
        searched = _wants_search(body) and hidden != "no_sources"
        text = "" if hidden in ("incomplete", "no_text") else answer_text(question)
        output: list[object] = []
        if searched:
            output.append(_search_item(question))
        if text and hidden not in ("failed", "cancelled", "requires_action"):
            output.append(message_item(number, text))
        if hidden == "incomplete":
            output = []
        model = str(body.get("model", "openai/gpt-6-luna"))
        tokens = self.tokens(question, text)
        micro_usd = self._charge(model, tokens, int(searched))
        status = "completed"
        if hidden in ("failed", "incomplete", "cancelled", "requires_action"):
            status = hidden
        failure = {"code": "server_error", "message": "The run failed"}
        final: dict[str, object] = {
            "id": f"resp_{number:06d}",
            "object": "response",
            "status": status,
            "model": model,
            "service_tier": "default",
            "created_at": CREATED + number,
            "error": failure if status == "failed" else None,
            "incomplete_details": {"reason": "max_output_tokens"}
            if status == "incomplete"
            else None,
            "output": output,
            "usage": self._usage(model, tokens, int(searched), micro_usd),
        }
        return final, micro_usd

    def _price(self, model: str) -> Price:
        return self.price or MODELS[model]

    def _charge(self, model: str, tokens: Tokens, searches: int) -> int:
        price = self._price(model)
        parts = (
            tokens.input * price.input_micro_usd_per_mtok
            + tokens.output * price.output_micro_usd_per_mtok
        )
        whole = price.request_micro_usd + searches * price.search_micro_usd
        return whole - (-parts // 1_000_000)

    def _usage(
        self, model: str, tokens: Tokens, searches: int, micro_usd: int
    ) -> dict[str, object]:
        price = self._price(model)
        tools_usd = searches * price.search_micro_usd / 1e6
        input_usd = tokens.input * price.input_micro_usd_per_mtok / 1e12
        search = {"invocation": searches, "cost_usd": tools_usd}
        return {
            "input_tokens": tokens.input,
            "output_tokens": tokens.output,
            "total_tokens": tokens.input + tokens.output,
            "tool_calls_details": {"search_web": search} if searches else {},
            "cost": {
                "currency": "USD",
                "input_cost": round(input_usd, 6),
                "output_cost": round(micro_usd / 1e6 - input_usd - tools_usd, 6),
                "cache_creation_cost": 0,
                "cache_read_cost": 0,
                "tool_calls_cost": tools_usd,
                "total_cost": micro_usd / 1e6,
            },
        }

    def _run(self, method: str, run_id: str, *, cancel: bool) -> Reply:
        final = self._runs.get(run_id)
        if final is None:
            return _error(404, "not_found", "No stored response with that id")
        if method != ("POST" if cancel else "GET"):
            return self.error(405)
        if cancel:
            final = {**final, "status": "cancelled", "output": []}
            self._runs[run_id] = final
            self._polled[run_id] = self.polls
            return json_reply(final)
        self._polled[run_id] = self._polled.get(run_id, 0) + 1
        if self._polled[run_id] <= self.polls:
            running = {**final, "status": "in_progress", "output": [], "usage": None}
            return json_reply(running)
        return json_reply(final)

    def _search(self, request: Request, _: str) -> Reply:
        query = request.fields.get("query")
        listed = query if isinstance(query, list) else [query]
        queries = [each for each in listed if isinstance(each, str) and each]
        if not queries or len(queries) < len(listed):
            return _error(400, "invalid_request", "query must be a string or a list")
        most = request.fields.get("max_results", 10)
        if not isinstance(most, int) or not 1 <= most <= 20:
            return _error(400, "invalid_request", "max_results must be from 1 to 20")
        results = [
            {key: entry[key] for key in ("title", "url", "snippet", "date")}
            for entry in _results(" ".join(queries))[:most]
        ]
        fast = request.fields.get("search_type") == "fast"
        price = self.price.search_micro_usd if self.price else 1_000 if fast else 5_000
        number = next(self._numbers)
        body = {"id": f"search_{number:06d}", "results": results, "server_time": None}
        return json_reply(body, micro_usd=price)

    def _models(self, _: Request, __: str) -> Reply:
        data = [
            {
                "id": name,
                "object": "model",
                "created": CREATED,
                "owned_by": name.partition("/")[0],
                "pricing": {
                    "unit": "usd_per_1m_tokens",
                    "input": price.input_micro_usd_per_mtok / 1e6,
                    "output": price.output_micro_usd_per_mtok / 1e6,
                    "cache_read": price.input_micro_usd_per_mtok / 1e7,
                },
            }
            for name, price in MODELS.items()
        ]
        return json_reply({"object": "list", "data": data})


def _error(status: int, kind: str, message: str) -> Reply:
    body = {"error": {"message": message, "type": kind, "code": status}}
    return json_reply(body, status)


def _problem(body: Mapping[str, object]) -> str:
    """Return what is wrong with a request, "" for nothing."""
    if not question_of(body).strip():
        return "input must not be empty"
    model = body.get("model")
    if model is not None and model not in MODELS:
        return f"Model {str(model)[:60]!r} is not supported"
    effort = str(body.get("effort", body.get("preset", "fast"))).partition("@")[0]
    if "effort" in body and effort not in EFFORTS:
        return f"effort must be one of {', '.join(EFFORTS)}"
    if not {"model", "models", "effort", "preset"}.intersection(body):
        return "one of model, models, effort, preset is required"
    if str(model).startswith("anthropic/") and "max_output_tokens" not in body:
        return "max_output_tokens is required for this model"
    return ""


def _wants_search(body: Mapping[str, object]) -> bool:
    if "effort" in body or "preset" in body:
        return True
    tools = body.get("tools")
    listed = tools if isinstance(tools, list) else []
    return any(isinstance(t, dict) and t.get("type") == "web_search" for t in listed)


def _results(question: str) -> list[dict[str, object]]:
    return [_result(n, fact) for n, fact in enumerate(matching(question), 1)]


def _result(number: int, fact: Fact) -> dict[str, object]:
    return {
        "id": number,
        "title": fact.title,
        "url": fact.url,
        "snippet": fact.sentences[0],
        "source": "web",
        "date": "2026-03-13",
        "last_updated": "2026-10-02",
    }


def _search_item(question: str) -> dict[str, object]:
    results = _results(question)
    return {"type": "search_results", "queries": [question], "results": results}


def _events(final: Mapping[str, object], hidden: str) -> list[dict[str, object]]:
    """Return the events of a streamed run, sources first, text next."""
    output = final["output"]
    assert isinstance(output, list)
    texts = [item for item in output if item["type"] == "message"]
    text = texts[0]["content"][0]["text"] if texts else ""
    at_end = hidden == "text_only_at_end" or not text
    events = text_events(final, text, len(output) - 1, deltas=not at_end)
    found = [item for item in output if item["type"] == "search_results"]
    reasoning: list[dict[str, object]] = [{"type": "response.reasoning.started"}]
    for item in found:
        for part in ("queries", "results"):
            kind = f"response.reasoning.search_{part}"
            reasoning.append({"type": kind, part: item[part], "thought": None})
    reasoning.append({"type": "response.reasoning.stopped"})
    events[2:2] = reasoning
    if hidden in ("stream_fails", "stream_ends"):
        del events[len(events) // 2 :]
    if hidden == "stream_ends":
        return events
    if hidden in ("failed", "stream_fails"):
        failure = {"code": "server_error", "message": "The run failed"}
        failed = {**final, "status": "failed", "output": [], "error": failure}
        return [
            *events,
            {"type": "response.failed", "response": failed, "error": failure},
        ]
    return [*events, {"type": "response.completed", "response": final}]
