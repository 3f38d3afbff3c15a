"""An emulated LightRAG server, in the wire form of lightrag-server 1.5.7."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import ClassVar, Final, Literal

import attrs

from plb_core.testing.emulators.base import Emulator, Tokens
from plb_core.testing.emulators.facts import answer_text, matching
from plb_core.testing.emulators.lightrag_replies import (
    Outcome,
    cited,
    progress_lines,
    retrieved,
    stream_lines,
)
from plb_core.testing.emulators.lightrag_requests import (
    cache_key,
    finding_of,
    first_finding,
)
from plb_core.testing.emulators.wire import Reply, Request, json_reply

CANNED_FAILURE: Final = "No relevant context found for the query."
NO_CONTEXT: Final = (
    "Sorry, I'm not able to provide an answer to that question.[no-context]"
)
MAX_BODY_BYTES: Final = 1024 * 1024
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
    `renew_tokens` hands a fresh token out with each authenticated reply. With `cache`
    "on" the answers of `/query` are kept, as real servers do: asked again, also as a
    stream, they come whole, unbilled and without the language model; streams alone
    keep nothing. "warm" has every answer already. Hidden failures: `llm_down`,
    `llm_refused` (at once), `embeddings_down`, `empty_store`, `stream_breaks`; the
    ones behind which the real server retries for 8 s take `inner_retry_s`. LightRAG
    reports neither usage nor cost; `price` still fills the book with what its language
    model would bill.
    """

    hidden_failures: ClassVar = frozenset(
        {"llm_down", "llm_refused", "embeddings_down", "empty_store", "stream_breaks"}
    )

    api_key: str = ""
    accounts: Mapping[str, str] = attrs.field(factory=dict)
    renew_tokens: bool = False
    cache: Literal["off", "on", "warm"] = "off"
    inner_retry_s: float = 0.0
    _kept: set[str] = attrs.field(factory=set, init=False)
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
            finding = finding_of("missing", ["username"], "Field required", None)
            return _reply({"detail": [finding]}, 422)
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
        finding = first_finding(request)
        if finding is not None:
            return _reply({"detail": [finding]}, 422)
        outcome = self._outcome(request, hidden)
        if self.cache == "on" and outcome.generated:
            self._kept.add(cache_key(request))
        references = cited(request, outcome.facts)
        for entry in references or ():
            entry.setdefault("content", None)
        return _reply(
            {
                "response": outcome.text,
                "references": references,
                "response_time": 0.063,
                "llm_generated": outcome.generated,
            },
            micro_usd=self._bill_of(request, outcome),
            delay_s=0.0 if outcome.generated else self._retry_s(hidden),
        )

    def _stream(self, request: Request, hidden: str) -> Reply:
        finding = first_finding(request)
        if finding is not None:
            return _reply({"detail": [finding]}, 422)
        outcome = self._outcome(request, hidden)
        lines = stream_lines(request, outcome, breaks=hidden == "stream_breaks")
        if request.fields.get("include_progress") is True:
            lines = [
                *progress_lines(request, outcome),
                *lines,
                {"response_time": 0.132},
            ]
        return Reply(
            200,
            headers={**_SERVER, **_NDJSON},
            pieces=tuple(json.dumps(line).encode() + b"\n" for line in lines),
            micro_usd=self._bill_of(request, outcome),
            delay_s=0.0 if outcome.generated else self._retry_s(hidden),
        )

    def _data(self, request: Request, hidden: str) -> Reply:
        finding = first_finding(request)
        if finding is not None:
            return _reply({"detail": [finding]}, 422)
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
        return _reply(retrieved(str(mode), facts), micro_usd=0)

    def _outcome(self, request: Request, hidden: str) -> Outcome:
        key = cache_key(request)
        kept = key != "" and (self.cache == "warm" or key in self._kept)
        if hidden == "empty_store":
            return Outcome(NO_CONTEXT)
        # A kept answer needs the embedder, but no language model.
        if hidden == "embeddings_down" or (hidden.startswith("llm") and not kept):
            return Outcome(CANNED_FAILURE)
        question = str(request.fields["query"])
        if request.fields.get("mode") == "bypass":
            return Outcome(answer_text(question), generated=True)
        facts = matching(question)
        if request.fields.get("only_need_context") is True:
            return Outcome("\n\n".join(fact.text for fact in facts), facts)
        entries = (f"- [{n}] {fact.file_path}" for n, fact in enumerate(facts, 1))
        listing = "\n".join(entries)
        text = f"{answer_text(question)}\n\n### References\n\n{listing}"
        return Outcome(text, facts, generated=True, kept=kept)

    def _bill_of(self, request: Request, outcome: Outcome) -> int:
        if outcome.kept or not outcome.generated:
            return 0
        return self.charge(self.tokens(str(request.fields["query"]), outcome.text))

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
