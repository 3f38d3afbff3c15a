"""Send server-sent events; a cut answer never looks complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from plb_core import BackendError, strict_json
from plb_gateway.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from plb_gateway.exchange import Exchange

    Tell = Callable[[web.StreamResponse], Awaitable[None]]


class Cut(Exception):
    """The backend's answer ended before its end."""


async def send_events(
    exchange: Exchange, headers: Mapping[str, str], tell: Tell
) -> web.StreamResponse:
    """Run `tell` on an open event stream; end it properly only if `tell` returns.

    When the backend fails midway the client gets an error event and a connection that
    closes without the body's end mark.
    """
    response = web.StreamResponse(headers=headers)
    request = exchange.request
    if request.version < (1, 1):
        # HTTP/1.0 has no end mark: only closing ends the body.
        response.force_close()
    await response.prepare(request)
    try:
        await tell(response)
    except (BackendError, Cut):
        refusal = Refusal("stream_cut")
        await response.write(event(refusal.body()))
        # Flushes, then closes; the end mark can no longer be written.
        request.protocol.force_close()
        return response
    await response.write_eof()
    return response


def event(data: object, name: str = "") -> bytes:
    """Return one event with JSON data."""
    head = f"event: {name}\n".encode() if name else b""
    return b"%bdata: %b\n\n" % (head, strict_json.dumps(data))
