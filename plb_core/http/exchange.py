"""One request and its answer on one connection, with every wait bounded.

aiohttp's connector and response parser do the network work. The request is written
here, in one piece: so it is known whether a byte was sent, nothing is ever resent,
followed or decompressed, and one timer watches all limits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import aiohttp
import attrs
from aiohttp.http_exceptions import HttpProcessingError

from plb_core.errors import BackendTimeout, BackendUnreachable, BadAnswer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from aiohttp.connector import Connection
    from aiohttp.streams import StreamReader

RATE_WINDOW_S: Final = 10.0
MIN_BYTES_PER_WINDOW: Final = 640
"""64 bytes a second. A finished line counts as a whole window, so that keep-alive
lines and slow tokens pass while a body dripped byte by byte does not."""

LINGER_S: Final = 1.0
"""How long a connection may take to end a body that is known to be complete."""

_SWITCHING_PROTOCOLS: Final = 101
_FIRST_FINAL_STATUS: Final = 200
_BODYLESS: Final = frozenset({204, 304})


@attrs.frozen
class Limits:
    """The waits of one call, in seconds."""

    first_byte_s: float
    idle_s: float


class CutAnswer(BadAnswer):
    """The answer ended before its announced end."""


class Exchange:
    """Sends one request and reads its answer; ends in `finish` or `drop`.

    `give_back` takes the connection once the answer was read to its end.

    `framed` says that the answer's end is known from chunks or a length, so that a
    cut is always noticed. `length` is the announced one, None when there is none.
    """

    __slots__ = (
        "_connection",
        "_content",
        "_due_at",
        "_end_at",
        "_give_back",
        "_idle_since",
        "_limits",
        "_lingering",
        "_loop",
        "_progress",
        "_protocol",
        "_quiet_s",
        "_timer",
        "_waiting_since",
        "_window_at",
        "_window_progress",
        "framed",
        "headers",
        "length",
        "status",
    )

    def __init__(
        self,
        connection: Connection,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        end_at: float,
        give_back: Callable[[Connection], None],
    ) -> None:
        protocol = connection.protocol
        assert protocol is not None  # noqa: S101 - for mypy: set until released
        self._connection = connection
        self._give_back = give_back
        self._protocol = protocol
        self._loop = loop
        self._limits = limits
        self._end_at = end_at
        self._content: StreamReader | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._lingering: set[Exchange] | None = None
        self._progress = 0
        self._window_progress = 0
        self.status = 0
        self.headers: Mapping[str, str]
        self.framed = True
        self.length: int | None = None

    async def send(self, request: bytes) -> None:
        """Write the request and wait for the answer's head."""
        protocol = self._protocol
        transport = protocol.transport
        if transport is None or transport.is_closing():
            raise BackendUnreachable("the connection was closed before use", sent=False)
        transport.write(request)
        now = self._loop.time()
        self._waiting_since = self._idle_since = self._window_at = now
        self._quiet_s = self._limits.first_byte_s
        self._watch_until(min(self._end_at, now + self._quiet_s))
        try:
            message, content = await protocol.read()
            while message.code < _FIRST_FINAL_STATUS:
                if message.code == _SWITCHING_PROTOCOLS:
                    raise BadAnswer("the answer switches protocols unasked")
                message, content = await protocol.read()
        except HttpProcessingError:
            # Not chained: its text quotes the answer, which may echo a key.
            raise BadAnswer("the answer is not valid HTTP") from None
        except (aiohttp.ClientError, OSError) as exc:
            raise BackendUnreachable(
                "the connection was lost before an answer came"
            ) from exc
        self._content = content
        self._quiet_s = self._limits.idle_s
        self._waiting_since = math.inf
        self._idle_since = self._window_at = self._loop.time()
        self.status = message.code
        self._take_headers(message.headers, chunked=message.chunked)

    def _take_headers(self, headers: Mapping[str, str], *, chunked: bool) -> None:
        self.headers = headers
        encoding = headers.get("Content-Encoding")
        if encoding is not None and encoding.strip().lower() not in ("", "identity"):
            raise BadAnswer("the answer has a content encoding that was not asked for")
        transfer = headers.get("Transfer-Encoding")
        if transfer is not None and transfer.strip().lower() != "chunked":
            raise BadAnswer("the answer has an unknown transfer encoding")
        length = headers.get("Content-Length")
        if length is not None and not chunked:
            self.length = int(length)
        self.framed = chunked or length is not None or self.status in _BODYLESS

    async def read(self) -> bytes:
        """Return the next bytes of the body, b"" at its end; raise on a cut."""
        content = self._content
        assert content is not None  # noqa: S101 - for mypy: set by send
        now = self._loop.time()
        # Time in which the reader did not ask for more is not the sender's fault.
        self._window_at += now - self._idle_since
        self._waiting_since = now
        due_at = min(now + self._quiet_s, self._window_at + RATE_WINDOW_S)
        if due_at < self._due_at:
            self._watch_until(due_at)
        try:
            chunk = await content.readany()
        except (aiohttp.ClientError, OSError) as exc:
            raise CutAnswer("the answer was cut before its end") from exc
        self._waiting_since = math.inf
        self._idle_since = self._loop.time()
        self._progress += len(chunk)
        if b"\n" in chunk:
            self._progress += MIN_BYTES_PER_WINDOW
        return chunk

    async def read_all(self, limit_bytes: int) -> bytes:
        """Return the whole body; raise `BadAnswer` when it is larger or cut."""
        if self.length is not None and self.length > limit_bytes:
            raise too_large(limit_bytes)
        content = self._content
        assert content is not None  # noqa: S101 - for mypy: set by send
        if content.is_eof():
            body = content.read_nowait()
            if len(body) > limit_bytes:
                raise too_large(limit_bytes)
            return body
        parts = []
        size = 0
        while chunk := await self.read():
            size += len(chunk)
            if size > limit_bytes:
                raise too_large(limit_bytes)
            parts.append(chunk)
        return b"".join(parts)

    def finish(self, lingering: set[Exchange] | None = None) -> None:
        """Give the connection back for the next call, or drop it before its end.

        With `lingering`, the data is known to be complete: then the end of the body,
        which often comes a moment later, is waited for while this is in that set.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        content = self._content
        if content is not None and content.is_eof():
            self._give_back(self._connection)
        elif content is None or lingering is None:
            self.drop()
        else:
            self._lingering = lingering
            lingering.add(self)
            self._timer = self._loop.call_later(LINGER_S, self.drop)
            content.on_eof(self._release)

    def _release(self) -> None:
        self._stop_lingering()
        self._give_back(self._connection)

    def drop(self) -> None:
        """Give the connection up."""
        self._stop_lingering()
        # Aborted, not closed: closing would first wait to send unread requests.
        self._protocol.abort()
        self._connection.close()

    def _stop_lingering(self) -> None:
        if self._lingering is not None and self._timer is not None:
            self._timer.cancel()
            self._lingering.discard(self)

    def _watch_until(self, due_at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due_at = due_at
        self._timer = self._loop.call_at(due_at, self._check)

    def _check(self) -> None:
        now = self._loop.time()
        if now >= self._end_at:
            return self._fail("not finished within the time allowed")
        waiting_since = self._waiting_since
        if waiting_since == math.inf:
            return self._watch_until(min(self._end_at, now + self._quiet_s))
        due_at = min(self._end_at, waiting_since + self._quiet_s)
        if now >= due_at:
            wait = f"{self._quiet_s:g} s"
            if self._content is None:
                return self._fail(f"no first byte within {wait}")
            return self._fail(f"silent for {wait} amid the answer")
        if self._content is not None and now >= self._window_at + RATE_WINDOW_S:
            if self._progress - self._window_progress < MIN_BYTES_PER_WINDOW:
                return self._fail("slower than 64 bytes a second")
            self._window_at = now
            self._window_progress = self._progress
        if self._content is not None:
            due_at = min(due_at, self._window_at + RATE_WINDOW_S)
        return self._watch_until(due_at)

    def _fail(self, message: str) -> None:
        self._timer = None
        failure = BackendTimeout(message)
        if self._content is None:
            self._protocol.set_exception(failure)
        else:
            self._content.set_exception(failure)


def too_large(limit_bytes: int) -> BadAnswer:
    """Return the error for an answer over its limit."""
    return BadAnswer(f"the answer is larger than {limit_bytes} bytes")
