"""A real balancer with scripted backends behind a real gateway on a free port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import attrs

from plb_core import (
    Answer,
    BackendTraits,
    BuildContext,
    Chunk,
    Embeddings,
    ProbeResult,
    Provider,
    Query,
    Source,
    Usage,
    hookimpl,
)
from plb_core.balancer import Balancer

ALL = frozenset({"chat", "stream", "embeddings", "tools", "images", "response_format"})
SOURCES = (
    Source("Cells", "https://example.org/cells", "Cells live.", "2026-01-02"),
    Source("Notes on enzymes", "notes/enzymes.md"),
)


class Scripted:
    """A backend that does what a test sets; it waits on `gate` when there is one."""

    def __init__(self, name: str) -> None:
        self.traits = BackendTraits(capabilities=ALL)
        self.answer = Answer(
            f"An answer by {name}.",
            sources=SOURCES,
            usage=Usage(11, 7),
            model="upstream-model",
        )
        self.pieces: Sequence[Chunk] | None = None
        self.failures: list[Exception] = []
        self.fails_midway: Exception | None = None
        self.ends: str = "complete"
        self.queries: list[Query] = []
        self.gate: asyncio.Event | None = None
        self.midway: asyncio.Event | None = None
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def ping(self, _: float) -> ProbeResult:
        return ProbeResult(True, 0.001)

    async def _begin(self, query: Query) -> None:
        self.queries.append(query)
        self.entered.set()
        await self._wait(self.gate)
        if self.failures:
            raise self.failures.pop(0)

    async def _wait(self, gate: asyncio.Event | None) -> None:
        if gate is not None:
            try:
                await gate.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

    async def ask(self, query: Query, _: float) -> Answer:
        await self._begin(query)
        return self.answer

    async def stream(self, query: Query, _: float) -> AsyncIterator[Chunk]:
        await self._begin(query)
        pieces = self.pieces
        if pieces is None:
            words = self.answer.text.split(" ")
            pieces = [Chunk(" " * bool(i) + word) for i, word in enumerate(words)]
        for number, piece in enumerate(pieces):
            yield piece
            if number == 0:
                await self._wait(self.midway)
                if self.fails_midway is not None:
                    raise self.fails_midway
        if self.ends == "truncated":
            yield Chunk(end="truncated")
        else:
            yield Chunk(end="complete", answer=self.answer)

    async def embed(self, query: Query, inputs: Sequence[str], _: float) -> Embeddings:
        await self._begin(query)
        vectors = tuple((float(len(each)), 0.5) for each in inputs)
        return Embeddings(vectors, Usage(3), "embedder")


class ScriptedPlugin:
    """Offers the scripted backends; `built` holds them by name."""

    def __init__(self) -> None:
        self.built: dict[str, Scripted] = {}

    @hookimpl
    def plb_register_backend(self) -> Provider[Scripted]:
        return Provider(name="scripted", build=self.build)

    def build(self, _: object, context: BuildContext) -> Scripted:
        return self.built.setdefault(context.name, Scripted(context.name))


@attrs.frozen
class Served:
    """A running gateway, its balancer and its backends."""

    url: str
    balancer: Balancer
    backends: dict[str, Scripted]

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port
        return port

    @property
    def one(self) -> Scripted:
        return self.backends["one"]

    @property
    def in_flight(self) -> int:
        candidates = self.balancer.plan.candidates.values()
        return sum(each.in_flight for each in candidates)

    async def raw(self, data: bytes) -> bytes:
        """Send bytes, return all that comes back until the gateway closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            await writer.drain()
            return await reader.read()
        finally:
            writer.close()


CONFIG = """
[routing]
track = "main"
longest_wait_s = 0
{routing}
[track.main]
algorithm = "round_robin"
[track.spare]
algorithm = "round_robin"
[route."fast/one"]
tiers = [["one"]]
[backend.one]
plugin = "scripted"
{one}
[backend.one.models]
"gpt-x" = "real-x"
{more}
[service.gateway]
port = 0
{gateway}
"""
TWO = '[backend.two]\nplugin = "scripted"\npriority = 2\n'

Serve = Callable[..., Awaitable[Served]]
