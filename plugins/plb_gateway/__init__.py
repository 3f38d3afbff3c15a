"""The HTTP gateway that `plb serve` runs: OpenAI-compatible and native routes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from plb_core import Provider, hookimpl
from plb_gateway.service import Gateway
from plb_gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from plb_core import BuildContext

__all__ = ["Gateway", "GatewaySettings", "plb_register_service"]


def build(settings: GatewaySettings, context: BuildContext) -> Gateway:
    """Return the service; nothing listens before `start`."""
    # OpenAI's `created` fields are Unix time; nothing is measured with this clock.
    return Gateway(settings, context, time.time)


@hookimpl
def plb_register_service() -> Provider[Gateway]:
    """Offer the gateway."""
    return Provider(
        name="gateway",
        build=build,
        settings=GatewaySettings,
        summary="Serves OpenAI-compatible and native routes over HTTP.",
    )
