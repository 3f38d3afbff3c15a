"""Why a request has no answer: the first causes, and what the caller sees of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plb_core.errors import BackendBusy, NoBackendAvailable, RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from plb_core.candidate import Candidate
    from plb_core.errors import BackendError, NoAnswer


class Causes:
    """The first failure, the first refusal and the first lack of money of a request.

    A failure outranks a lack of money, and that an honest refusal: who asks is to see
    what would have to change.
    """

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self.error: BackendError | None = None
        self.no_money: RequestError | None = None
        self.refusal: NoAnswer | None = None

    def identified(self, error: RequestError) -> RequestError:
        """Return the error with the request's id."""
        error.request_id = self._request_id
        return error

    def exhausted(self, message: str) -> RequestError:
        """Return what the caller sees when no attempt more is made; `message`: why."""
        cause = self.error
        if cause is None:
            instead = self.no_money or self.refusal
            if instead is not None:
                return self.identified(instead)
            return self.identified(NoBackendAvailable(message))
        failure = NoBackendAvailable(
            f"{message}; backend {cause.backend!r}: {cause}",
            busy=isinstance(cause, BackendBusy),
        )
        failure.__cause__ = cause
        return self.identified(failure)

    def nothing_open(
        self, tiers: Sequence[Sequence[Candidate]], now_s: float
    ) -> RequestError:
        """Return what the caller sees when no backend is left to ask."""
        if self.error is None and (self.no_money or self.refusal):
            return self.exhausted("")
        members = [each for tier in tiers for each in tier]
        waits = list(_waits_s(members, now_s))
        busy = all(
            each.health != "unhealthy" and each.breaker.closed for each in members
        )
        message = "no backend is open"
        cause = self.error
        if cause is not None:
            message = f"every backend failed or is closed; {cause.backend!r}: {cause}"
            busy = bool(waits) and isinstance(cause, BackendBusy)
        failure = NoBackendAvailable(
            message, retry_after_s=min(waits, default=None), busy=busy
        )
        failure.__cause__ = cause
        return self.identified(failure)


def _waits_s(members: Sequence[Candidate], now_s: float) -> Iterator[float]:
    """Yield for how long each closed backend stays so, where that is known."""
    for each in members:
        if each.closed_until_s > now_s and each.health != "unhealthy":
            yield each.closed_until_s - now_s
        if each.breaker.retry_at_s is not None:
            yield max(each.breaker.retry_at_s - now_s, 0.0)
