"""Where a backend is, how long to wait for it, and how much to take from it."""

from __future__ import annotations

from typing import Any

import attrs
from yarl import URL

from plb_core.http.addresses import host_problem
from plb_core.settings import at_least, doc, http_url, positive


def backend_url(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Accept an address of a backend: `http_url`, and no host that is never allowed."""
    http_url(instance, attribute, value)
    problem = url_problem(value, allow_private=True)
    if problem is not None:
        raise ValueError(problem)


def url_problem(value: str, *, allow_private: bool) -> str | None:
    """Say why an address of a backend is refused; None means allowed."""
    try:
        host = URL(value).raw_host or ""
    except ValueError:
        return "expected an address like 'https://host:port/path'"
    return host_problem(host, allow_private=allow_private)


@attrs.frozen
class HttpSettings:
    """Where a backend is and how long to wait for it."""

    base_url: str = attrs.field(
        validator=backend_url,
        metadata=doc("Address that every path is appended to."),
    )
    allow_private: bool = attrs.field(
        default=False,
        metadata=doc("Allow loopback and private addresses."),
    )
    connect_timeout_s: float = attrs.field(
        default=2.0,
        validator=positive,
        metadata=doc("Longest wait for a connection, name look-up and TLS included."),
    )
    first_byte_timeout_s: float = attrs.field(
        default=30.0,
        validator=positive,
        metadata=doc("Longest wait from sending to the answer's first byte."),
    )
    idle_timeout_s: float = attrs.field(
        default=15.0,
        validator=positive,
        metadata=doc("Longest silence within an answer."),
    )
    max_answer_bytes: int = attrs.field(
        default=8 * 1024 * 1024,
        validator=at_least(1024),
        metadata=doc("Largest whole answer, or line of a stream, in bytes."),
    )
    max_stream_bytes: int = attrs.field(
        default=32 * 1024 * 1024,
        validator=at_least(1024),
        metadata=doc("Largest streamed answer, in bytes."),
    )
