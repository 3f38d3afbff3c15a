"""What comes back from a backend over HTTP, and what its status means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import attrs

from plb_core import strict_json
from plb_core.errors import (
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendRefused,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_RETRY_AFTER_S: Final = 3600.0
"""A longer wish is cut to this: an hour out is enough for a wrong header."""

_SECONDS: Final = re.compile(r"[0-9]{1,40}(?:\.[0-9]{1,9})?\Z", re.ASCII)
_UNREAD: Final = object()


# Not frozen: the decoded body is remembered after the first look.
@attrs.define(eq=False)
class HttpAnswer:
    """A complete answer. Look-ups in `headers` ignore case."""

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")
    _data: object = attrs.field(default=_UNREAD, init=False, repr=False)

    @property
    def data(self) -> object:
        """The body as strict JSON; None when it is not JSON (or the literal null)."""
        if self._data is _UNREAD:
            try:
                self._data = strict_json.loads(self.body)
            except strict_json.StrictJsonError:
                self._data = None
        return self._data

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters; "" when absent."""
        return media_type(self.headers)


def media_type(headers: Mapping[str, str]) -> str:
    """Return the Content-Type in lower case, without parameters; "" when absent."""
    return header(headers, "content-type").partition(";")[0].strip().lower()


def header(headers: Mapping[str, str], name: str) -> str:
    """Return the first header of that lower-case name, "" when absent."""
    return headers.get(name, "")


def retry_after_s(
    headers: Mapping[str, str], wall_now: Callable[[], datetime] | None = None
) -> float | None:
    """Return the wait a backend asks for in seconds, 0 … 3600, or None.

    `retry-after-ms` wins over `Retry-After`; of repeated headers the longest counts.
    A date is measured against `wall_now`, or without it against the answer's own
    Date header; a date that cannot be measured and any malformed value mean None.
    """
    waits = [_seconds(text, 0.001) for text in _all(headers, "retry-after-ms")]
    known = [wait for wait in waits if wait is not None]
    if not known:
        for text in _all(headers, "retry-after"):
            wait = _seconds(text, 1.0)
            if wait is None:
                wait = _until(text, headers, wall_now)
            if wait is not None:
                known.append(wait)
    return min(max(known), MAX_RETRY_AFTER_S) if known else None


def _all(headers: Mapping[str, str], name: str) -> list[str]:
    getall = getattr(headers, "getall", None)
    if getall is not None:
        return list(getall(name, ()))
    value = headers.get(name)
    return [] if value is None else [value]


def _seconds(text: str, unit_s: float) -> float | None:
    text = text.strip()
    return float(text) * unit_s if _SECONDS.match(text) else None


def _until(
    text: str, headers: Mapping[str, str], wall_now: Callable[[], datetime] | None
) -> float | None:
    moment = _date(text)
    now = wall_now() if wall_now is not None else _date(header(headers, "date"))
    if moment is None or now is None:
        return None
    return max(0.0, (moment - now).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def refusal(answer: HttpAnswer, what: str) -> BackendError:
    """Return the error for a status that is no success; `what` names the backend.

    429 is `BackendBusy`; 401, 402, 403, 404 and 405 are `BackendMisconfigured`; any
    other is `BackendRefused`. Nothing of the body enters the message.
    """
    error = _refusal(answer, what)
    if answer.status < 500:  # noqa: PLR2004 - HTTP's own number
        error.billed_micro_usd = 0  # refused before any work
    return error


def _refusal(answer: HttpAnswer, what: str) -> BackendError:
    status = answer.status
    wait_s = retry_after_s(answer.headers)
    if status == 429:  # noqa: PLR2004 - HTTP's own number
        return BackendBusy(
            f"{what} asks for fewer requests (429)", retry_after_s=wait_s
        )
    reason = _MISCONFIGURED.get(status)
    if reason is not None:
        return BackendMisconfigured(f"{what} {reason}", retry_after_s=wait_s)
    return BackendRefused(
        f"{what} answered with status {status}", status=status, retry_after_s=wait_s
    )


_MISCONFIGURED: Final[Mapping[int, str]] = {
    401: "does not accept the key (401)",
    402: "asks for payment (402)",
    403: "forbids this key or this call (403)",
    404: "does not know this endpoint or model (404)",
    405: "does not allow this method: is it the right endpoint? (405)",
}
