"""Listen, let only the right requests in, and answer every error in one form."""

from __future__ import annotations

import hmac
import re
import traceback
from typing import TYPE_CHECKING, Final

from aiohttp import HttpVersion10, HttpVersion11, web

from plb_core import RequestError
from plb_gateway.answers import error_answer
from plb_gateway.connection import ConnectionServer
from plb_gateway.errors import Refusal, refusal_for
from plb_gateway.exchange import Exchange
from plb_gateway.request_body import skip_leftover
from plb_gateway.routes import OPEN, find_route
from plb_gateway.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable

    from plb_core import BuildContext, Secret
    from plb_core.balancer import Balancer
    from plb_gateway.settings import GatewaySettings

# Longer than most answers take; what still runs then is cancelled.
_SHUTDOWN_TIMEOUT_S: Final = 30.0
_VERSIONS: Final = (HttpVersion11, HttpVersion10)
_HOST: Final = re.compile(
    r"(?:\[([0-9a-fA-F:.]+)\]|([\w.-]+))(?::[0-9]{1,5})?", re.ASCII
)


class Server:
    """One listening gateway; `wall_s` returns Unix time for `created` fields."""

    def __init__(
        self,
        settings: GatewaySettings,
        context: BuildContext,
        balancer: Balancer,
        *,
        token: Secret | None,
        wall_s: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._balancer = balancer
        self._token = None if token is None else token.reveal().encode()
        self._now = context.now
        self._wall_s = wall_s
        self._rng = context.rng
        self._log = context.log
        self._usual_hosts: frozenset[str] = frozenset()
        connections = ConnectionServer(
            self.answer,
            connection_options={
                "new_id": self._new_id,
                "stall_timeout_s": settings.write_stall_timeout_s,
                "keepalive_timeout": settings.keepalive_timeout_s,
                "access_log": None,
                "auto_decompress": False,
                # Leftovers of a refused body are read by request_body, bounded.
                "lingering_time": 0,
            },
        )
        self._runner = web.ServerRunner(
            connections, shutdown_timeout=_SHUTDOWN_TIMEOUT_S
        )

    async def listen(self) -> str:
        """Start to accept connections; return the address. Raises `OSError`."""
        host, runner = self._settings.host, self._runner
        await runner.setup()
        try:
            await web.TCPSite(runner, host, self._settings.port).start()
        except OSError:
            await self.close()
            raise
        port = runner.addresses[0][1]
        self._usual_hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def close(self) -> None:
        """Stop accepting, let running requests finish for a while, close."""
        await self._runner.cleanup()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; every error leaves in the catalogue's form."""
        try:
            path = request.raw_path.partition("?")[0]
            self._admit(request, path)
            answerer, tail = find_route(request.method, path)
            exchange = Exchange(
                request,
                self._balancer,
                self._settings,
                self._new_id,
                tail,
                self._now,
                self._wall_s,
            )
            return await answerer(exchange)
        except Refusal as refusal:
            answer = error_answer(refusal, self._new_id())
            if not request.content.is_eof():
                await skip_leftover(request)
                answer.force_close()
            return answer
        except ConnectionError:
            raise  # the client has left
        except Exception as error:
            request_id = self._new_id()
            if isinstance(error, RequestError):
                answer = error_answer(refusal_for(error), request_id)
            else:
                self._report(error, request_id)
                answer = error_answer(Refusal("internal_error"), request_id)
            if request.writer.output_size > 0:
                raise  # too late for another answer: the connection closes
            return answer

    def _admit(self, request: web.BaseRequest, path: str) -> None:
        """Refuse a request without the token or, where none is set, a foreign host.

        Without a token only a local name is let in: a web page whose own name was
        pointed at this machine sends that name.
        """
        headers = request.headers
        coding = headers.get("Transfer-Encoding")
        # The parser in Python is more lenient here than the one in C.
        if request.version not in _VERSIONS or (
            coding is not None and coding.lower() != "chunked"
        ):
            raise Refusal("malformed_http", close=True)
        if self._token is None:
            host = headers.get("Host", "")
            if host not in self._usual_hosts and not _is_local(host):
                raise Refusal("misdirected_request", close=True)
        elif path not in OPEN:
            given = headers.get("Authorization", "")
            scheme, _, token = given.partition(" ")
            # The parser keeps bytes that are not UTF-8 as lone surrogates.
            raw = token.strip().encode(errors="surrogateescape")
            known = hmac.compare_digest(raw, self._token)
            if scheme.lower() != "bearer" or not known:
                raise Refusal("invalid_token", close=True)

    def _new_id(self) -> str:
        return f"req_{self._rng.getrandbits(64):016x}"

    def _report(self, error: Exception, request_id: str) -> None:
        # Neither the message nor values of variables: both may hold a question.
        frames = "".join(traceback.format_tb(error.__traceback__))
        kind = type(error).__name__
        self._log.error("request {} failed: {}\n{}", request_id, kind, frames)


def _is_local(host: str) -> bool:
    """Tell whether a Host header names this machine; malformed ones do not."""
    match = _HOST.fullmatch(host)
    return match is not None and is_loopback((match[1] or match[2]).lower())
