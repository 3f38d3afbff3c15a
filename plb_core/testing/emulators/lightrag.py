"""An emulated LightRAG server, in the wire form of lightrag-server 1.5.7."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import ClassVar, Final

import attrs

from plb_core.testing.emulators.base import Emulator, Tokens
from plb_core.testing.emulators.facts import Fact, answer_text, matching, words
from plb_core.testing.emulators.wire import Reply, Request, json_reply

CANNED_FAILURE: Final = "No relevant context found for the query."
NO_CONTEXT: Final = (
    "Sorry, I'm not able to provide an answer to that question.[no-context]"
)
MAX_BODY_BYTES: Final = 1024 * 1024
MAX_QUERY_CHARACTERS: Final = 64 * 1024
MODES: Final = ("local", "global", "hybrid", "naive", "mix", "bypass")
LOGINS_BEFORE_LOCKOUT: Final = 5
LOCKOUT_S: Final = 299
_OPEN_PATHS: Final = ("/health", "/login", "/auth-status")
_SERVER: Final = {"server": "uvicorn", "vary": "Origin"}
_NDJSON: Final = {
    "cache-control": "no-cache",
    "content-type": "application/x-ndjson",
    "x-accel-buffering": "no",
}


@attrs.define(kw_only=True)
class LightRAGEmulator(Emulator):
    """Speaks `/query`, `/query/stream`, `/query/data`, `/health` and the logins.

    `api_key` asks for `X-API-Key`, `accounts` (name → password) for a login;
    `renew_tokens` hands a fresh token out with each authenticated reply. `cached`
    makes streams arrive as the one line of a cached answer. Hidden failures:
    `llm_down`, `llm_refused` (at once), `embeddings_down`, `empty_store`,
    `stream_breaks`; the ones behind which the real server retries for 8 s take
    `inner_retry_s`. LightRAG reports neither usage nor cost; `price` still fills the
    book with what its language model would bill.
    """

    hidden_failures: ClassVar = frozenset(
        {"llm_down", "llm_refused", "embeddings_down", "empty_store", "stream_breaks"}
    )

    api_key: str = ""
    accounts: Mapping[str, str] = attrs.field(factory=dict)
    renew_tokens: bool = False
    cached: bool = False
    inner_retry_s: float = 0.0
    _tokens: set[str] = attrs.field(factory=set, init=False)
    _bad_logins: int = attrs.field(default=0, init=False)
    _issued: int = attrs.field(default=0, init=False)

    def expire_tokens(self) -> None:
        """Make every token handed out so far invalid."""
        self._tokens.clear()

    def handle(self, request: Request, hidden: str) -> Reply:
        """Check the credentials and the size, then the path."""
        refusal = self._unauthorised(request)
        if refusal is not None:
            return refusal
        routes = {
            "/query": ("POST", self._query),
            "/query/stream": ("POST", self._stream),
            "/query/data": ("POST", self._data),
            "/login": ("POST", self._login),
            "/auth/verify": ("GET", lambda *_: _reply({"status": "ok"})),
            "/health": ("GET", self._health),
        }
        method, route = routes.get(request.path, ("", self._health))
        if not method:
            return self.error(404)
        if method != request.method:
            return self.error(405)
        if len(request.data) > MAX_BODY_BYTES:
            return self.error(413)
        reply = route(request, hidden)
        if self.renew_tokens and self.accounts and request.path not in _OPEN_PATHS:
            headers = {**reply.headers, "x-new-token": self._issue("renewed")}
            reply = attrs.evolve(reply, headers=headers)
        return reply

    def error(self, status: int) -> Reply:
        """Return `{"detail": …}`."""
        details = {
            401: "No credentials provided. Please login.",
            403: "API Key required",
            404: "Not Found",
            405: "Method Not Allowed",
            413: "Request body too large. This endpoint accepts at most"
            f" {MAX_BODY_BYTES} bytes.",
            500: "Internal server error (error_id: 5f2c0d9a)",
        }
        return _reply({"detail": details.get(status, "Error")}, status)

    def _unauthorised(self, request: Request) -> Reply | None:
        if request.path in _OPEN_PATHS:
            return None
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if bearer and (self.api_key or self.accounts) and bearer not in self._tokens:
            return _reply({"detail": "Invalid token"}, 401)
        if self.api_key:
            given = request.headers.get("x-api-key")
            if given is None:
                return self.error(403)
            if given != self.api_key:
                return _reply({"detail": "Invalid API Key"}, 403)
        elif self.accounts and not bearer:
            return self.error(401)
        return None

    def _login(self, request: Request, _: str) -> Reply:
        if not request.headers.get("content-type", "").startswith(
            "application/x-www-form-urlencoded"
        ):
            return _invalid("missing", ["body", "username"], "Field required", None)
        if self._bad_logins >= LOGINS_BEFORE_LOCKOUT:
            detail = "Too many failed login attempts. Try again later."
            headers = {"retry-after": str(LOCKOUT_S)}
            return _reply({"detail": detail}, 429, headers)
        name = str(request.fields.get("username", ""))
        password = request.fields.get("password")
        if self.accounts.get(name, object()) != password:
            self._bad_logins += 1
            return _reply({"detail": "Incorrect credentials"}, 401)
        self._bad_logins = 0
        token = self._issue(name)
        return _reply({"access_token": token, "token_type": "bearer"})

    def _issue(self, name: str) -> str:
        self._issued += 1
        claims = {"sub": name, "exp": 1_800_000_000, "n": self._issued}
        parts = ({"alg": "HS256", "typ": "JWT"}, claims)
        body = ".".join(_base64(json.dumps(part).encode()) for part in parts)
        token = f"{body}.{_base64(hashlib.sha256(body.encode()).digest())}"
        self._tokens.add(token)
        return token

    def _query(self, request: Request, hidden: str) -> Reply:
        invalid = _check(request)
        if invalid is not None:
            return invalid
        question = str(request.fields["query"])
        text, facts, generated = self._outcome(request, hidden)
        micro_usd = self.charge(self.tokens(question, text)) if generated else 0
        quoted = request.fields.get("include_chunk_content") is True
        references = [
            {**entry, "content": [fact.text] if quoted else None}
            for entry, fact in zip(_references(facts), facts, strict=True)
        ]
        return _reply(
            {
                "response": text,
                "references": references,
                "response_time": 0.063,
                "llm_generated": generated,
            },
            micro_usd=micro_usd,
            delay_s=self._retry_s(hidden),
        )

    def _stream(self, request: Request, hidden: str) -> Reply:
        invalid = _check(request)
        if invalid is not None:
            return invalid
        question = str(request.fields["query"])
        text, facts, generated = self._outcome(request, hidden)
        references = _references(facts)
        whole = {"response": text, "llm_generated": generated, "references": references}
        lines: list[Mapping[str, object]]
        if self.cached or not generated:
            lines = [whole]
        else:
            lines = [{"references": references}]
            lines += [{"response": piece} for piece in words(text)]
        if hidden == "stream_breaks":
            lines = [*lines[: len(lines) // 2], {"error": "stream interrupted"}]
        if request.fields.get("include_progress") is True:
            lines = [*_progress(request), *lines]
            if hidden != "stream_breaks":
                lines.append({"response_time": 0.132})
        return Reply(
            200,
            headers={**_SERVER, **_NDJSON},
            pieces=tuple(json.dumps(line).encode() + b"\n" for line in lines),
            micro_usd=self.charge(self.tokens(question, text)) if generated else 0,
            delay_s=self._retry_s(hidden),
        )

    def _data(self, request: Request, hidden: str) -> Reply:
        invalid = _check(request)
        if invalid is not None:
            return invalid
        mode = request.fields.get("mode", "mix")
        needs_llm = mode not in ("naive", "bypass")
        if hidden == "embeddings_down" or (hidden.startswith("llm") and needs_llm):
            failed = self.error(500)
            return attrs.evolve(failed, delay_s=self._retry_s(hidden))
        if hidden == "empty_store":
            failure = {"query_mode": mode, "failure_reason": "no_results"}
            return _reply(
                {
                    "status": "failure",
                    "message": "No results",
                    "data": {},
                    "metadata": failure,
                },
                micro_usd=0,
            )
        facts = matching(str(request.fields["query"]))
        return _reply(_retrieved(str(mode), facts), micro_usd=0)

    def _outcome(
        self, request: Request, hidden: str
    ) -> tuple[str, tuple[Fact, ...], bool]:
        """Return text, facts to cite, and whether a language model wrote the text."""
        question = str(request.fields["query"])
        if hidden == "empty_store":
            return NO_CONTEXT, (), False
        if hidden and hidden != "stream_breaks":
            return CANNED_FAILURE, (), False
        facts = matching(question)
        if request.fields.get("only_need_context") is True:
            return "\n\n".join(fact.text for fact in facts), facts, False
        entries = (f"- [{n}] {fact.file_path}" for n, fact in enumerate(facts, 1))
        listing = "\n".join(entries)
        return f"{answer_text(question)}\n\n### References\n\n{listing}", facts, True

    def _retry_s(self, hidden: str) -> float:
        return self.inner_retry_s if hidden in ("llm_down", "embeddings_down") else 0.0

    def _health(self, _: Request, __: str) -> Reply:
        mode = "enabled" if self.accounts else "disabled"
        return _reply({"status": "healthy", "auth_mode": mode, "api_version": "0344"})

    def tokens(self, prompt: str, completion: str) -> Tokens:
        """Count the retrieved context as well, which is most of a prompt."""
        context = " ".join(fact.text for fact in matching(prompt))
        # Unbound: zero-argument super() needs the class cell that slots replace.
        return Emulator.tokens(self, f"{prompt} {context}", completion)


def _reply(
    value: object,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    *,
    micro_usd: int | None = None,
    delay_s: float = 0.0,
) -> Reply:
    merged = {**_SERVER, **(headers or {})}
    return json_reply(value, status, merged, micro_usd=micro_usd, delay_s=delay_s)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _references(facts: tuple[Fact, ...]) -> list[dict[str, str]]:
    return [
        {"reference_id": str(number), "file_path": fact.file_path}
        for number, fact in enumerate(facts, 1)
    ]


def _progress(request: Request) -> list[Mapping[str, object]]:
    steps = ["retrieving_chunks"]
    if request.fields.get("mode", "mix") != "naive":
        graph = ["extracting_keywords", "retrieving_entities", "retrieving_relations"]
        steps = [*graph, *steps]
    return [{"progress": step} for step in steps]


def _retrieved(mode: str, facts: tuple[Fact, ...]) -> object:
    chunks = [
        {
            **entry,
            "content": fact.text,
            "chunk_id": f"doc-{fact.file_path}-chunk-000",
        }
        for entry, fact in zip(_references(facts), facts, strict=True)
    ]
    return {
        "status": "success",
        "message": "Query processed successfully",
        "data": {
            "entities": [],
            "relationships": [],
            "chunks": chunks,
            "references": _references(facts),
        },
        "metadata": {
            "query_mode": mode,
            "keywords": {"high_level": [], "low_level": []},
            "processing_info": {
                "total_chunks_found": len(chunks),
                "final_chunks_count": len(chunks),
            },
        },
    }


def _check(request: Request) -> Reply | None:
    """Return the 422 that the request deserves, echoing the input as FastAPI does."""
    if request.json_error:
        return _invalid("json_invalid", ["body", 14], "JSON decode error", {})
    fields = request.fields
    query = fields.get("query")
    if query is None:
        return _invalid("missing", ["body", "query"], "Field required", fields)
    if not isinstance(query, str):
        message = "Input should be a valid string"
        return _invalid("string_type", ["body", "query"], message, query)
    if not query.strip():
        message = "Value error, Query must not be empty."
        return _invalid("value_error", ["body", "query"], message, query)
    if len(query) > MAX_QUERY_CHARACTERS:
        message = f"String should have at most {MAX_QUERY_CHARACTERS} characters"
        return _invalid("string_too_long", ["body", "query"], message, query)
    mode = fields.get("mode", "mix")
    if mode not in MODES:
        listed = ", ".join(f"'{name}'" for name in MODES[:-1])
        message = f"Input should be {listed} or '{MODES[-1]}'"
        return _invalid("literal_error", ["body", "mode"], message, mode)
    if len(query.strip()) < 3 and mode != "bypass":
        message = "Value error, RAG query is too short."
        return _invalid("value_error", ["body"], message, fields)
    return None


def _invalid(kind: str, loc: list[object], message: str, given: object) -> Reply:
    detail = {"type": kind, "loc": loc, "msg": message, "input": given}
    if kind in ("value_error", "json_invalid"):
        detail["ctx"] = {"error": {}}
    return _reply({"detail": [detail]}, 422)
