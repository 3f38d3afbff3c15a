"""One client connection: odd framing gets an error object, a stalled reader is cut."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web

from plb_gateway.answers import error_answer
from plb_gateway.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

# Slower than this a client counts as stalled: no person or program reads at 1 KiB/s.
_SLOWEST_READER_BYTES_PER_S: Final = 1024


class Connection(web.RequestHandler):
    """A connection that aborts when its client stops reading.

    The clock runs while the transport holds more than its high-water mark, and again
    after the last answer until the remaining bytes are gone: `close` alone would wait
    for them without end.
    """

    __slots__ = ("_new_id", "_socket", "_stall_timeout_s", "_stall_timer", "_waiting")

    def __init__(
        self,
        manager: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        new_id: Callable[[], str],
        stall_timeout_s: float,
        **options: Any,
    ) -> None:
        super().__init__(manager, loop=loop, **options)
        self._new_id = new_id
        self._stall_timeout_s = stall_timeout_s
        self._stall_timer: asyncio.TimerHandle | None = None
        self._socket: asyncio.Transport | None = None
        self._waiting = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        # uvloop's transports have the methods but not the base class.
        self._socket = cast("asyncio.Transport", transport)
        super().connection_made(transport)

    def pause_writing(self) -> None:
        """Start the clock: the client must take the waiting bytes."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Stop the clock."""
        super().resume_writing()
        self._stop_watching()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on reading if it was paused.

        aiohttp calls this after every piece of a body, parses nothing once more and
        has the transport raise an error, which it ignores: 3 µs per request.
        """
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release everything."""
        self._socket = None
        self._stop_watching()
        super().connection_lost(exc)

    async def start(self) -> None:
        """Serve request after request; then see to it that the socket closes."""
        try:
            await super().start()
        finally:
            self._watch()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that never became one; `message` may quote the client."""
        del status, message
        if request.writer.output_size > 0 or isinstance(exc, ConnectionError):
            reason = "the answer has begun or nobody waits for it; only closing is left"
            raise ConnectionError(reason)
        return error_answer(Refusal("malformed_http", close=True), self._new_id())

    def _watch(self) -> None:
        self._stop_watching()
        if self._socket is not None:
            self._waiting = self._socket.get_write_buffer_size()
            self._stall_timer = self._loop.call_later(
                self._stall_timeout_s, self._judge, self._socket
            )

    def _judge(self, transport: asyncio.Transport) -> None:
        taken = self._waiting - transport.get_write_buffer_size()
        if taken < self._stall_timeout_s * _SLOWEST_READER_BYTES_PER_S:
            transport.abort()
        else:
            self._watch()

    def _stop_watching(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


class ConnectionServer(web.Server):
    """Makes a `Connection` for every client."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Any],
        *,
        connection_options: dict[str, Any],
    ) -> None:
        super().__init__(handler, handler_cancellation=True)
        self._connection_options = connection_options

    def __call__(self) -> Connection:
        """Return the protocol for a new connection."""
        return Connection(self, loop=self._loop, **self._connection_options)
