"""HTTP/1.1 by hand: a server that can break every rule of it on purpose."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

Framing = Literal["length", "chunked", "eof"]

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
_JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"


class NotHttp(Exception):
    """The client sent something this server does not read."""


@attrs.frozen
class Request:
    """One request as it came in.

    `headers` have lower-case names, `query` is the decoded query string. `body` is the
    decoded JSON, the fields of a form, or None; `json_error` says why JSON was not.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    data: bytes = b""
    query: Mapping[str, str] = attrs.field(factory=dict)
    body: object = None
    json_error: str = ""

    @property
    def fields(self) -> Mapping[str, object]:
        """The body when it is an object, otherwise nothing."""
        return self.body if isinstance(self.body, dict) else {}


@attrs.frozen
class Reply:
    """One answer to be sent.

    `pieces` are sent chunked, one write each; without them `body` is sent whole with
    its length. `micro_usd` is what the call costs, None for calls nobody bills.
    `delay_s` comes on top of the emulator's latency.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    pieces: tuple[bytes, ...] | None = None
    micro_usd: int | None = None
    delay_s: float = 0.0

    @property
    def content(self) -> bytes:
        """The whole body, however it is sent."""
        return self.body if self.pieces is None else b"".join(self.pieces)


def json_reply(
    value: object,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    *,
    micro_usd: int | None = None,
    delay_s: float = 0.0,
) -> Reply:
    """Return a reply with `value` as compact JSON."""
    data = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return Reply(
        status,
        data,
        {"content-type": _JSON, **(headers or {})},
        micro_usd=micro_usd,
        delay_s=delay_s,
    )


class Wire:
    """One accepted connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def client_left(self) -> bool:
        """Whether the client has closed its side."""
        return self._reader.at_eof() or self._reader.exception() is not None

    async def read(self) -> Request | None:
        """Return the next request, None when the client is done."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        lines = head.decode("latin-1").split("\r\n")
        try:
            method, target, _ = lines[0].split(" ")
        except ValueError:
            raise NotHttp(lines[0][:40]) from None
        pairs = (line.partition(":") for line in lines[1:] if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        data = await self._read_body(headers)
        parts = urlsplit(target)
        body, json_error = _decode(headers.get("content-type", ""), data)
        return Request(
            method=method,
            path=unquote(parts.path),
            headers=headers,
            data=data,
            query=dict(parse_qsl(parts.query)),
            body=body,
            json_error=json_error,
        )

    async def _read_body(self, headers: Mapping[str, str]) -> bytes:
        if "transfer-encoding" in headers:
            raise NotHttp("chunked request bodies are not read")
        length = int(headers.get("content-length", "0"))
        if length > MAX_BODY_BYTES:
            raise NotHttp("request body too large")
        if headers.get("expect", "").lower() == "100-continue":
            await self.raw(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await self._reader.readexactly(length)

    async def send(
        self,
        reply: Reply,
        *,
        framing: Framing | None = None,
        limit: int | None = None,
        gap_s: float = 0.0,
    ) -> None:
        """Send the reply, pieces `gap_s` apart; stop after `limit` body bytes.

        A limited body is announced in full, so that a client can tell it was cut,
        unless it is framed by the end of the connection.
        """
        framing = framing or ("length" if reply.pieces is None else "chunked")
        await self.head(reply, framing)
        left = len(reply.content) if limit is None else limit
        parts = (reply.body,) if reply.pieces is None else reply.pieces
        for number, part in enumerate(part for part in parts if part):
            if number and gap_s:
                await asyncio.sleep(gap_s)
            prefix = b"%x\r\n" % len(part) if framing == "chunked" else b""
            await self.raw(prefix + part[:left])
            left -= len(part)
            if left < 0:
                return
            if framing == "chunked":
                await self.raw(b"\r\n")
            if left == 0 and limit is not None:
                return
        if framing == "chunked":
            await self.raw(b"0\r\n\r\n")

    async def head(self, reply: Reply, framing: Framing) -> None:
        """Send status line and headers."""
        try:
            phrase = HTTPStatus(reply.status).phrase
        except ValueError:
            phrase = "Unknown"
        headers = dict(reply.headers)
        if framing == "chunked":
            headers["transfer-encoding"] = "chunked"
        elif framing == "length":
            headers["content-length"] = str(len(reply.content))
        else:
            headers["connection"] = "close"
        lines = [f"HTTP/1.1 {reply.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        await self.raw(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are; raises `ConnectionError` when nobody reads."""
        self._writer.write(data)
        await self._writer.drain()

    async def hang(self) -> None:
        """Send nothing more until the client gives up."""
        await self._reader.read(1)

    async def reset(self) -> None:
        """Close with a TCP reset."""
        # Linger on, zero seconds: the kernel answers with RST instead of FIN.
        self._writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close in an orderly way; at once when cancelled meanwhile.

        The last thing a connection does, so a cancellation may end here.
        """
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return
        except asyncio.CancelledError:
            self._writer.transport.abort()


def _decode(content_type: str, data: bytes) -> tuple[object, str]:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == _FORM:
        return dict(parse_qsl(data.decode())), ""
    if not data:
        return None, ""
    try:
        return json.loads(data), ""
    except ValueError as error:
        return None, str(error)
