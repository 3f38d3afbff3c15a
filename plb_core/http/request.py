"""Requests as bytes: heads prepared once, bodies as strict JSON or a form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from plb_core import strict_json
from plb_core.errors import ConfigError, NoAnswer
from plb_core.types import Problem

if TYPE_CHECKING:
    from yarl import URL

_MAX_HEADS: Final = 64
"""Heads kept ready per client; plugins have a handful of fixed paths."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*\Z")
_PATH: Final = re.compile(r"/[\x21\x24-\x7e]*\Z")
_RESERVED: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class RequestWriter:
    """Writes the requests of one client; `headers` go out with every one."""

    def __init__(self, base: URL, headers: Mapping[str, str]) -> None:
        self._prefix = base.raw_path.rstrip("/")
        self._fixed = {
            "Host": base.host_port_subcomponent or "",
            "User-Agent": "plb",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            **_checked(headers),
        }
        self._heads: dict[tuple[str, str, str], bytes] = {}

    def write(
        self,
        method: str,
        path: str,
        body: object | None,
        form: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
    ) -> bytes:
        """Return the whole request; `form` and `body` exclude one another.

        Raises `NoAnswer` for a body that JSON cannot carry, such as half an emoji.
        """
        if form is not None:
            content = urlencode(form).encode()
            kind = "application/x-www-form-urlencoded"
        elif body is not None:
            content = _json(body)
            kind = "application/json"
        else:
            content = b""
            kind = ""
        if headers:
            head = self._head(method, path, kind, _checked(headers))
        else:
            key = (method, path, kind)
            cached = self._heads.get(key)
            if cached is None:
                cached = self._head(method, path, kind, {})
                if len(self._heads) < _MAX_HEADS:
                    self._heads[key] = cached
            head = cached
        if not content and method == "GET":
            return head + b"\r\n"
        return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(content), content)

    def _head(
        self, method: str, path: str, kind: str, extra: Mapping[str, str]
    ) -> bytes:
        if not _TOKEN.match(method) or not _PATH.match(path) or "/../" in f"{path}/":
            raise ValueError("a method or path is not fit for HTTP")
        merged = {name.lower(): (name, value) for name, value in self._fixed.items()}
        merged.update((name.lower(), (name, value)) for name, value in extra.items())
        if kind:
            merged["content-type"] = ("Content-Type", kind)
        target = self._prefix + path
        lines = [f"{method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in merged.values()]
        return ("\r\n".join(lines) + "\r\n").encode("ascii")


def _json(body: object) -> bytes:
    try:
        return strict_json.dumps(body)
    except strict_json.StrictJsonError as error:
        message = f"the question cannot be written as JSON: {error.code}"
        raise NoAnswer(message, reason="invalid_request") from None


def _checked(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers; raise `ConfigError` for what would break the framing."""
    for name, value in headers.items():
        if not _TOKEN.match(name) or name.lower() in _RESERVED:
            raise ConfigError([Problem(f"{name!r} cannot be set as a header")])
        if not _VALUE.match(value):
            message = (
                f"the value for the header {name!r} has characters that HTTP forbids:"
                " is there a line break in the key?"
            )
            raise ConfigError([Problem(message)])
    return headers
