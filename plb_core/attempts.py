"""One request's attempts: choose, call, and go on elsewhere when it fails.

Everything here up to the call itself is synchronous, so that no other request can
come between a choice and the counters it was based on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

from plb_core.errors import (
    AlgorithmFailed,
    BackendBusy,
    BackendError,
    BackendTimeout,
    BadAnswer,
    NoAnswer,
    NoBackendAvailable,
    RequestError,
)
from plb_core.history import Attempt, Trace
from plb_core.protocols import Choice
from plb_core.types import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from plb_core.candidate import Candidate
    from plb_core.plan import NamedAlgorithm, Plan, Pool
    from plb_core.protocols import Backend
    from plb_core.types import Query, Result, Usage

Returned = TypeVar("Returned")

BUSY_PAUSE_S: Final = 1.0
"""How long a busy backend is left alone when it names no time itself."""

LONGEST_PAUSE_S: Final = 3600.0
"""No backend can close itself for longer than an hour, whatever it asks for."""

_PROBABILITY_SLACK: Final = 1.0 + 1e-9  # sums of shares may round above one


class Request:
    """One question on its way through one plan.

    Every attempt that `begin` opens is closed by exactly one `finish`.
    """

    def __init__(
        self,
        plan: Plan,
        query: Query,
        pool: Pool,
        trace: Trace,
        now: Callable[[], float],
    ) -> None:
        self.plan = plan
        self.query = query
        self.pool = pool
        self.trace = trace
        self.now = now
        self.started_s = now()
        deadline_s = query.deadline_s
        if deadline_s is None:
            deadline_s = plan.config.routing.deadline_s
        self.deadline_at_s = self.started_s + deadline_s
        self.waited_s = 0.0
        self._first_error: BackendError | None = None
        self._first_refusal: NoAnswer | None = None

    async def run(
        self, call: Callable[[Backend, float], Awaitable[Returned]]
    ) -> tuple[Attempt, Returned]:
        """Return the first success of `call(backend, timeout_s)` and its attempt.

        The attempt is still open: the caller finishes it. Raises `NoAnswer` when
        every backend asked was healthy and had none, `NoBackendAvailable` otherwise.
        """
        self.plan.choosing += 1
        try:
            return await self._attempt_until_done(call)
        finally:
            self.plan.choosing -= 1

    async def _attempt_until_done(
        self, call: Callable[[Backend, float], Awaitable[Returned]]
    ) -> tuple[Attempt, Returned]:
        cancelled_before = _times_cancelled()
        while True:
            attempt = self.begin()
            candidate = attempt.candidate
            timeout_s = self.time_left_s(attempt, attempt.started_s)
            try:
                async with asyncio.timeout(timeout_s):
                    backend = self.plan.backends[candidate.name]
                    return attempt, await call(backend, timeout_s)
            except (Exception, asyncio.CancelledError) as error:
                # Counted, because a plugin may raise the one in place of the other.
                if _times_cancelled() > cancelled_before:
                    self.finish(attempt, "cancelled")
                    if isinstance(error, asyncio.CancelledError):
                        raise
                    raise asyncio.CancelledError from error
                self.fail(attempt, _as_failure(error, candidate, timeout_s))
            except BaseException:  # the program ends: the slot must come back
                self.finish(attempt, "cancelled")
                raise

    def begin(self) -> Attempt:
        """Choose a backend and take one of its slots."""
        attempts = self.trace.attempts
        now_s = self.now()
        if len(attempts) >= self.plan.config.routing.max_attempts:
            raise self._exhausted(f"gave up after {len(attempts)} attempts")
        if not now_s < self.deadline_at_s:  # so that NaN allows nothing
            raise self._exhausted("the time allowed is used up")
        candidates = self._open(now_s)
        if not candidates:
            raise self._nothing_open(now_s)
        named, choice, fallbacks = self._choose(candidates)
        chosen = choice.candidate
        attempt = Attempt(
            len(attempts) + 1,
            chosen,
            named,
            choice,
            candidates,
            [each.in_flight for each in candidates],
            fallbacks,
            now_s,
        )
        attempts.append(attempt)
        chosen.in_flight += 1
        return attempt

    def time_left_s(self, attempt: Attempt, now_s: float) -> float:
        """Return how long the attempt may still take, by its backend and in all."""
        end_at_s = attempt.started_s + attempt.candidate.info.timeout_s
        return min(end_at_s, self.deadline_at_s) - now_s

    def fail(self, attempt: Attempt, error: BackendError | NoAnswer) -> None:
        """Close an attempt that gave no answer; the first cause is kept."""
        candidate = attempt.candidate
        if isinstance(error, NoAnswer):
            self._first_refusal = self._first_refusal or error
            self.finish(attempt, "no_answer", error=error.code)
            return
        error.backend = candidate.name
        self._first_error = self._first_error or error
        self.finish(attempt, "error", error=error.code)
        pause_s = _pause_s(error)
        if pause_s is not None:
            until_s = self.now() + pause_s
            candidate.closed_until_s = max(candidate.closed_until_s, until_s)

    def finish(
        self,
        attempt: Attempt,
        result: Result,
        *,
        error: str = "",
        ttft_s: float | None = None,
        usage: Usage | None = None,
        cost_micro_usd: int | None = None,
        quality: Mapping[str, float] | None = None,
    ) -> None:
        """Close an attempt: give the slot back and let everyone learn from it."""
        if attempt.result:
            return
        now_s = self.now()
        candidate = attempt.candidate
        candidate.in_flight -= 1
        attempt.result = result
        attempt.error = error
        attempt.latency_s = now_s - attempt.started_s
        self.waited_s += attempt.latency_s
        choice = attempt.choice
        outcome = Outcome(
            self.trace.request_id,
            candidate.name,
            self.pool.track.name,
            attempt.named.name,
            self.query.kind,
            result,
            attempt.number,
            now_s,
            attempt.latency_s,
            ttft_s,
            usage,
            cost_micro_usd,
            sum(quality.values()) / len(quality) if quality else None,
            error,
            choice.probability,
            choice.via,
        )
        candidate.observe(outcome)
        for named in self.pool.track.observers:
            named.observe(outcome)
        for listener in self.plan.listeners:
            listener.observe(outcome)

    def _open(self, now_s: float) -> Sequence[Candidate]:
        tried = self.trace.attempts
        for tier in self.pool.tiers:
            for each in tier:
                if (
                    each.in_flight >= each.max_in_flight
                    or each.closed_until_s > now_s
                    or each.health == "unhealthy"
                    or tried
                ):
                    break
            else:
                return tier  # the usual case allocates nothing
            names = [attempt.candidate.name for attempt in tried]
            left = tuple(
                each
                for each in tier
                if each.in_flight < each.max_in_flight
                and each.closed_until_s <= now_s
                and each.health != "unhealthy"
                and each.name not in names
            )
            if left:
                return left
        return ()

    def _choose(
        self, candidates: Sequence[Candidate]
    ) -> tuple[NamedAlgorithm, Choice, Sequence[str]]:
        failed: list[str] = []
        first: AlgorithmFailed | None = None
        for named in self.pool.chain:
            try:
                choice = named.algorithm.choose(self.query, candidates)
                if (
                    isinstance(choice, Choice)
                    and choice.candidate in candidates
                    and 0.0 < choice.probability <= _PROBABILITY_SLACK
                ):
                    return named, choice, failed
                message = "its choice is not one of the candidates with a probability"
                error = AlgorithmFailed(named.name, message)
            except AlgorithmFailed as raised:
                error = raised
            except Exception as raised:  # noqa: BLE001 - a fault in the plugin itself
                message = f"choosing raised {type(raised).__name__}"
                error = AlgorithmFailed(named.name, message)
                error.__cause__ = raised
            named.failures += 1
            failed.append(named.name)
            first = first or error
        raise self._identified(first or AlgorithmFailed("none", "nothing to choose by"))

    def _exhausted(self, message: str) -> RequestError:
        """Return what the caller sees when every permitted attempt failed."""
        if self._first_error is None and self._first_refusal is not None:
            return self._identified(self._first_refusal)
        cause = self._first_error
        if cause is not None:
            message = f"{message}; backend {cause.backend!r}: {cause}"
        failure = NoBackendAvailable(message, busy=isinstance(cause, BackendBusy))
        failure.__cause__ = cause
        return self._identified(failure)

    def _nothing_open(self, now_s: float) -> RequestError:
        if self.trace.attempts and self._first_error is None:
            return self._exhausted("")
        members = [each for tier in self.pool.tiers for each in tier]
        waits = [
            each.closed_until_s - now_s
            for each in members
            if each.closed_until_s > now_s and each.health != "unhealthy"
        ]
        busy = all(each.health != "unhealthy" for each in members)
        message = "no backend is open"
        cause = self._first_error
        if cause is not None:
            message = f"every backend failed or is closed; {cause.backend!r}: {cause}"
            busy = bool(waits) and isinstance(cause, BackendBusy)
        failure = NoBackendAvailable(
            message, retry_after_s=min(waits, default=None), busy=busy
        )
        failure.__cause__ = cause
        return self._identified(failure)

    def _identified(self, error: RequestError) -> RequestError:
        error.request_id = self.trace.request_id
        return error


def _times_cancelled() -> int:
    """Return how often the running task was asked to end."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _pause_s(error: BackendError) -> float | None:
    """Return how long to leave a failed backend alone; plugins may pass on nonsense."""
    wanted_s: object = error.retry_after_s
    if isinstance(wanted_s, int | float) and wanted_s >= 0:
        return min(wanted_s, LONGEST_PAUSE_S)
    return BUSY_PAUSE_S if isinstance(error, BackendBusy) else None


def _as_failure(
    error: BaseException, candidate: Candidate, timeout_s: float
) -> BackendError | NoAnswer:
    """Return what a call's exception says about the backend."""
    if isinstance(error, BackendError | NoAnswer):
        return error
    if isinstance(error, TimeoutError):
        late = BackendTimeout(f"no answer within {timeout_s:.3g} s")
        late.__cause__ = error
        return late
    return plugin_fault(candidate, error)


def plugin_fault(candidate: Candidate, error: BaseException) -> BadAnswer:
    """Return the backend error for an exception that no protocol allows."""
    fault = BadAnswer(
        f"the plugin {candidate.info.plugin!r} raised {type(error).__name__}"
    )
    fault.__cause__ = error
    return fault
