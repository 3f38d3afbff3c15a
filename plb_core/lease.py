"""Choose through plb, but talk to the backend yourself."""

from __future__ import annotations

import math
from types import TracebackType
from typing import TYPE_CHECKING, Self

from plb_core.errors import BackendError, BadAnswer, NoAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

    from plb_core.attempts import Request
    from plb_core.history import Attempt
    from plb_core.protocols import Backend
    from plb_core.replies import Reply
    from plb_core.types import Answer, BackendInfo

    Answered = Callable[[Request, Attempt, Answer, float | None], Reply]


class Lease:
    """A backend's slot, held while the application calls the backend by itself.

    Use it as `with balancer.lease(query) as lease`. Leaving the block gives the slot
    back: after `answer(...)` as an answer, after an exception as what it says
    (`NoAnswer`, a `BackendError`, or any other failure), else as an unmeasured
    success. There is one attempt: the application decides whether to lease again.
    """

    def __init__(self, request: Request, answered: Answered) -> None:
        self._request = request
        self._answered = answered
        self._begun: Attempt | None = None
        self.request_id = request.trace.request_id
        self.reply: Reply | None = None

    @property
    def _attempt(self) -> Attempt:
        if self._begun is None:
            raise RuntimeError("enter a lease with `with` before using it")
        return self._begun

    @property
    def name(self) -> str:
        """The chosen backend's name."""
        return self._attempt.candidate.name

    @property
    def info(self) -> BackendInfo:
        """The chosen backend's fixed facts."""
        return self._attempt.candidate.info

    @property
    def backend(self) -> Backend:
        """The chosen backend's plugin object."""
        return self._request.plan.backends[self.name]

    def answer(self, answer: Answer, *, ttft_s: float | None = None) -> Reply:
        """Report the answer; scores it, counts its cost, and closes the lease.

        Raises `ValueError` for a `ttft_s` that is no duration, `RuntimeError` when
        the lease is closed already.
        """
        if ttft_s is not None and not 0.0 <= ttft_s < math.inf:
            raise ValueError(f"ttft_s is a duration in seconds, got {ttft_s!r}")
        if self._attempt.result:
            raise RuntimeError("the lease is closed; lease again for another answer")
        self.reply = self._answered(self._request, self._attempt, answer, ttft_s)
        return self.reply

    def __enter__(self) -> Self:
        if self._begun is not None:
            raise RuntimeError("a lease can be entered only once")
        request = self._request
        request.enter_now()
        try:
            self._begun = attempt = request.begin()
            attempt.sent = True
            if request.must_pay(attempt):
                request.finish(attempt, "cancelled")
                raise RuntimeError(
                    "with [budget], a lease of a backend that costs money is not"
                    " possible: use `ask` or `stream`"
                )
        except BaseException:
            request.leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._request.finish(self._attempt, "answer")
        elif isinstance(error, BackendError | NoAnswer):
            if not self._attempt.result:
                self._request.fail(self._attempt, error)
        elif isinstance(error, Exception):
            self._request.finish(self._attempt, "error", error=BadAnswer.code)
        else:  # cancelled, or the program ends
            self._request.finish(self._attempt, "cancelled")
        self._request.leave()
