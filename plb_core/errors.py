"""Every error plb raises, as one tree.

PlbError
├── ConfigError             a file, variable or option is wrong; carries all problems
├── PluginError             a plugin cannot be used
│   ├── PluginNotFound      no installed plugin has that name
│   ├── PluginConflict      two plugins claim one name
│   └── PluginContractError a plugin broke its protocol
└── RequestError            one question could not be answered
    ├── UnknownModel        nothing serves the requested model
    ├── UnknownRequest      no such request is remembered
    ├── NoBackendAvailable  nothing is open, or the attempts are used up
    ├── Overloaded          plb has more to do than it can; nothing was sent
    ├── RateLimited         one client asks more often than it may
    ├── BudgetExhausted     the day's money is used up
    ├── LedgerUnavailable   the store of the money's ledger cannot write
    ├── AlgorithmFailed     an algorithm raised or chose something impossible
    ├── NoAnswer            a healthy backend has no answer; the next one is tried
    └── BackendError        counts against the backend
        ├── BackendTimeout
        ├── BackendUnreachable
        ├── BackendRefused      .status
        ├── BackendBusy         .retry_after_s; load, not sickness
        ├── BackendMisconfigured  wrong key or endpoint; never retried
        └── BadAnswer           malformed, oversized, cut or empty

Messages never contain a question, an answer or a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plb_core.ledger_records import Scope
    from plb_core.types import Problem

NoAnswerReason = Literal[
    "not_found", "invalid_request", "context_length", "content_filter"
]


class PlbError(Exception):
    """Any error that plb raises on purpose.

    `code` is the stable name shown in HTTP bodies, logs and docs.
    """

    code: ClassVar[str] = "plb_error"


class ConfigError(PlbError):
    """The configuration cannot be used; nothing was started or changed.

    `problems` holds all of them, in file order.
    """

    code = "config_error"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PluginError(PlbError):
    """A plugin cannot be used. `plugin` is its name."""

    code = "plugin_error"

    def __init__(self, plugin: str, message: str) -> None:
        self.plugin = plugin
        super().__init__(message)


class PluginNotFound(PluginError):
    """No installed plugin of the wanted kind has that name."""

    code = "plugin_not_found"


class PluginConflict(PluginError):
    """Two plugins claim one name; the message names both."""

    code = "plugin_conflict"


class PluginContractError(PluginError):
    """A plugin's import, registration or return value broke its protocol."""

    code = "plugin_contract_error"


class RequestError(PlbError):
    """One question could not be answered. `request_id` is "" before one exists."""

    code = "request_error"
    request_id: str = ""


class UnknownModel(RequestError):
    """Nothing serves the requested model name. `known` lists what is served."""

    code = "model_not_found"

    def __init__(self, model: str, known: Sequence[str] = ()) -> None:
        self.model = model
        self.known = tuple(known)
        hint = f"; served here: {', '.join(self.known)}" if self.known else ""
        super().__init__(f"no backend serves the model {model[:200]!r}{hint}")


class UnknownRequest(RequestError):
    """No request of that id is remembered; only recent ones are."""

    code = "request_not_found"


class NoBackendAvailable(RequestError):
    """Nothing is open, or every permitted attempt failed.

    `retry_after_s` is the shortest known wait in seconds, or None.
    `busy` is True when load, not failure, closed every backend.
    The first attempt's error is the `__cause__`.
    """

    code = "no_backend_available"

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, busy: bool = False
    ) -> None:
        self.retry_after_s = retry_after_s
        self.busy = busy
        super().__init__(message)


