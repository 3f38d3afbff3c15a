"""Every error the gateway answers with: code, status and advice, in one table.

`retry` says what a client should do: "no" sends `x-should-retry: false`, because
asking again cannot help; "later" leaves the client its own retries and names the wait
where it is known.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

Retry = Literal["no", "later"]


@attrs.frozen
class Entry:
    """One kind of error. `meaning` is the message unless a more precise one is known.

    `retry_after_s` is the wait to name when none is known, None to name none.
    """

    code: str
    status: int
    type: str
    retry: Retry
    meaning: str
    retry_after_s: float | None = None


_REQUEST = "invalid_request_error"
_SERVER = "server_error"
_UPSTREAM = "backend_error"

_TABLE: Final = (
    Entry("malformed_http", 400, _REQUEST, "no", "The request is not valid HTTP."),
    Entry("invalid_json", 400, _REQUEST, "no", "The body is not valid JSON."),
    Entry("not_finite", 400, _REQUEST, "no", "NaN and Infinity are not JSON."),
    Entry("number_too_large", 400, _REQUEST, "no", "A number is too large."),
    Entry("duplicate_key", 400, _REQUEST, "no", "A key appears twice in one object."),
    Entry("too_deep", 400, _REQUEST, "no", "The body is nested too deeply."),
    Entry("invalid_utf8", 400, _REQUEST, "no", "The body is not valid UTF-8."),
    Entry("byte_order_mark", 400, _REQUEST, "no", "The body has a byte order mark."),
    Entry("lone_surrogate", 400, _REQUEST, "no", "A text has a lone surrogate."),
    Entry("invalid_value", 400, _REQUEST, "no", "A field has a wrong type or value."),
    Entry("missing_field", 400, _REQUEST, "no", "A required field is missing."),
    Entry("unknown_field", 400, _REQUEST, "no", "The body has an unknown field."),
    Entry("unsupported_field", 400, _REQUEST, "no", "plb does not offer this option."),
    Entry("invalid_header", 400, _REQUEST, "no", "A header has an unusable value."),
    Entry(
        "invalid_request",
        400,
        _REQUEST,
        "no",
        "The backends refuse this request as invalid.",
    ),
    Entry(
        "context_length_exceeded",
        400,
        _REQUEST,
        "no",
        "The conversation is too long for the backends.",
    ),
    Entry(
        "content_filter",
        400,
        _REQUEST,
        "no",
        "A backend's content filter declined the request.",
    ),
    Entry(
        "invalid_token",
        401,
        "authentication_error",
        "no",
        "The bearer token is missing or wrong.",
    ),
    Entry("route_not_found", 404, _REQUEST, "no", "There is no such route."),
    Entry("model_not_found", 404, _REQUEST, "no", "Nothing serves this model."),
    Entry(
        "request_not_found",
        404,
        _REQUEST,
        "no",
        "No request with this id is remembered.",
    ),
    Entry("method_not_allowed", 405, _REQUEST, "no", "The route has other methods."),
    Entry("body_timeout", 408, _REQUEST, "later", "The body did not arrive in time."),
    Entry("body_too_large", 413, _REQUEST, "no", "The body is too large."),
    Entry(
        "unsupported_media_type",
        415,
        _REQUEST,
        "no",
        "The body must be application/json without a content encoding.",
    ),
    Entry("expectation_failed", 417, _REQUEST, "no", "Only 100-continue is met."),
    Entry(
        "misdirected_request",
        421,
        _REQUEST,
        "no",
        "Without a token, only local host names are answered.",
    ),
    Entry(
        "no_answer",
        422,
        "no_answer",
        "no",
        "The backends are well but have no answer to this question.",
    ),
    Entry(
        "backends_busy",
        429,
        "rate_limit_error",
        "later",
        "Every suitable backend is at its limit.",
        retry_after_s=1.0,
    ),
    Entry(
        "budget_exhausted",
        429,
        "insufficient_quota",
        "no",
        "The money for such questions is used up for today.",
    ),
    Entry(
        "rate_limited",
        429,
        "rate_limit_error",
        "later",
        "This client asks more often than it may.",
        retry_after_s=1.0,
    ),
    Entry("internal_error", 500, _SERVER, "no", "plb failed; its log says why."),
    Entry(
        "algorithm_failed",
        500,
        _SERVER,
        "no",
        "The selection algorithm and its fallbacks failed.",
    ),
    Entry("request_failed", 500, _SERVER, "no", "The request could not be served."),
    Entry(
        "backend_error",
        502,
        _UPSTREAM,
        "no",
        "The backend failed, and no other could take over.",
    ),
    Entry(
        "backend_misconfigured",
        502,
        _UPSTREAM,
        "no",
        "A backend refuses plb's key or endpoint; the caller's key is not at fault.",
    ),
    Entry(
        "stream_cut",
        502,
        _UPSTREAM,
        "no",
        "The backend failed after a part of the answer was sent.",
    ),
    Entry(
        "no_backend_available",
        503,
        "overloaded_error",
        "later",
        "No suitable backend is open.",
        retry_after_s=1.0,
    ),
    Entry(
        "all_backends_failed",
        503,
        _UPSTREAM,
        "no",
        "Every permitted attempt failed; plb has already tried the other backends.",
    ),
    Entry(
        "overloaded",
        503,
        "overloaded_error",
        "later",
        "More is asked than can be answered in time.",
        retry_after_s=1.0,
    ),
    Entry(
        "ledger_unavailable",
        503,
        _SERVER,
        "later",
        "The ledger cannot be written, so that no money may be spent now.",
        retry_after_s=5.0,
    ),
    Entry("not_ready", 503, _SERVER, "later", "No backend is open.", retry_after_s=1.0),
    Entry(
        "backend_timeout",
        504,
        _UPSTREAM,
        "no",
        "No backend answered within the time allowed.",
    ),
)

CATALOGUE: Final[Mapping[str, Entry]] = MappingProxyType({e.code: e for e in _TABLE})
