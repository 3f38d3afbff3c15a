"""Two clients and the recorded shapes, for the tests of the emulators."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import attrs

from plb_core.testing.emulators import Emulator

SHAPES: dict[str, Any] = json.loads(
    Path(__file__).with_name("wire_shapes.json").read_text("utf-8")
)
_NAMES = {str: "str", int: "int", float: "float", bool: "bool", type(None): "null"}


def shape(value: object) -> object:
    """Return the value with every scalar replaced by its type's name.

    Of a list only the different shapes remain, in order.
    """
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        shapes = [shape(each) for each in value]
        return [each for n, each in enumerate(shapes) if each not in shapes[:n]]
    return _NAMES[type(value)]


@attrs.frozen
class Got:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.text)

    @property
    def lines(self) -> list[Any]:
        """The decoded lines of NDJSON."""
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def events(self) -> list[Any]:
        """The decoded data of Server-Sent Events, `[DONE]` as a string."""
        data = [
            line.removeprefix("data: ")
            for line in self.text.splitlines()
            if line.startswith("data: ")
        ]
        return [each if each == "[DONE]" else json.loads(each) for each in data]


class Client:
    """Sends requests as they are asked for, and judges nothing."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def __call__(
        self,
        url: str,
        body: object = None,
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Got:
        """Send one request, with `body` as JSON unless it is None."""
        if body is not None:
            more["json"] = body
        async with self.session.request(
            method, url, headers=headers, allow_redirects=False, **more
        ) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return Got(answer.status, headers, await answer.text())


@attrs.frozen
class Heard:
    """What came over a bare connection, and how it ended."""

    data: bytes
    was_reset: bool = False

    @property
    def head(self) -> bytes:
        """Status line and headers."""
        return self.data.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        """What came after the headers, as it was framed."""
        return self.data.partition(b"\r\n\r\n")[2]


def post(body: bytes, path: str = "/query") -> bytes:
    """Return the bytes of a request."""
    head = f"POST {path} HTTP/1.1\r\nhost: up\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def talk(up: Emulator, request: bytes, most: int = -1) -> Heard:
    """Send bytes and read until the far side ends, or until `most` bytes came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", up.port)
    data = b""
    try:
        writer.write(request)
        while most < 0 or len(data) < most:
            piece = await reader.read(65536)
            if not piece:
                return Heard(data)
            data += piece
    except ConnectionResetError:
        return Heard(data, was_reset=True)
    finally:
        writer.close()
    return Heard(data)
