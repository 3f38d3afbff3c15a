"""A TCP proxy that spoils what passes through it, as toxiproxy does."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

PIECE_BYTES = 64 * 1024


@attrs.define
class Toxics:
    """What happens to one direction; each may be changed at any moment.

    `latency_s` delays each piece. `bandwidth_bytes_per_s` limits the rate. `timeout_s`
    lets nothing through and closes after that time, 0 never. `slow_close_s` delays
    the closing. `reset_s` resets the connection that long after its first byte.
    `slice_bytes` cuts into pieces of that size, `slice_gap_s` apart. `limit_bytes`
    closes after that much.
    """

    latency_s: float = 0.0
    bandwidth_bytes_per_s: float | None = None
    timeout_s: float | None = None
    slow_close_s: float = 0.0
    reset_s: float | None = None
    slice_bytes: int | None = None
    slice_gap_s: float = 0.0
    limit_bytes: int | None = None


class FaultProxy:
    """Listens on 127.0.0.1 and passes to `target_port`.

    `answers` spoils the way back, `requests` the way there; with `down` set, no
    connection is accepted, and those there are reset.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.answers = Toxics()
        self.requests = Toxics()
        self.port = 0
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._down = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def down(self) -> bool:
        return self._down

    async def set_down(self, down: bool) -> None:
        """Stop or resume to accept; the port stays the same."""
        if down == self._down:
            return
        self._down = down
        if down:
            await self._stop()
        else:
            await self._listen()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        ends = [writer]
        try:
            there = await asyncio.open_connection("127.0.0.1", self.target_port)
            ends.append(there[1])
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, there[1], self.requests, ends))
                group.create_task(self._pass(there[0], writer, self.answers, ends))
        except* (OSError, _Closed):
            pass
        except* asyncio.CancelledError:
            reset(writer)
        finally:
            for end in ends:
                end.transport.abort()
            self._tasks.discard(task)

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        toxics: Toxics,
        ends: list[asyncio.StreamWriter],
    ) -> None:
        loop = asyncio.get_running_loop()
        passed = 0
        while data := await reader.read(PIECE_BYTES):
            if not passed and toxics.reset_s is not None:
                loop.call_later(toxics.reset_s, _reset_all, tuple(ends))
            if toxics.timeout_s is not None:
                # Without end as toxiproxy has it, or until the connection is cut.
                await asyncio.sleep(toxics.timeout_s or 3600.0)
                raise _Closed
            await asyncio.sleep(toxics.latency_s)
            if toxics.limit_bytes is not None:
                data = data[: max(toxics.limit_bytes - passed, 0)]
            await self._write(data, writer, toxics)
            passed += len(data)
            if toxics.limit_bytes is not None and passed >= toxics.limit_bytes:
                break
        await asyncio.sleep(toxics.slow_close_s)
        writer.close()
        await writer.wait_closed()
        if toxics is self.answers:
            raise _Closed

    async def _write(
        self, data: bytes, writer: asyncio.StreamWriter, toxics: Toxics
    ) -> None:
        rate = toxics.bandwidth_bytes_per_s
        size = toxics.slice_bytes or (max(1, int(rate / 50)) if rate else len(data))
        for start in range(0, len(data), size or 1):
            piece = data[start : start + size]
            writer.write(piece)
            await writer.drain()
            gap_s = toxics.slice_gap_s + (len(piece) / rate if rate else 0.0)
            if gap_s:
                await asyncio.sleep(gap_s)


class _Closed(Exception):
    """One side is done, and so is the other."""


def _reset_all(writers: tuple[asyncio.StreamWriter, ...]) -> None:
    for writer in writers:
        if not writer.transport.is_closing():
            reset(writer)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a TCP reset: linger on, zero seconds."""
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    writer.transport.abort()
