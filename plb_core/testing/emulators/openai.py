"""An emulated OpenAI-compatible endpoint."""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
import struct
from typing import ClassVar, Final

import attrs

from plb_core.testing.emulators.base import Emulator, Tokens
from plb_core.testing.emulators.openai_chat import (
    CALL,
    chat_events,
    chat_usage,
    completion,
)
from plb_core.testing.emulators.responses import (
    content_text,
    message_item,
    question_of,
    sse,
    text_events,
)
from plb_core.testing.emulators.wire import Reply, Request, json_reply

CREATED: Final = 1_795_000_000
_KINDS: Final = {
    400: ("invalid_request_error", "invalid_request", "Invalid request."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    404: ("invalid_request_error", "not_found", "Unknown request URL."),
    405: ("invalid_request_error", "method_not_allowed", "Method not allowed."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached."),
    500: ("server_error", "internal_error", "The server had an error."),
    503: ("server_error", "overloaded", "The engine is overloaded."),
}
_INCOMPLETE: Final = {
    "length": "max_output_tokens",
    "content_filter": "content_filter",
}
_SSE: Final = {"content-type": "text/event-stream; charset=utf-8"}


@attrs.define(kw_only=True)
class OpenAIEmulator(Emulator):
    """Speaks `/v1/chat/completions`, `/v1/responses`, `/v1/embeddings`, `/v1/models`.

    `api_key` "" accepts everybody. `models` are the only names accepted. More than
    `context_tokens` of input are refused; None takes any. Vectors have `dimensions`
    numbers and length 1. Hidden failures: `empty` (no text),
    `length` (cut by the token limit), `content_filter`, `tool_call` (a call of
    `look_up` instead of text), `stream_fails` (an error event after some text),
    `stream_ends` (no finish reason, no `[DONE]`), `no_done` (only `[DONE]` missing).
    """

    hidden_failures: ClassVar = frozenset(
        {
            "empty",
            "length",
            "content_filter",
            "tool_call",
            "stream_fails",
            "stream_ends",
            "no_done",
        }
    )

    api_key: str = ""
    models: tuple[str, ...] = ("gpt-6-mini", "text-embedding-4")
    context_tokens: int | None = None
    dimensions: int = 8
    _numbers: itertools.count[int] = attrs.field(factory=itertools.count, init=False)

    def handle(self, request: Request, hidden: str) -> Reply:
        """Check the key, then the path; add the request id."""
        reply = self._route(request, hidden)
        headers = {
            "x-request-id": f"req_{len(self.requests):06d}",
            "openai-processing-ms": "12",
            **reply.headers,
        }
        return attrs.evolve(reply, headers=headers)

    def error(self, status: int) -> Reply:
        """Return `{"error": {"message", "type", "param", "code"}}`."""
        kind, code, message = _KINDS.get(status, ("server_error", "error", "Error."))
        return _error(status, kind, code, message)

    def _route(self, request: Request, hidden: str) -> Reply:
        if self.api_key and request.headers.get("authorization") != (
            f"Bearer {self.api_key}"
        ):
            return self.error(401)
        if request.path == "/v1/models" or request.path.startswith("/v1/models/"):
            return self._models(request)
        routes = {
            "/v1/chat/completions": self._chat,
            "/v1/responses": self._respond,
            "/v1/embeddings": self._embed,
        }
        route = routes.get(request.path)
        if route is None:
            return self.error(404)
        if request.method != "POST":
            return self.error(405)
        if request.json_error or not isinstance(request.body, dict):
            return self.error(400)
        model = request.fields.get("model")
        if model not in self.models:
            message = f"The model {str(model)[:60]!r} does not exist."
            return _error(404, "invalid_request_error", "model_not_found", message)
        return route(request, hidden)

    def _chat(self, request: Request, hidden: str) -> Reply:
        body = request.fields
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            message = "'messages' must be a non-empty list."
            return _error(400, "invalid_request_error", "invalid_value", message)
        prompt = " ".join(
            content_text(turn.get("content"))
            for turn in messages
            if isinstance(turn, dict)
        )
        text, finish = completion(question_of(body), body, hidden)
        tokens = self.tokens(prompt, text)
        refusal = self._too_long("messages", tokens)
        if refusal is not None:
            return refusal
        frame = {
            "id": f"chatcmpl-{next(self._numbers):06d}",
            "created": CREATED,
            "model": body["model"],
            "system_fingerprint": "fp_emulated",
        }
        micro_usd = self.charge(tokens)
        if body.get("stream") is True:
            options = body.get("stream_options")
            counted = isinstance(options, dict) and options.get("include_usage")
            usage = chat_usage(tokens) if counted is True else None
            pieces = chat_events(frame, text, finish, usage, hidden)
            return Reply(200, headers=_SSE, pieces=pieces, micro_usd=micro_usd)
        said: dict[str, object] = {"role": "assistant", "content": text or None}
        if finish == "tool_calls":
            said["tool_calls"] = [CALL]
        choice = {"index": 0, "message": said, "finish_reason": finish}
        answer = {**frame, "object": "chat.completion", "choices": [choice]}
        return json_reply({**answer, "usage": chat_usage(tokens)}, micro_usd=micro_usd)

    def _respond(self, request: Request, hidden: str) -> Reply:
        body = request.fields
        question = question_of(body)
        if not question:
            message = "'input' must not be empty."
            return _error(400, "invalid_request_error", "invalid_value", message)
        number = next(self._numbers)
        text, finish = completion(question, body, hidden)
        tokens = self.tokens(question, text)
        refusal = self._too_long("input", tokens)
        if refusal is not None:
            return refusal
        reason = _INCOMPLETE.get(finish)
        final: dict[str, object] = {
            "id": f"resp_{number:06d}",
            "object": "response",
            "status": "incomplete" if reason else "completed",
            "model": body["model"],
            "created_at": CREATED,
            "error": None,
            "incomplete_details": {"reason": reason} if reason else None,
            "output": [message_item(number, text)],
            "usage": {
                "input_tokens": tokens.input,
                "output_tokens": tokens.output,
                "total_tokens": tokens.input + tokens.output,
            },
        }
        micro_usd = self.charge(tokens)
        if body.get("stream") is not True:
            return json_reply(final, micro_usd=micro_usd)
        events = text_events(final, text, 0)
        events.append({"type": f"response.{final['status']}", "response": final})
        return Reply(200, headers=_SSE, pieces=sse(events), micro_usd=micro_usd)

    def _too_long(self, param: str, tokens: Tokens) -> Reply | None:
        limit = self.context_tokens
        if limit is None or tokens.input <= limit:
            return None
        message = (
            f"This model's maximum context length is {limit} tokens, but your {param}"
            f" came to {tokens.input} tokens."
        )
        code = "context_length_exceeded"
        return _error(400, "invalid_request_error", code, message, param)

    def _embed(self, request: Request, _: str) -> Reply:
        given = request.fields.get("input")
        listed = given if isinstance(given, list) else [given]
        inputs = [each for each in listed if isinstance(each, str) and each]
        if not inputs or len(inputs) < len(listed):
            message = "'input' must be a string or a list of strings."
            return _error(400, "invalid_request_error", "invalid_value", message)
        size = request.fields.get("dimensions", self.dimensions)
        assert isinstance(size, int)
        packed = request.fields.get("encoding_format") == "base64"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": _encode(each, size, packed),
            }
            for index, each in enumerate(inputs)
        ]
        tokens = Tokens(self.tokens("".join(inputs), "").input, 0)
        usage = {"prompt_tokens": tokens.input, "total_tokens": tokens.input}
        answer = {"object": "list", "data": data, "model": request.fields["model"]}
        return json_reply({**answer, "usage": usage}, micro_usd=self.charge(tokens))

    def _models(self, request: Request) -> Reply:
        if request.method != "GET":
            return self.error(405)
        owner = "emulator"
        data = [
            {"id": name, "object": "model", "created": CREATED, "owned_by": owner}
            for name in self.models
        ]
        name = request.path.removeprefix("/v1/models").removeprefix("/")
        if not name:
            return json_reply({"object": "list", "data": data})
        found = [entry for entry in data if entry["id"] == name]
        return json_reply(found[0]) if found else self.error(404)


def _error(
    status: int, kind: str, code: str, message: str, param: str | None = None
) -> Reply:
    error = {"message": message, "type": kind, "param": param, "code": code}
    return json_reply({"error": error}, status)


def vector(text: str, size: int) -> tuple[float, ...]:
    """Return a vector of length 1 that depends on the text alone."""
    digest = hashlib.shake_256(text.encode()).digest(2 * size)
    raw = struct.unpack(f"<{size}h", digest)
    norm = math.sqrt(sum(number * number for number in raw)) or 1.0
    return tuple(number / norm for number in raw)


def _encode(text: str, size: int, packed: bool) -> str | list[float]:
    numbers = vector(text, size)
    if not packed:
        return list(numbers)
    return base64.b64encode(struct.pack(f"<{size}f", *numbers)).decode()
