"""Asking a LightRAG server."""

from __future__ import annotations

import math
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from plb_backend_lightrag.quotes import quote_body, quoted_answer
from plb_backend_lightrag.replies import (
    HiddenFailure,
    read_reply,
    refused,
    request_body,
)
from plb_backend_lightrag.server import OK, Server
from plb_backend_lightrag.streaming import StreamReader
from plb_core.errors import (
    BackendError,
    BadAnswer,
    ConfigError,
    RequestError,
)
from plb_core.types import BackendTraits, Chunk, ProbeResult, Problem

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from plb_backend_lightrag.settings import LightRAGSettings
    from plb_core.hookspecs import BuildContext
    from plb_core.types import Answer, Query

NOT_FOUND: Final = 404

LLM_PAUSE_S: Final = 30.0
"""How long a failure of the server's language model is remembered. The server retries
for some 8 s before it gives up, so finding out again costs each asker that long."""

# The server is bound by one CPU core: measured throughput is the same for 1, 4 and 8
# clients, so more calls at once only wait longer.
TRAITS: Final = BackendTraits(
    knowledge="graph",
    capabilities=frozenset({"chat", "stream"}),
    max_in_flight=4,
)


def build(settings: LightRAGSettings, context: BuildContext) -> LightRAGBackend:
    """Return the backend; raises `ConfigError` for half a login."""
    if (settings.username_env is None) != (settings.password_env is None):
        missing, present = "password_env", "username_env"
        if settings.username_env is None:
            missing, present = present, missing
        message = f"needs {missing} beside it"
        key = f"backend.{context.name}.{present}"
        raise ConfigError([Problem(message, key=key)])
    return LightRAGBackend(settings, context)


class LightRAGBackend:
    """A LightRAG server, with its references, streams and hidden failures.

    Usage is unknown: the server reports no tokens and no cost.
    """

    traits = TRAITS

    def __init__(self, settings: LightRAGSettings, context: BuildContext) -> None:
        self._settings = settings
        self._retrieval = settings.retrieval()
        self._now = context.now
        self._server = Server(settings, context.now)
        self._llm_down_until_s = -math.inf

    async def start(self) -> None:
        """Open the connection pool; the server need not be up."""
        await self._server.start()

    async def close(self) -> None:
        """Close all connections."""
        await self._server.close()

    async def ask(self, query: Query, timeout_s: float) -> Answer:
        """Return the answer, or the quotes that stand in for it (`degraded`)."""
        deadline_s = self._now() + timeout_s
        if self._settings.degraded and self._llm_is_down():
            return await self._quotes(query, deadline_s)
        body = request_body(query, self._retrieval)
        reply = await self._server.call("POST", "/query", body, deadline_s)
        try:
            answer = read_reply(reply.data).answer()
        except HiddenFailure as failure:
            return await self._instead(failure, query, deadline_s)
        self._llm_down_until_s = -math.inf
        return answer

    async def stream(self, query: Query, timeout_s: float) -> AsyncIterator[Chunk]:
        """Yield the answer as it is written; see `StreamReader` for its end."""
        deadline_s = self._now() + timeout_s
        if self._settings.degraded and self._llm_is_down():
            answer = await self._quotes(query, deadline_s)
        else:
            started = False
            try:
                async with aclosing(self._relay(query, deadline_s)) as chunks:
                    async for chunk in chunks:
                        started = True
                        yield chunk
            except HiddenFailure as failure:
                if started:
                    self._note_llm_failure()
                    raise
                answer = await self._instead(failure, query, deadline_s)
            else:
                return
        yield Chunk(answer.text)
        yield Chunk(end="complete", answer=answer)

    async def ping(self, timeout_s: float) -> ProbeResult:
        """Check the credentials, then the server; neither call is billed.

        `/health` alone answers 200 to everybody. The result is degraded for a while
        after the language model behind the server failed, which `/health` never tells.
        """
        begin_s = self._now()
        try:
            await self._check(begin_s + timeout_s)
        except RequestError as error:
            return ProbeResult(False, self._now() - begin_s, str(error))
        degraded = self._llm_is_down()
        detail = "its language model or embedder failed lately" if degraded else ""
        return ProbeResult(True, self._now() - begin_s, detail, degraded=degraded)

    async def _relay(
        self, query: Query, deadline_s: float
    ) -> AsyncGenerator[Chunk, None]:
        body = {**request_body(query, self._retrieval), "include_progress": True}
        async with self._server.open("/query/stream", body, deadline_s) as http:
            reader = StreamReader(framed=http.framed)
            try:
                async for line in http.lines():
                    text = reader.feed(line)
                    if text:
                        yield Chunk(text)
                whole = reader.complete
            except HiddenFailure:
                raise
            except BadAnswer:
                if not reader.started:
                    raise
                whole = reader.timed
        if whole:
            answer = reader.answer()
            self._llm_down_until_s = -math.inf
            yield Chunk(end="complete", answer=answer)
        elif reader.started:
            yield Chunk(end="truncated")
        else:
            message = "LightRAG's stream was cut before any text"
            raise BadAnswer(message)

    async def _instead(
        self, failure: HiddenFailure, query: Query, deadline_s: float
    ) -> Answer:
        """Return quotes in place of the answer that failed, if so set; else raise."""
        self._note_llm_failure()
        if not self._settings.degraded:
            raise failure
        try:
            return await self._quotes(query, deadline_s)
        except BackendError as error:
            raise failure from error

    async def _quotes(self, query: Query, deadline_s: float) -> Answer:
        body = quote_body(query.text, self._settings.chunk_top_k)
        reply = await self._server.call("POST", "/query/data", body, deadline_s)
        return quoted_answer(reply.data, query.text)

    async def _check(self, deadline_s: float) -> None:
        verified = await self._server.send("GET", "/auth/verify", None, deadline_s)
        # Older servers lack the endpoint; there the health page must do.
        if verified.status not in (OK, NOT_FOUND):
            raise refused(verified)
        page = (await self._server.call("GET", "/health", None, deadline_s)).data
        if not isinstance(page, dict) or page.get("status") != "healthy":
            message = "LightRAG does not call itself healthy"
            raise BadAnswer(message)

    def _note_llm_failure(self) -> None:
        self._llm_down_until_s = self._now() + LLM_PAUSE_S

    def _llm_is_down(self) -> bool:
        return self._now() < self._llm_down_until_s
