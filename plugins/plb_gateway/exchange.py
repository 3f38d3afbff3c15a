"""One HTTP request on its way through the gateway, and the tools every route shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from plb_gateway.answers import JSON_TYPE, SSE_TYPE, base_headers, routed_headers
from plb_gateway.client_hints import Hints, read_hints
from plb_gateway.request_body import read_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from plb_core.balancer import Balancer
    from plb_core.replies import EmbeddingsReply, Reply
    from plb_core.stream import ReplyStream
    from plb_gateway.settings import GatewaySettings


# Not frozen: created per request on the hot path; `started_s` is set once the body
# has been read, so that a client's slowness does not count as overhead.
@attrs.define(eq=False)
class Exchange:
    """What a route gets: the request, the balancer, the settings and two clocks.

    `tail` is the part of the path after a route's prefix, decoded. `wall_s` is Unix
    time, for `created` fields only.
    """

    request: web.BaseRequest
    balancer: Balancer
    settings: GatewaySettings
    new_id: Callable[[], str]
    tail: str
    now: Callable[[], float]
    wall_s: Callable[[], float]
    started_s: float = 0.0

    async def body(self) -> dict[str, object]:
        """Return the body's JSON object and start the clock of the overhead."""
        body = await read_object(self.request, self.settings)
        self.started_s = self.now()
        return body

    def hints(self) -> Hints:
        """Return what the headers say about the client."""
        return read_hints(self.request.headers)

    def created(self) -> int:
        """Return the Unix time in whole seconds."""
        return int(self.wall_s())

    def plain_headers(self) -> dict[str, str]:
        """Return the headers of a JSON answer that no backend gave."""
        return base_headers(JSON_TYPE, self.new_id())

    def reply_headers(self, reply: Reply | EmbeddingsReply) -> dict[str, str]:
        """Return the headers of a complete answer; call it last before sending.

        The overhead is the time since the body was read, less the backends' share.
        """
        backends_s = reply.latency_s - reply.overhead_s
        return routed_headers(
            JSON_TYPE,
            request_id=reply.request_id,
            backend=reply.backend,
            track=reply.track,
            algorithm=reply.algorithm,
            attempts=reply.attempts,
            overhead_s=self.now() - self.started_s - backends_s,
        )

    def stream_headers(self, stream: ReplyStream) -> dict[str, str]:
        """Return the headers of a streamed answer; proxies must not hold it back."""
        headers = routed_headers(
            SSE_TYPE,
            request_id=stream.request_id,
            backend=stream.backend,
            track=stream.track,
            algorithm=stream.algorithm,
            attempts=stream.attempts,
            overhead_s=stream.overhead_s,
        )
        headers["X-Accel-Buffering"] = "no"
        return headers
