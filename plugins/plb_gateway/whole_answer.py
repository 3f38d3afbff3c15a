"""One answer in one write: the head, then the body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import HttpVersion10, web
from aiohttp.helpers import rfc822_formatted_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.abc import AbstractStreamWriter


class WholeAnswer(web.StreamResponse):
    """An answer that is known completely before its first byte is sent.

    `headers` are all but the date, the length and whether the connection stays open.
    `web.Response` does the same in many more steps, because it serves more cases.
    """

    def __init__(
        self, body: bytes, headers: Mapping[str, str], status: int = 200
    ) -> None:
        super().__init__(status=status, headers=headers)
        self._whole = body
        self._bytes = b""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Write the head for the request's version of HTTP; send nothing yet."""
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        body = self._whole
        old = request.version == HttpVersion10
        connection = ""
        if old and self._keep_alive:
            connection = "Connection: keep-alive\r\n"
        elif not (old or self._keep_alive):
            connection = "Connection: close\r\n"
        headers = self._headers
        if not "".join(headers.values()).isprintable():
            raise ValueError("a header's value has a control character")
        lines = "\r\n".join(map(": ".join, headers.items()))
        head = (
            f"HTTP/1.{0 if old else 1} {self._status} {self._reason}\r\n{lines}\r\n"
            f"Date: {rfc822_formatted_time()}\r\n"
            f"Content-Length: {len(body)}\r\n{connection}\r\n"
        ).encode("ascii")
        # HEAD gets the head that GET would get.
        self._bytes = head if request.method == "HEAD" else head + body
        self._payload_writer = request.writer
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Send all of it; wait while the client does not read."""
        assert not data  # noqa: S101 - StreamResponse's signature; nobody gives any
        writer, self._payload_writer = self._payload_writer, None
        assert writer is not None  # noqa: S101 - for mypy: set by prepare
        await writer.write(self._bytes)
        await writer.drain()
        self._eof_sent = True
