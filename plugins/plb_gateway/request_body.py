"""Read a JSON body: type first, then bounded bytes in bounded time, then strictly."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp.http import HttpProcessingError
from aiohttp.web import RequestPayloadError

from plb_core import strict_json
from plb_gateway.catalogue import CATALOGUE
from plb_gateway.errors import Refusal

if TYPE_CHECKING:
    from aiohttp import web

    from plb_gateway.settings import GatewaySettings

_JSON: Final = "application/json"
_LEFTOVER_BYTES: Final = 262_144
_LEFTOVER_TIMEOUT_S: Final = 1.0
# What a body with broken framing raises: the parsers in C and in Python differ.
_BROKEN: Final = (RequestPayloadError, HttpProcessingError)


async def read_object(
    request: web.BaseRequest, settings: GatewaySettings
) -> dict[str, object]:
    """Return the body's JSON object; raise `Refusal` for anything else."""
    data = await _read_bytes(request, settings)
    try:
        value = strict_json.loads(data)
    except strict_json.StrictJsonError as error:
        code = error.code if error.code in CATALOGUE else "invalid_json"
        raise Refusal(code, str(error)) from None
    if not isinstance(value, dict):
        message = "The body must be a JSON object."
        raise Refusal("invalid_json", message)
    return value


async def skip_leftover(request: web.BaseRequest) -> None:
    """Read on a little, so that a client still sending gets to see its refusal.

    Closing at once would reset the connection under the answer.
    """
    if "Expect" in request.headers:
        return  # such a client sends nothing before it is told to
    skipped = 0
    try:
        async with asyncio.timeout(_LEFTOVER_TIMEOUT_S):
            while skipped < _LEFTOVER_BYTES and not request.content.is_eof():
                skipped += len(await request.content.readany())
    except (TimeoutError, *_BROKEN):
        return


async def _read_bytes(request: web.BaseRequest, settings: GatewaySettings) -> bytes:
    limit = settings.max_body_bytes
    headers = request.headers
    # The usual spelling first: aiohttp takes a dictionary to split the others.
    if (
        headers.get("Content-Type") != _JSON and request.content_type != _JSON
    ) or headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refusal("unsupported_media_type", close=True)
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    expectation = headers.get("Expect")
    if expectation is not None:
        await _meet_expectation(request, expectation)
    try:
        if request.content.is_eof():
            data = request.content.read_nowait()
        else:
            data = await _read_slowly(request, settings)
    except _BROKEN:
        raise Refusal("malformed_http", close=True) from None
    if len(data) > limit:
        raise _too_large(limit)
    return data


async def _meet_expectation(request: web.BaseRequest, expectation: str) -> None:
    if expectation.lower() != "100-continue":
        raise Refusal("expectation_failed", close=True)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # The answer's own headers must not count as begun.
    request.writer.output_size = 0


async def _read_slowly(request: web.BaseRequest, settings: GatewaySettings) -> bytes:
    received = bytearray()
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            while piece := await request.content.readany():
                received += piece
                if len(received) > settings.max_body_bytes:
                    break
    except TimeoutError:
        raise Refusal("body_timeout", close=True) from None
    return bytes(received)


def _too_large(limit: int) -> Refusal:
    message = f"The body is larger than {limit} bytes."
    return Refusal("body_too_large", message, close=True)
