"""Tell what an error of the endpoint means; its wording never goes further."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from plb_backend_openai.fields import items, table, text
from plb_core import BackendMisconfigured, BadAnswer, NoAnswer
from plb_core.http.client import HttpAnswer, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plb_core import RequestError

WHAT: Final = "the endpoint"

_TOO_LONG: Final = re.compile(
    r"context[ _](?:length|window)|maximum context|prompt is too long|too many tokens"
    r"|input is too long|exceeds? the (?:model's )?(?:maximum|max)[^.]*tokens",
    re.IGNORECASE,
)
_NO_CREDIT: Final = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
)
_FILTERED: Final = frozenset(
    {"content_filter", "content_policy_violation", "moderation_blocked", "safety"}
)
_WRONG_SETUP: Final = {
    "invalid_api_key": "does not accept the key",
    "authentication_error": "does not accept the key",
    "model_not_found": "does not have this model",
    "deployment_not_found": "does not have this model",
}
_STATUS_OF: Final = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "overloaded_error": 503,
    "server_error": 500,
    "internal_error": 500,
}
_INVALID: Final = frozenset({400, 413, 415, 422})
_MAX_SCANNED: Final = 4000


def rejection(answer: HttpAnswer) -> RequestError:
    """Return the error for an answer whose status is no success."""
    data = table(answer.data)
    return _judge(answer, data.get("error") or data)


def reported(error: object, headers: Mapping[str, str]) -> RequestError:
    """Return the error for an error object inside a successful answer or a stream."""
    status = _inner_status(error)
    if status is None:
        known = _by_code(_codes(error))
        return known or BadAnswer(f"{WHAT} reports a failure behind status 200")
    return _judge(HttpAnswer(status, headers, b""), error)


def _judge(answer: HttpAnswer, error: object) -> RequestError:
    known = _by_code(_codes(error))
    if known is not None:
        return known
    message = text(table(error).get("message"))[:_MAX_SCANNED] or text(error)
    if answer.status in _INVALID:
        if answer.status == 413 or _TOO_LONG.search(message):  # noqa: PLR2004 - content too large
            return _too_long()
        return NoAnswer(
            f"{WHAT} does not accept this question ({answer.status})",
            reason="invalid_request",
        )
    if answer.status == 403 and items(  # noqa: PLR2004 - how some relays moderate
        table(table(error).get("metadata")).get("reasons")
    ):
        return _filtered()
    return refusal(answer, WHAT)


def _by_code(codes: frozenset[str]) -> RequestError | None:
    if codes & _NO_CREDIT:
        return BackendMisconfigured(f"{WHAT} has no credit left on this key")
    if "context_length_exceeded" in codes:
        return _too_long()
    if codes & _FILTERED:
        return _filtered()
    for code in codes:
        if code in _WRONG_SETUP:
            return BackendMisconfigured(f"{WHAT} {_WRONG_SETUP[code]}")
    return None


def _codes(error: object) -> frozenset[str]:
    fields = table(error)
    return frozenset({text(fields.get("code")), text(fields.get("type"))})


def _inner_status(error: object) -> int | None:
    code = table(error).get("code")
    if isinstance(code, int) and 400 <= code < 600:  # noqa: PLR2004 - HTTP's errors
        return code
    for name in _codes(error):
        if name in _STATUS_OF:
            return _STATUS_OF[name]
    return None


def _too_long() -> NoAnswer:
    return NoAnswer("the question is too long for this model", reason="context_length")


def _filtered() -> NoAnswer:
    return NoAnswer(f"{WHAT} declined by its content filter", reason="content_filter")
