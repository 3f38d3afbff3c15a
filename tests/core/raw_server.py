"""A TCP server that does exactly what a test says, byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(
    body: bytes, *, status: str = "200 OK", headers: str = "", framing: str = "length"
) -> bytes:
    """Return the bytes of an answer; `framing` is length, chunked or eof."""
    if framing == "chunked":
        headers += "Transfer-Encoding: chunked\r\n"
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    elif framing == "length":
        headers += f"Content-Length: {len(body)}\r\n"
    else:
        headers += "Connection: close\r\n"
    return f"HTTP/1.1 {status}\r\n{headers}\r\n".encode() + body


class RawServer:
    """Reads each request whole, then plays `play`, or sends `play` as it is."""

    def __init__(self, play: Play | bytes, *, close: bool = False) -> None:
        self.play = play
        self.close_after = close
        self.requests: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that this server sees has come true."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                body = await reader.readexactly(length)
                self.requests.append(head + body)
                self.changed.set()
                if isinstance(self.play, bytes):
                    writer.write(self.play)
                    await writer.drain()
                else:
                    await self.play(reader, writer)
                if self.close_after:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.open -= 1
            self.changed.set()
