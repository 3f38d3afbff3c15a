"""What can be set for the gateway, and the check that it is not left open."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

import attrs

from plb_core import ConfigError, EnvVar, Problem, doc
from plb_core.settings import at_least, positive

_LAST_PORT: Final = 65_535
# Looked at on every request; the general test takes ten times as long.
_USUAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def port_number(_: Any, __: attrs.Attribute[Any], value: int) -> None:
    """Accept 0 to 65535; 0 lets the system choose."""
    if not 0 <= value <= _LAST_PORT:
        message = f"expected a port from 0 to 65535, got {value!r}"
        raise ValueError(message)


@attrs.frozen
class GatewaySettings:
    """Settings of the HTTP gateway."""

    host: str = attrs.field(
        default="127.0.0.1",
        metadata=doc("Address to listen on; one that others reach needs `token_env`."),
    )
    port: int = attrs.field(
        default=8080,
        validator=port_number,
        metadata=doc("Port to listen on; 0 takes any free one."),
    )
    token_env: EnvVar | None = attrs.field(
        default=None,
        metadata=doc(
            "Environment variable with the bearer token that every request must carry;"
            " `/healthz` and `/readyz` stay open."
        ),
    )
    max_body_bytes: int = attrs.field(
        default=1_048_576,
        validator=at_least(1024),
        metadata=doc("Largest accepted request body in bytes."),
    )
    body_timeout_s: float = attrs.field(
        default=30.0,
        validator=positive,
        metadata=doc("Seconds within which a request body must have arrived."),
    )
    keepalive_timeout_s: float = attrs.field(
        default=15.0,
        validator=positive,
        metadata=doc(
            "Seconds after which an idle connection, or one that has not finished"
            " sending its headers, is closed."
        ),
    )
    write_stall_timeout_s: float = attrs.field(
        default=30.0,
        validator=positive,
        metadata=doc(
            "Seconds after which a connection is closed whose client does not read."
        ),
    )
    sources_in_text: bool = attrs.field(
        default=True,
        metadata=doc(
            "Whether the OpenAI routes also list the sources at the end of the text,"
            " for clients that drop other fields."
        ),
    )


def is_loopback(host: str) -> bool:
    """Tell whether only programs on this machine can reach `host`."""
    if host in _USUAL:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_open_door(settings: GatewaySettings, name: str) -> None:
    """Raise `ConfigError` when others could ask without a token."""
    if settings.token_env is None and not is_loopback(settings.host):
        message = (
            f"{settings.host!r} can be reached by others; set token_env as well, or"
            " listen on '127.0.0.1'"
        )
        raise ConfigError([Problem(message, key=f"service.{name}.host")])
