"""What plugin authors need to declare settings: help texts, ranges, secrets.

A settings class is a frozen attrs class. Each field has a type from this list: `str`,
`int`, `float`, `bool`, `datetime.date`, `EnvVar`, a `Literal` of strings,
`tuple[T, ...]`, `Mapping[str, T]`, another attrs class, or one of these `| None`.
Give every field a help text with `metadata=doc("…")`; the reference page and the JSON
Schema are generated from it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NewType
from urllib.parse import urlsplit

import attrs

EnvVar = NewType("EnvVar", str)
"""The *name* of an environment variable; checked at load to be set and not empty."""

Check = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def doc(text: str) -> dict[str, str]:
    """Return attrs metadata that carries a setting's help text (one sentence)."""
    return {"doc": text}


def at_least(minimum: float) -> Check:
    """Accept numbers ≥ `minimum`."""

    def check(_: Any, __: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and value < minimum:
            message = f"expected a number of at least {minimum:g}, got {value!r}"
            raise ValueError(message)

    return check


def positive(_: Any, __: attrs.Attribute[Any], value: Any) -> None:
    """Accept numbers > 0."""
    if value is not None and value <= 0:
        message = f"expected a number above 0, got {value!r}"
        raise ValueError(message)


def share(_: Any, __: attrs.Attribute[Any], value: Any) -> None:
    """Accept numbers from 0 to 1."""
    if value is not None and not 0 <= value <= 1:
        message = f"expected a number from 0 to 1, got {value!r}"
        raise ValueError(message)


def http_url(_: Any, __: attrs.Attribute[Any], value: Any) -> None:
    """Accept http and https addresses with a host, no credentials and no query."""
    if value is None:
        return
    try:
        parts = urlsplit(value)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        port_is_valid = False
    if (
        not port_is_valid
        or parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.username is not None
        or parts.query
        or parts.fragment
    ):
        message = (
            "expected an address like 'https://host:port/path' without user name,"
            " query or fragment"
        )
        raise ValueError(message)


class Secret:
    """A secret value that no repr, format, pickle or copy gives away."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    @classmethod
    def from_env(cls, name: EnvVar) -> Secret:
        """Read the variable; its presence was checked when the settings were read."""
        return cls(os.environ[name])

    def reveal(self) -> str:
        """Return the value, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> str:
        message = "a Secret cannot be pickled or copied"
        raise TypeError(message)
