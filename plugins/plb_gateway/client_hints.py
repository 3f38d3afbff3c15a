"""What a client says about itself in headers: session, region, tenant, time allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from plb_core.types import NO_ATTRIBUTES
from plb_gateway.errors import Refusal
from plb_gateway.fields import MAX_KEY_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multidict import CIMultiDictProxy

SESSION: Final = "x-plb-session"
REGION: Final = "x-plb-region"
TENANT: Final = "x-plb-tenant"
TIMEOUT_MS: Final = "x-plb-timeout-ms"
_LONGEST_TIMEOUT_MS: Final = 3_600_000


@attrs.frozen
class Hints:
    """The values of the four headers; empty or None where a header is absent."""

    session: str = ""
    region: str = ""
    attributes: Mapping[str, str] = NO_ATTRIBUTES
    deadline_s: float | None = None


_NO_HINTS: Final = Hints()


def read_hints(headers: CIMultiDictProxy[str]) -> Hints:
    """Return the hints of a request; raise `Refusal` for an unusable value."""
    if not (
        SESSION in headers
        or REGION in headers
        or TENANT in headers
        or TIMEOUT_MS in headers
    ):
        return _NO_HINTS
    tenant = _value(headers, TENANT)
    return Hints(
        _value(headers, SESSION),
        _value(headers, REGION),
        {"tenant": tenant} if tenant else NO_ATTRIBUTES,
        _deadline_s(_value(headers, TIMEOUT_MS)),
    )


def _value(headers: CIMultiDictProxy[str], name: str) -> str:
    value = headers.get(name, "")
    if not value:
        return ""
    if len(headers.getall(name)) > 1:
        raise _unusable(name, "is given twice")
    if len(value) > MAX_KEY_CHARACTERS or not value.isprintable():
        raise _unusable(name, f"has over {MAX_KEY_CHARACTERS} or odd characters")
    return value


def _deadline_s(timeout_ms: str) -> float | None:
    if not timeout_ms:
        return None
    # isdecimal alone also admits other scripts' digits.
    if timeout_ms.isascii() and timeout_ms.isdecimal():
        milliseconds = int(timeout_ms)
        if 0 < milliseconds <= _LONGEST_TIMEOUT_MS:
            return milliseconds / 1000
    raise _unusable(TIMEOUT_MS, f"is not from 1 to {_LONGEST_TIMEOUT_MS}")


def _unusable(name: str, why: str) -> Refusal:
    return Refusal("invalid_header", f"The header {name} {why}.", param=name)
