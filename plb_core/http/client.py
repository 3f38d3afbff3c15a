"""The one place where plb sends HTTP requests to backends.

Not imported by `import plb_core`; backend plugins import it. It holds the rules every
outgoing call obeys: no redirect is followed, every timeout is set, decoded bytes are
counted against a limit, cut bodies are detected, nothing of the client's headers is
forwarded, link-local addresses are never contacted and private ones only on request.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from plb_core.errors import (
    BackendRefused,
    BackendTimeout,
    BackendUnreachable,
    ConfigError,
)
from plb_core.http.addresses import AddressRefused, GuardedResolver
from plb_core.http.answer import HttpAnswer, refusal, retry_after_s
from plb_core.http.exchange import CutAnswer, Exchange, Limits
from plb_core.http.pool import Pool
from plb_core.http.request import RequestWriter
from plb_core.http.settings import HttpSettings, backend_url, url_problem
from plb_core.http.stream import HttpStream, SseEvent
from plb_core.types import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aiohttp.abc import AbstractResolver
    from aiohttp.connector import Connection

__all__ = [
    "CutAnswer",
    "HttpAnswer",
    "HttpClient",
    "HttpSettings",
    "HttpStream",
    "SseEvent",
    "backend_url",
    "refusal",
    "retry_after_s",
]


class HttpClient:
    """Calls one backend; `headers` are the fixed ones, such as the key.

    Raises `ConfigError` for a base URL or a header that cannot be used; the message
    never contains a header's value. `resolver` replaces the system's name look-up.
    """

    def __init__(
        self,
        settings: HttpSettings,
        headers: Mapping[str, str],
        *,
        resolver: AbstractResolver | None = None,
    ) -> None:
        problem = url_problem(settings.base_url, allow_private=settings.allow_private)
        if problem is not None:
            raise ConfigError([Problem(f"base_url: {problem}")])
        self._settings = settings
        self._base = URL(settings.base_url.rstrip("/"))
        self._inner_resolver = resolver
        self._limits = Limits(settings.first_byte_timeout_s, settings.idle_timeout_s)
        self._connect_limits = aiohttp.ClientTimeout(connect=settings.connect_timeout_s)
        self._writer = RequestWriter(self._base, headers)
        self._pool: Pool | None = None
        self._lingering: set[Exchange] = set()

    def __repr__(self) -> str:
        return f"HttpClient({self._settings.base_url!r})"

    async def start(self) -> None:
        """Prepare to connect; contacts nobody."""
        if self._pool is None:
            self._resolver = GuardedResolver(
                allow_private=self._settings.allow_private, inner=self._inner_resolver
            )
            self._pool = Pool(self._base, self._resolver)

    async def close(self) -> None:
        """Close every connection; may be called again."""
        pool, self._pool = self._pool, None
        if pool is not None:
            for exchange in tuple(self._lingering):
                exchange.drop()
            await pool.close()
            await self._resolver.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: object | None = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float,
    ) -> HttpAnswer:
        """Return the complete answer, whatever its status except a redirect.

        `body` is sent as JSON, `form` as a form. Raises `BackendTimeout`,
        `BackendUnreachable`, `BadAnswer`, or `BackendRefused` for a redirect.
        """
        request = self._writer.write(method, path, body, form, headers)
        exchange = await self._connect(timeout_s)
        try:
            await exchange.send(request)
            return await _whole(exchange, self._settings.max_answer_bytes)
        finally:
            exchange.finish()

    @asynccontextmanager
    async def open_stream(
        self,
        method: str,
        path: str,
        *,
        body: object | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float,
    ) -> AsyncIterator[HttpStream]:
        """Send the request and hand over the answer once its head has come.

        `timeout_s` bounds the whole stream. Raises as `request` does.
        """
        request = self._writer.write(method, path, body, None, headers)
        exchange = await self._connect(timeout_s)
        settings = self._settings
        stream = HttpStream(
            exchange, settings.max_stream_bytes, settings.max_answer_bytes
        )
        try:
            await exchange.send(request)
            _refuse_redirect(exchange)
            yield stream
        finally:
            exchange.finish(self._lingering if stream.whole else None)

    async def _connect(self, timeout_s: float) -> Exchange:
        pool = self._pool
        if pool is None:
            raise BackendUnreachable("the client is closed", sent=False)
        if not timeout_s > 0:
            raise BackendTimeout("no time left for this call", sent=False)
        loop = asyncio.get_running_loop()
        end_at = loop.time() + timeout_s
        connection = pool.idle()
        if connection is None:
            connection = await self._open(pool, timeout_s)
        return Exchange(connection, loop, self._limits, end_at, pool.give_back)

    async def _open(self, pool: Pool, timeout_s: float) -> Connection:
        limits = self._connect_limits
        if timeout_s < self._settings.connect_timeout_s:
            limits = aiohttp.ClientTimeout(connect=timeout_s)
        try:
            return await pool.open(limits)
        except TimeoutError as exc:
            message = f"no connection within {limits.connect:g} s"
            raise BackendTimeout(message, sent=False) from exc
        except (aiohttp.ClientError, OSError) as exc:
            self._resolver.expire()
            raise BackendUnreachable(_why(exc), sent=False) from exc


def _refuse_redirect(exchange: Exchange) -> None:
    status = exchange.status
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP's redirect class
        raise BackendRefused(
            f"the backend redirects ({status}), which is never followed", status=status
        )


async def _whole(exchange: Exchange, limit_bytes: int) -> HttpAnswer:
    _refuse_redirect(exchange)
    answer = HttpAnswer(
        exchange.status, exchange.headers, await exchange.read_all(limit_bytes)
    )
    if not exchange.framed and answer.status < 300 and answer.data is None:  # noqa: PLR2004 - HTTP's success class
        # Closing the connection is all that marks this body's end.
        raise CutAnswer("the answer was cut, or is not JSON")
    return answer


def _why(exc: BaseException) -> str:
    """Return a fixed text for a failed connection; the cause has the details."""
    if isinstance(exc, aiohttp.ClientConnectorDNSError):
        if isinstance(exc.os_error, AddressRefused):
            return "the name resolves only to addresses that may not be contacted"
        return "the name cannot be resolved"
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        return "the TLS certificate is not valid for this address"
    if isinstance(exc, aiohttp.ClientSSLError):
        return "TLS could not be set up"
    return "no connection"