class Overloaded(RequestError):
    """More is asked than can be answered in time; nothing was sent.

    `retry_after_s` is a wait in seconds that differs from one refusal to the next, so
    that those refused do not come back together. `busy`: load, not failure.
    """

    code = "overloaded"
    busy: ClassVar[bool] = True

    def __init__(self, message: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class RateLimited(RequestError):
    """One client asks more often than it may; nothing was sent.

    `retry_after_s` is the time in seconds until it may ask again.
    """

    code = "rate_limited"

    def __init__(self, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(
            f"this client's rate limit is reached; ask again in {retry_after_s:.3f} s"
        )


class BudgetExhausted(RequestError):
    """The day's budget has no room for this question; nothing was sent.

    `scope` is the tightest budget, `left_micro_usd` what it has left, and
    `retry_after_s` the seconds until the next day begins (0 for the question's own).
    """

    code = "budget_exhausted"

    def __init__(self, scope: Scope, left_micro_usd: int, retry_after_s: float) -> None:
        self.scope = scope
        self.left_micro_usd = left_micro_usd
        self.retry_after_s = retry_after_s
        left = f"{left_micro_usd / 1e6:.6f} US dollars are left"
        if scope.kind == "question":
            super().__init__(f"the question's own budget is used up: {left}")
            return
        super().__init__(
            f"the daily budget of {scope} is used up: {left}; the next day begins in"
            f" {retry_after_s:.0f} s"
        )


class LedgerUnavailable(RequestError):
    """The ledger's store cannot write, so that no money may be spent now."""

    code = "ledger_unavailable"


class AlgorithmFailed(RequestError):
    """An algorithm raised, or its choice was not one of the candidates."""

    code = "algorithm_failed"

    def __init__(self, algorithm: str, message: str) -> None:
        self.algorithm = algorithm
        super().__init__(f"algorithm {algorithm!r}: {message}")


class NoAnswer(RequestError):
    """A healthy backend has no answer to this question.

    `reason` says why: nothing found, the request is invalid for this backend, the
    context is too long, or a content filter declined. Never counted as a failure.
    """

    code = "no_answer"

    def __init__(self, message: str, *, reason: NoAnswerReason = "not_found") -> None:
        self.reason = reason
        # Refused before any work; in the other cases someone may have been at work.
        refused = reason in ("invalid_request", "context_length")
        self.billed_micro_usd: int | None = 0 if refused else None
        super().__init__(message)


class BackendError(RequestError):
    """A backend failed.

    `retryable` says that the same call may do better later, for plugins that poll; the
    core goes by its table of actions. `sent` is False only when
    provably not one byte of the request left, so that nothing can have been billed.
    `retry_after_s` is the wait the backend asked for.
    `billed_micro_usd` is what the call certainly cost, 0 for a refusal that bills
    nothing, None when nobody knows. `backend` is filled in by the core.
    """

    code = "backend_error"
    retryable: bool = True
    billed_micro_usd: int | None = None
    backend: str = ""

    def __init__(
        self,
        message: str,
        *,
        sent: bool = True,
        retry_after_s: float | None = None,
    ) -> None:
        self.sent = sent
        self.retry_after_s = retry_after_s
        super().__init__(message)


class BackendTimeout(BackendError):
    """No answer, first byte or next byte within its limit."""

    code = "backend_timeout"


class BackendUnreachable(BackendError):
    """No connection: refused, reset, name not resolved, TLS refused."""

    code = "backend_unreachable"


class BackendRefused(BackendError):
    """The backend answered with an error. `status` is its HTTP status."""

    code = "backend_refused"

    def __init__(
        self, message: str, *, status: int, retry_after_s: float | None = None
    ) -> None:
        self.status = status
        super().__init__(message, retry_after_s=retry_after_s)


class BackendBusy(BackendError):
    """The backend asks for less traffic (429 or its own limit): load, not sickness."""

    code = "backend_busy"


class BackendMisconfigured(BackendError):
    """A wrong key, endpoint or model name in plb's own configuration."""

    code = "backend_misconfigured"
    retryable = False


class BadAnswer(BackendError):
    """The answer is malformed, too large, cut short, or a failure behind a 200."""

    code = "bad_answer"
