"""Asking an OpenAI-compatible endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plb_backend_openai.answers import Asked, completion
from plb_backend_openai.embeddings import embeddings
from plb_backend_openai.refusals import WHAT, rejection
from plb_backend_openai.request import (
    chat_body,
    embedding_body,
)
from plb_backend_openai.stream import ChunkReader
from plb_core import (
    BackendError,
    BackendMisconfigured,
    BackendTimeout,
    BackendTraits,
    BadAnswer,
    Chunk,
    ConfigError,
    ProbeResult,
    Problem,
    Secret,
)
from plb_core.http.client import CutAnswer, HttpClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from plb_backend_openai.settings import OpenAISettings
    from plb_core import Answer, BuildContext, Embeddings, Query
    from plb_core.http.client import HttpAnswer, HttpStream

OK: Final = 200
_CHAT: Final = frozenset({"chat", "stream", "tools", "images", "response_format"})
_NO_LIST: Final = frozenset({404, 405, 501})
_STREAM_TYPES: Final = frozenset({"", "text/event-stream"})


class OpenAIBackend:
    """One endpoint that speaks OpenAI's chat completions, and maybe embeddings."""

    def __init__(self, settings: OpenAISettings, context: BuildContext) -> None:
        self._settings = settings
        self._models = context.models
        self._now = context.now
        self._default_model = settings.model or next(
            (each for each in context.models.exact.values() if each != "*"), ""
        )
        has_chat = bool(self._default_model or context.models.wildcards)
        if not has_chat and not context.models.exact and not settings.embedding_model:
            raise ConfigError([Problem("set model, embedding_model or models")])
        capabilities = _CHAT if has_chat or context.models.exact else frozenset()
        if settings.embedding_model:
            capabilities |= {"embeddings"}
        self.traits = BackendTraits(capabilities=capabilities)
        self._limit_field = _limit_field(settings)
        headers = {}
        if settings.api_key_env is not None:
            key = Secret.from_env(settings.api_key_env)
            headers["Authorization"] = f"Bearer {key.reveal()}"
        self._client = HttpClient(settings, headers)

    def __repr__(self) -> str:
        return f"OpenAIBackend({self._settings.base_url!r})"

    async def start(self) -> None:
        """Prepare to connect; the endpoint need not be up."""
        await self._client.start()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def ask(self, query: Query, timeout_s: float) -> Answer:
        """Return the complete answer within `timeout_s`."""
        asked, body = self._chat(query, stream=False)
        answer = await self._client.request(
            "POST", "/chat/completions", body=body, timeout_s=timeout_s
        )
        return completion(_success(answer), asked)

    async def stream(self, query: Query, timeout_s: float) -> AsyncIterator[Chunk]:
        """Yield text as it comes, then one chunk with `end` set."""
        asked, body = self._chat(query, stream=True)
        async with self._client.open_stream(
            "POST", "/chat/completions", body=body, timeout_s=timeout_s
        ) as http:
            if http.status != OK or http.content_type not in _STREAM_TYPES:
                # Some endpoints answer a stream request with a plain completion.
                answer = completion(_success(await http.read()), asked)
                yield Chunk(answer.text, tool_calls=answer.tool_calls)
                yield Chunk(end="complete", answer=answer)
                return
            reader = ChunkReader(asked, http.headers)
            try:
                async for event in http.events():
                    chunk = reader.take(event.data)
                    if chunk is not None:
                        yield chunk
                    if reader.done:
                        break
            except CutAnswer:
                if not reader.started:
                    raise
            except BackendTimeout:
                if not reader.complete:
                    raise
            yield _last_chunk(reader, http)

    async def embed(
        self, query: Query, inputs: Sequence[str], timeout_s: float
    ) -> Embeddings:
        """Return one vector per input, in order."""
        default = self._settings.embedding_model
        model = self._upstream(query.model, default)
        if not model:
            raise BackendMisconfigured("no embedding model is set", sent=False)
        answer = await self._client.request(
            "POST",
            "/embeddings",
            body=embedding_body(query, inputs, model),
            timeout_s=timeout_s,
        )
        return embeddings(_success(answer), inputs, model)

    async def ping(self, timeout_s: float) -> ProbeResult:
        """Ask for the list of models, which bills nothing."""
        started_s = self._now()
        try:
            answer = await self._client.request("GET", "/models", timeout_s=timeout_s)
        except BackendError as error:
            return ProbeResult(False, self._now() - started_s, str(error))
        latency_s = self._now() - started_s
        if answer.status == OK and answer.data is not None:
            return ProbeResult(True, latency_s)
        if answer.status in _NO_LIST:
            # It is there, but offers no list: real calls must tell the rest.
            return ProbeResult(True, latency_s, "the endpoint lists no models")
        if answer.status == OK:
            return ProbeResult(False, latency_s, f"{WHAT} does not speak JSON")
        return ProbeResult(False, latency_s, str(rejection(answer)))

    def _chat(self, query: Query, *, stream: bool) -> tuple[Asked, dict[str, object]]:
        model = self._upstream(query.model, self._default_model)
        if not model:
            raise BackendMisconfigured("no model is set for this question", sent=False)
        body = chat_body(
            query,
            model,
            self._limit_field,
            stream=stream,
            usage=self._settings.stream_usage,
        )
        return Asked(model, query), body

    def _upstream(self, requested: str, default: str) -> str:
        if requested == "auto" and default:
            return default
        return self._models.upstream(requested) or default


def _limit_field(settings: OpenAISettings) -> str:
    chosen = settings.token_limit_field
    if chosen != "auto":
        return chosen
    official = settings.base_url.startswith("https://api.openai.com/")
    return "max_completion_tokens" if official else "max_tokens"


def _success(answer: HttpAnswer) -> HttpAnswer:
    if answer.status == OK:
        return answer
    if answer.status < 300:  # noqa: PLR2004 - HTTP's success class
        raise BadAnswer(f"{WHAT} answered with status {answer.status}")
    raise rejection(answer)


def _last_chunk(reader: ChunkReader, http: HttpStream) -> Chunk:
    if reader.complete:
        http.whole = True
        return Chunk(end="complete", answer=reader.answer())
    if not reader.started:
        raise BadAnswer(f"{WHAT} ended its stream without an answer")
    return Chunk(end="truncated")
