"""The connections of one client: opened, kept for a while, checked before use."""

from __future__ import annotations

import asyncio
import select
import sys
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver
    from aiohttp.connector import Connection
    from yarl import URL

KEEPALIVE_S: Final = 4.0
"""Below the five seconds after which common Python and Node servers hang up, so that
a call rarely meets a connection that is just being closed."""

MAX_HEADERS: Final = 100
MAX_HEADER_BYTES: Final = 8190


class Pool:
    """Connections to one host.

    aiohttp opens them. It would also keep them, but by host, proxy and limit: with the
    next request's checks that costs a fifth of a whole call.
    """

    def __init__(self, base: URL, resolver: AbstractResolver) -> None:
        self._loop = asyncio.get_running_loop()
        # The core bounds what is in flight; a second limit here would only hide
        # waiting time inside the connect timeout.
        self._connector = _Connector(
            limit=0, use_dns_cache=False, resolver=resolver, force_close=True
        )
        # Says where to connect to; never sent.
        self._target = aiohttp.ClientRequest("GET", base, loop=self._loop)
        self._idle: deque[tuple[Connection, float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def idle(self) -> Connection | None:
        """Return the one that was used last and is still fit; None when none is."""
        while self._idle:
            connection, since = self._idle.pop()
            if self._loop.time() - since < KEEPALIVE_S and not _is_stale(connection):
                return connection
            connection.close()
        return None

    async def open(self, limits: aiohttp.ClientTimeout) -> Connection:
        """Return a new connection; raises what aiohttp raises."""
        connection = await self._connector.connect(self._target, [], limits)
        protocol = connection.protocol
        assert protocol is not None  # noqa: S101 - for mypy: set until closed
        # Once is enough: one parser reads answer after answer.
        protocol.set_response_params(
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
        )
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose last answer was read to its end."""
        protocol = connection.protocol
        if self._closed or protocol is None or protocol.should_close:
            connection.close()
            return
        self._idle.append((connection, self._loop.time()))
        if self._timer is None:
            self._timer = self._loop.call_later(KEEPALIVE_S, self._expire)

    async def close(self) -> None:
        """Close every connection, those in use too."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._idle:
            self._idle.pop()[0].close()
        await self._connector.close()

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._idle:
            connection, since = self._idle[0]
            if now < since + KEEPALIVE_S:
                due_at = since + KEEPALIVE_S
                self._timer = self._loop.call_at(due_at, self._expire)
                return
            self._idle.popleft()
            connection.close()


class _Wire(ResponseHandler):
    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on reading if it was paused.

        aiohttp calls this after every piece of a body, parses nothing once more and
        has the transport raise an error, which it ignores: a tenth of a whole call.
        """
        if self._reading_paused:
            super().resume_reading(resume_parser)


class _Connector(aiohttp.TCPConnector):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(_Wire, loop=self._loop)  # type: ignore[assignment] # partial is invariant


def _is_stale(connection: Connection) -> bool:
    """Say whether a connection was hung up, or spoke, while it was idle.

    Bytes nobody asked for would be taken for the next answer. The socket is asked as
    well, because what it has received may not have been read yet.
    """
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None or protocol.should_close:
        return True
    descriptor = transport.get_extra_info("socket").fileno()
    return descriptor < 0 or _has_news(descriptor)


def _has_news(descriptor: int) -> bool:
    if sys.platform == "win32":  # pragma: no cover - it has no poll
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
