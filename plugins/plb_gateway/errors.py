"""The errors that routes raise, and how the balancer's errors become theirs."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from plb_core import (
    AlgorithmFailed,
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendTimeout,
    BudgetExhausted,
    LedgerUnavailable,
    NoAnswer,
    NoBackendAvailable,
    Overloaded,
    RateLimited,
    RequestError,
    UnknownModel,
)
from plb_gateway.catalogue import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_ANSWER_CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "not_found": "no_answer",
        "invalid_request": "invalid_request",
        "context_length": "context_length_exceeded",
        "content_filter": "content_filter",
    }
)


class Refusal(Exception):
    """A request gets this error of the catalogue instead of an answer.

    `param` names the field at fault in the form `messages[0].content`, `allow` the
    methods a 405 lists. `close` ends the connection after the answer.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        request_id: str = "",
        allow: str = "",
        close: bool = False,
    ) -> None:
        self.entry = CATALOGUE[code]
        self.message = message or self.entry.meaning
        self.param = param
        self.retry_after_s = retry_after_s
        self.request_id = request_id
        self.allow = allow
        self.close = close
        super().__init__(self.message)

    def body(self) -> dict[str, object]:
        """Return the error object in OpenAI's shape."""
        entry = self.entry
        fields = {
            "message": self.message,
            "type": entry.type,
            "param": self.param,
            "code": entry.code,
        }
        return {"error": fields}


def refusal_for(error: RequestError) -> Refusal:
    """Translate a balancer's error.

    Only the core's own messages are passed on: what a backend or an algorithm says
    may name addresses that are none of the client's business.
    """
    request_id = error.request_id
    match error:
        case UnknownModel():
            code, message, wait_s, param = "model_not_found", str(error), None, "model"
            return Refusal(code, message, param=param, request_id=request_id)
        case NoBackendAvailable():
            code, message, wait_s = _none_available(error)
        case NoAnswer():
            code, message, wait_s = _NO_ANSWER_CODES[error.reason], "", None
        case BackendError():
            code, message, wait_s = _backend_code(error), "", error.retry_after_s
        case AlgorithmFailed():
            code, message, wait_s = "algorithm_failed", "", None
        case BudgetExhausted() | Overloaded() | RateLimited():
            code, message, wait_s = error.code, str(error), error.retry_after_s
        case LedgerUnavailable():
            code, message, wait_s = error.code, "", None
        case _:
            known = error.code if error.code in CATALOGUE else "request_failed"
            code, message, wait_s = known, "", None
    return Refusal(code, message, retry_after_s=wait_s, request_id=request_id)


def _none_available(error: NoBackendAvailable) -> tuple[str, str, float | None]:
    cause = error.__cause__
    if not isinstance(cause, BackendError):
        code = "backends_busy" if error.busy else "no_backend_available"
        return code, str(error), error.retry_after_s
    if error.busy:
        code = "backends_busy"
    elif isinstance(cause, BackendMisconfigured):
        code = "backend_misconfigured"
    elif error.retry_after_s is None:
        code = "all_backends_failed"
    else:
        # A named wait means that something will open: worth another request.
        code = "no_backend_available"
    first = f"First failure: {cause.code} at backend {cause.backend!r}."
    return code, f"{CATALOGUE[code].meaning} {first}", error.retry_after_s


def _backend_code(error: BackendError) -> str:
    match error:
        case BackendBusy():
            return "backends_busy"
        case BackendTimeout():
            return "backend_timeout"
        case BackendMisconfigured():
            return "backend_misconfigured"
        case _:
            return "backend_error"
