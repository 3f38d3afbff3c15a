"""Which addresses plb may connect to, checked at load and again at every look-up.

Link-local, multicast, unspecified and cloud metadata addresses are never allowed;
loopback and private ones only with `allow_private`. Forms that libraries read
differently (`127.1`, `0x7f.1`, `2130706433`) are refused as written, and addresses
that carry another one inside (IPv4-mapped, 6to4, Teredo, NAT64) are judged by both.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from typing import TYPE_CHECKING, Final

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

if TYPE_CHECKING:
    from collections.abc import Iterator

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

FRESH_S: Final = 30.0
"""A changed DNS record is noticed within this time plus one connection."""

NEGATIVE_S: Final = 1.0
"""A failed look-up is not repeated before this time has passed."""

# Metadata and host services outside the link-local range: AWS over IPv6, Alibaba,
# Oracle, Azure.
_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")
)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+\Z")
_NUMERIC_LABEL: Final = re.compile(r"(?:[0-9]+|0[xX][0-9a-fA-F]*)\Z")


class AddressRefused(OSError):
    """A host has no address that may be contacted."""


def host_problem(host: str, *, allow_private: bool) -> str | None:
    """Say why a host written in a URL is refused; names pass, None means allowed."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if _NUMERIC_LABEL.match(host.rstrip(".").rpartition(".")[2]):
            return "write an IP address in its usual form, like 127.0.0.1"
        return None if _NAME.match(host) else "expected a host name"
    return address_problem(address, allow_private=allow_private)


def address_problem(address: IPAddress, *, allow_private: bool) -> str | None:
    """Say why an address is refused; None means allowed."""
    for each in _with_embedded(address):
        if (
            each.is_link_local
            or each.is_multicast
            or each.is_unspecified
            or each in _METADATA
            or (each.version == 4 and int(each) >> 24 in (0, 255))  # noqa: PLR2004 - "this network" and broadcast
        ):
            return "link-local, metadata and multicast addresses are never contacted"
    if not allow_private and not all(
        each.is_global for each in _with_embedded(address)
    ):
        return "a private or loopback address needs allow_private = true"
    return None


def _with_embedded(address: IPAddress) -> Iterator[IPAddress]:
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    mapped = address.ipv4_mapped
    if mapped is not None:
        # Only the inner address is ever contacted.
        yield mapped
        return
    yield address
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _NAT64:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


class GuardedResolver(AbstractResolver):
    """Resolves the one host of a client, and returns only addresses that are allowed.

    Known addresses stay in use while they are refreshed in the background and while
    the resolver is down. One look-up runs at a time, however many calls wait.
    """

    def __init__(
        self, *, allow_private: bool, inner: AbstractResolver | None = None
    ) -> None:
        self._allow_private = allow_private
        self._inner = inner or ThreadedResolver()
        self._loop = asyncio.get_running_loop()
        self._known: list[ResolveResult] = []
        self._error = OSError("the name cannot be resolved")
        self._next_look_at = self._loop.time()
        self._look_up: asyncio.Task[None] | None = None

    def expire(self) -> None:
        """Look again before the next connection: the last one failed."""
        self._next_look_at = min(self._next_look_at, self._loop.time() + NEGATIVE_S)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return allowed addresses; raise `OSError` when there are none."""
        if self._look_up is None and self._loop.time() >= self._next_look_at:
            self._look_up = self._loop.create_task(self._refresh(host, port, family))
        if not self._known and self._look_up is not None:
            # Shielded: a caller that gives up leaves the look-up to the others.
            await asyncio.shield(self._look_up)
        if not self._known:
            # A new one each time: a raised exception keeps its traceback and frames.
            raise type(self._error)(str(self._error))
        return self._known

    async def close(self) -> None:
        """Stop a running look-up."""
        if self._look_up is not None:
            self._look_up.cancel()
            await asyncio.gather(self._look_up, return_exceptions=True)
        await self._inner.close()

    async def _refresh(
        self, host: str, port: int, family: socket.AddressFamily
    ) -> None:
        pause_s = NEGATIVE_S
        try:
            found = await self._inner.resolve(host, port, family)
            allowed = [each for each in found if self._allows(each["host"])]
            if allowed:
                self._known = allowed
                pause_s = FRESH_S
            elif found:
                self._known = []
                self._error = AddressRefused(
                    "the name resolves only to addresses that may not be contacted"
                )
        except OSError:
            # The resolver is down or the name is gone: known addresses stay in use.
            self._error = OSError("the name cannot be resolved")
        finally:
            self._next_look_at = self._loop.time() + pause_s
            self._look_up = None

    def _allows(self, host: str) -> bool:
        address = ipaddress.ip_address(host)
        return address_problem(address, allow_private=self._allow_private) is None
