"""The gateway as a service: checked when built, listening once started."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Final

from plb_core import ConfigError, Problem, Secret
from plb_gateway.settings import refuse_open_door

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from plb_core import BuildContext
    from plb_core.balancer import Balancer
    from plb_gateway.server import Server
    from plb_gateway.settings import GatewaySettings

# Requests leave no cycles worth a search after every 700 objects.
_GC_THRESHOLDS: Final = (50_000, 20, 50)


class Gateway:
    """Serves a balancer over HTTP.

    `wall_s` returns Unix time, shown in `created` fields and used for nothing else.
    Raises `ConfigError` for an address others reach without a token.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        context: BuildContext,
        wall_s: Callable[[], float],
    ) -> None:
        refuse_open_door(settings, context.name)
        self._settings = settings
        self._context = context
        self._wall_s = wall_s
        self._token: Secret | None = None
        if settings.token_env is not None:
            self._token = Secret.from_env(settings.token_env)
        self._server: Server | None = None
        self._gc_thresholds = gc.get_threshold()

    async def start(self, balancer: Balancer) -> Sequence[str]:
        """Listen; return the address to show. Raises `ConfigError` if it is taken."""
        # Here, because commands that only ask build services without starting any,
        # and aiohttp takes longer to import than they take to answer.
        from plb_gateway.server import Server  # noqa: PLC0415

        settings = self._settings
        server = Server(
            settings,
            self._context,
            balancer,
            token=self._token,
            wall_s=self._wall_s,
        )
        try:
            address = await server.listen()
        except OSError as error:
            reason = error.strerror or "no such address"
            message = f"cannot listen on {settings.host} port {settings.port}: {reason}"
            key = f"service.{self._context.name}.port"
            raise ConfigError([Problem(message, key=key)]) from error
        self._server = server
        self._gc_thresholds = gc.get_threshold()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        return [address]

    async def close(self) -> None:
        """Stop accepting, let running requests finish for a while, close."""
        if self._server is not None:
            await self._server.close()
            self._server = None
            gc.unfreeze()
            gc.set_threshold(*self._gc_thresholds)
