"""An emulated Perplexity, in the wire form of its Agent API."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from email.utils import formatdate
from typing import ClassVar, Final

import attrs

from plb_core.testing.emulators.base import Emulator
from plb_core.testing.emulators.facts import matching
from plb_core.testing.emulators.perplexity_models import MODELS, model_list
from plb_core.testing.emulators.perplexity_requests import (
    model_shown_while_queued,
    problem,
    wants_search,
)
from plb_core.testing.emulators.perplexity_runs import (
    FETCH_MICRO_USD,
    Citations,
    Run,
    cited_text,
    ending,
    events,
    fetch_items,
    result,
    search_items,
    usage,
)
from plb_core.testing.emulators.responses import message_item, question_of, sse
from plb_core.testing.emulators.wire import Reply, Request, json_reply

CREATED: Final = 1_791_562_351
_RETIRED: Final = ("/chat/completions", "/v1/sonar", "/async/chat/completions")
_RUN: Final = re.compile(r"/v1/(?:agent|responses)/([^/]+)(/cancel)?")
_ENDINGS: Final = ("failed", "incomplete", "cancelled", "requires_action")
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
    completed after `polls` look-ups. With `citations` "web" an answer's marks are
    `[web:11]` and point into several searches out of order; "plain" is `[1]` and one
    search. `fetches` pages are read, and billed, for each answer. `epoch_s` is the
    time in its `Date` headers; `rate_limit_remaining` and `rate_limit_reset` (on the
    same clock) fill the others. Hidden failures: `failed`, `incomplete`, `cancelled`,
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
    citations: Citations = "plain"
    fetches: int = 0
    epoch_s: int = CREATED
    rate_limit_remaining: int = 49
    rate_limit_reset: int = CREATED + 60
    _numbers: itertools.count[int] = attrs.field(factory=itertools.count, init=False)
    _runs: dict[str, Run] = attrs.field(factory=dict, init=False)

    def handle(self, request: Request, hidden: str) -> Reply:
        """Check the key, then the path; add the headers."""
        return self._with_headers(self._route(request, hidden))

    def error(self, status: int) -> Reply:
        """Return `{"error": {"message", "type", "code"}}` with the status as code."""
        kind, message = _TYPES.get(status, ("error", "Error"))
        return self._with_headers(_error(status, kind, message))

    def _with_headers(self, reply: Reply) -> Reply:
        headers = {
            "date": formatdate(self.epoch_s, usegmt=True),
            "x-request-id": f"req-{len(self.requests):06d}",
            "x-ratelimit-limit": "50",
            "x-ratelimit-remaining": str(self.rate_limit_remaining),
            "x-ratelimit-reset": str(self.rate_limit_reset),
            "x-ratelimit-used": str(50 - self.rate_limit_remaining),
            **reply.headers,
        }
        return attrs.evolve(reply, headers=headers)

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
        body = request.fields
        found = problem(body, MODELS)
        if found is not None:
            return _error(400, *found)
        final, micro_usd = self._response(body, hidden)
        if body.get("background") is True:
            self._runs[str(final["id"])] = Run(final)
            shown = model_shown_while_queued(body, str(final["model"]))
            waiting = {**ending("queued"), "model": shown, "output": [], "usage": None}
            return json_reply({**final, **waiting}, micro_usd=micro_usd)
        if body.get("stream") is True:
            headers = {"content-type": "text/event-stream; charset=utf-8"}
            pieces = sse(events(final, hidden))
            return Reply(200, headers=headers, pieces=pieces, micro_usd=micro_usd)
        return json_reply(final, micro_usd=micro_usd)

    def _response(
        self, body: Mapping[str, object], hidden: str
    ) -> tuple[dict[str, object], int]:
        """Return the final response object and what it costs."""
        number = next(self._numbers)
        question = question_of(body)
        found: list[object] = []
        if wants_search(body) and hidden != "no_sources":
            found = search_items(question, self.citations)
        text = ""
        if hidden not in ("incomplete", "no_text"):
            text = cited_text(question, self.citations)
        output = [*found, *fetch_items(question, self.fetches)]
        ends_as = hidden if hidden in _ENDINGS else "completed"
        if ends_as in ("incomplete", "cancelled"):
            output = []
        elif text and ends_as == "completed":
            output.append(message_item(number, text))
        model = str(body.get("model", "openai/gpt-6-luna"))
        tokens = self.tokens(question, text)
        price = self.price or MODELS[model]
        micro_usd = self.charge(tokens, len(found), price)
        micro_usd += self.fetches * FETCH_MICRO_USD
        final: dict[str, object] = {
            "id": f"resp_{number:06d}",
            "object": "response",
            **ending(ends_as),
            "model": model,
            "service_tier": "default",
            "created_at": CREATED + number,
            "output": output,
            "usage": usage(tokens, price, len(found), self.fetches, micro_usd),
        }
        return final, micro_usd

    def _run(self, method: str, run_id: str, *, cancel: bool) -> Reply:
        run = self._runs.get(run_id)
        if run is None:
            return _error(404, "not_found", "No stored response with that id")
        if method != ("POST" if cancel else "GET"):
            return self.error(405)
        if not cancel:
            return json_reply(run.look(self.polls))
        if run.finished:
            return _error(400, "invalid_request", "The response is already finished")
        run.cancel(self.polls)
        return json_reply({"response_id": run_id, "status": "cancelling"})

    def _search(self, request: Request, _: str) -> Reply:
        query = request.fields.get("query")
        listed = query if isinstance(query, list) else [query]
        queries = [each for each in listed if isinstance(each, str) and each]
        if not queries or len(queries) < len(listed):
            return _error(400, "invalid_request", "query must be a string or a list")
        most = request.fields.get("max_results", 10)
        if not isinstance(most, int) or not 1 <= most <= 20:
            return _error(400, "invalid_request", "max_results must be from 1 to 20")
        entries = [result(0, fact) for fact in matching(" ".join(queries))[:most]]
        results = [
            {key: entry[key] for key in ("title", "url", "snippet", "date")}
            for entry in entries
        ]
        fast = request.fields.get("search_type") == "fast"
        price = self.price.search_micro_usd if self.price else 1_000 if fast else 5_000
        number = next(self._numbers)
        body = {"id": f"search_{number:06d}", "results": results, "server_time": None}
        return json_reply(body, micro_usd=price)

    def _models(self, _: Request, __: str) -> Reply:
        return json_reply(model_list(CREATED))


def _error(status: int, kind: str, message: str) -> Reply:
    body = {"error": {"message": message, "type": kind, "code": status}}
    return json_reply(body, status)
