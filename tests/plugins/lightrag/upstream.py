"""A scripted LightRAG server, and what its real counterpart was seen to say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs

from plb_backend_lightrag import LightRAGBackend, LightRAGSettings
from plb_backend_lightrag.backend import build
from plb_backend_lightrag.replies import (
    CANNED_FAILURE,
)
from plb_core.testing import fakes
from plb_core.types import Chunk, Query

QUESTION = Query("Which enzyme controls glycolysis?")
SECRET = "canary-4711"
NO_CONTEXT = "Sorry, I'm not able to provide an answer to that question.[no-context]"
ANSWERED = {
    "response": "An enzyme does. [1]\n\n### References\n\n- [1] glycolysis.md",
    "references": [
        {
            "reference_id": "1",
            "file_path": "notes/glycolysis.md",
            "content": ["Phosphofructokinase sets the pace."],
        },
        {"reference_id": "2", "file_path": "krebs.md", "content": None},
    ],
    "response_time": 0.063,
    "llm_generated": True,
}
CANNED = {
    "response": CANNED_FAILURE,
    "references": [],
    "response_time": 8.2,
    "llm_generated": False,
}
PASSAGES = {
    "status": "success",
    "message": "Query processed successfully",
    "data": {
        "entities": [],
        "relationships": [],
        "chunks": [
            {
                "reference_id": "1",
                "content": (
                    "Glucose enters the cell. Hexokinase traps it."
                    " The enzyme that controls glycolysis is phosphofructokinase."
                ),
                "file_path": "notes/glycolysis.md",
                "chunk_id": "c1",
            },
            {
                "reference_id": "2",
                "content": "Citrate synthase starts each turn.",
                "file_path": "krebs.md",
                "chunk_id": "c2",
            },
        ],
        "references": [{"reference_id": "1", "file_path": "notes/glycolysis.md"}],
    },
    "metadata": {"query_mode": "naive"},
}
NOTHING_FOUND = {
    "status": "failure",
    "message": "Query returned no results",
    "data": {},
    "metadata": {"failure_reason": "no_results", "mode": "naive"},
}


LOGGED_IN = {"access_token": "t1", "token_type": "bearer"}
HEALTHY = {"status": "healthy", "pipeline_busy": False}


@attrs.frozen
class Seen:
    """One request as it arrived; header names in lower case."""

    path: str
    headers: Mapping[str, str]
    body: Any


@attrs.frozen
class Scripted:
    """A reply as bytes, after waiting for `gate`; the connection closes behind it."""

    data: bytes
    gate: asyncio.Event | None = None


class Upstream:
    """A server whose replies are written byte by byte.

    Each path has a list of replies; the last one repeats.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.url = ""
        self.arrived = asyncio.Event()
        self._replies: dict[str, list[Scripted]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def on(self, path: str, *replies: Scripted) -> None:
        self._replies[path] = list(replies)

    def paths(self) -> list[str]:
        return [each.path for each in self.seen]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Upstream]:
        """Listen on a free port until the block ends."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        try:
            await self._reply(reader, writer)
        finally:
            writer.close()

    async def _reply(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        except asyncio.IncompleteReadError:  # connected, but asked nothing
            return
        pairs = [line.partition(":") for line in head[1:] if line]
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        body: object = raw.decode()
        if "json" in headers.get("content-type", ""):
            body = json.loads(raw)
        path = head[0].split(" ")[1]
        self.seen.append(Seen(path, headers, body))
        self.arrived.set()
        replies = self._replies.get(path, [says({"detail": "Not Found"}, 404)])
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if reply.gate is not None:
            await reply.gate.wait()
        writer.write(reply.data)


def says(
    body: object,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    gate: asyncio.Event | None = None,
) -> Scripted:
    """Reply with JSON, or with the given bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    more = {"content-type": "application/json", **(headers or {})}
    return Scripted(
        _head(status, {**more, "content-length": str(len(data))}) + data, gate
    )


def lines(
    *values: object, end: str = "whole", headers: Mapping[str, str] | None = None
) -> Scripted:
    """Stream one JSON line per value; strings go out as they are.

    `end` is "whole", "cut" (chunked, but the last chunk is missing) or "unframed"
    (only the closed connection ends the body).
    """
    more = {"content-type": "application/x-ndjson", **(headers or {})}
    texts = [v if isinstance(v, str) else json.dumps(v) for v in values]
    pieces = [text.encode() + b"\n" for text in texts]
    if end == "unframed":
        return Scripted(_head(200, more) + b"".join(pieces))
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    last = b"0\r\n\r\n" if end == "whole" else b""
    return Scripted(
        _head(200, {**more, "transfer-encoding": "chunked"}) + chunks + last
    )


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Said\r\n{fields}connection: close\r\n\r\n".encode()


@asynccontextmanager
async def open_backend(
    url: str, clock: fakes.FakeClock | None = None, **settings: Any
) -> AsyncIterator[LightRAGBackend]:
    made = build(
        LightRAGSettings(base_url=url, **settings),
        fakes.context("graph", now=clock),
    )
    await made.start()
    try:
        yield made
    finally:
        await made.close()


async def collect(
    backend: LightRAGBackend, seen: list[Chunk] | None = None
) -> list[Chunk]:
    """Return the chunks of a stream; `seen` keeps those before a failure, too."""
    seen = [] if seen is None else seen
    async for chunk in backend.stream(QUESTION, 5.0):
        seen.append(chunk)
    return seen
