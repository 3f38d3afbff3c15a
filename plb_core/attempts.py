"""One request's attempts: choose, call, and go on elsewhere when it fails.

Everything here up to the call itself is synchronous, so that no other request can
come between a choice and the counters it was based on.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final, TypeVar

from plb_core.causes import Causes
from plb_core.error_actions import action_for
from plb_core.errors import (
    AlgorithmFailed,
    BackendError,
    BudgetExhausted,
    LedgerUnavailable,
    NoAnswer,
    Overloaded,
)
from plb_core.failures import (
    as_failure,
    forget_frames,
    pause_s,
    times_cancelled,
    verdict,
)
from plb_core.history import Attempt, Trace
from plb_core.overload import ended
from plb_core.payment import TooDear, charge
from plb_core.protocols import Choice
from plb_core.retry_budget import full_jitter
from plb_core.types import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from plb_core.candidate import Candidate
    from plb_core.payment import Payment
    from plb_core.plan import NamedAlgorithm, Plan, Pool
    from plb_core.shared import Call, Shared
    from plb_core.types import Query, Result, Usage

Returned = TypeVar("Returned")

_PROBABILITY_SLACK: Final = 1.0 + 1e-9  # sums of shares may round above one


AGAIN_WITHIN_S: Final = 0.1
"""A second try on the same backend comes within this time: most hiccups are shorter,
and the user is waiting."""


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
        shared: Shared,
    ) -> None:
        now = shared.now
        self.plan = plan
        self.query = query
        self.pool = pool
        self.trace = trace
        self.shared = shared
        self.now = now
        self.started_s = now()
        deadline_s = query.deadline_s
        if deadline_s is None:
            deadline_s = plan.config.routing.deadline_s
        self.deadline_at_s = self.started_s + deadline_s
        self.waited_s = 0.0
        self._payment: Payment | None = None
        if shared.till is not None:
            self._payment = shared.till.payment(
                trace.request_id, pool.track.name, query
            )
        self._asked = 0
        self._ticket = 0
        self._last_failed = False
        self._again = ""
        self._smallest_context = 0
        self._causes = Causes(trace.request_id)

    async def enter(self) -> None:
        """Pass the gate, waiting for a place if need be; raises `Overloaded`."""
        gate = self.shared.gate
        if gate is not None:
            self.plan.choosing += 1  # a reload must not close its backends meanwhile
            try:
                self._ticket = gate.try_enter() or await gate.wait(
                    self.deadline_at_s - self.now()
                )
            except Overloaded as error:
                raise self._causes.identified(error) from None
            finally:
                self.plan.choosing -= 1

    def enter_now(self) -> None:
        """Pass the gate without waiting; raises `Overloaded` when there is no place."""
        gate = self.shared.gate
        if gate is not None:
            self._ticket = gate.try_enter()
            if not self._ticket:
                raise self._causes.identified(Overloaded("no place is free", 1.0))

    def leave(self) -> None:
        """Give the place inside the gate back; does so once."""
        gate, ticket = self.shared.gate, self._ticket
        if gate is not None and ticket:
            self._ticket = 0
            result: Result = "cancelled"
            error = ""
            if self.trace.attempts:
                last = self.trace.attempts[-1]
                result, error = last.result or "cancelled", last.error
            gate.leave(ticket, self.waited_s, ended(result, error))

    async def run(self, call: Call[Returned]) -> tuple[Attempt, Returned]:
        """Return the first success of `call(backend, query, timeout_s)`, its attempt.

        The attempt is still open: the caller finishes it. Raises `NoAnswer` when
        every backend asked was healthy and had none, `BudgetExhausted` when money is
        what was missing, `NoBackendAvailable` otherwise.
        """
        self.plan.choosing += 1
        try:
            return await self._attempt_until_done(call)
        finally:
            self.plan.choosing -= 1

    async def _attempt_until_done(
        self, call: Call[Returned]
    ) -> tuple[Attempt, Returned]:
        cancelled_before = times_cancelled()
        while True:
            attempt = self.begin()
            candidate = attempt.candidate
            timeout_s = self.time_left_s(attempt, attempt.started_s)
            try:
                query = self.query
                if self._payment is not None:
                    query = await self._payment.hold(attempt, query)
                async with asyncio.timeout(timeout_s):
                    backend = self.plan.backends[candidate.name]
                    self._asked += 1
                    attempt.sent = True
                    return attempt, await call(backend, query, timeout_s)
            except (BudgetExhausted, LedgerUnavailable) as error:
                self._pass_over(attempt, error)
            except TooDear as error:
                self.finish(attempt, "cancelled", error="too_dear")
                raise self._causes.exhausted(str(error)) from error
            except (Exception, asyncio.CancelledError) as error:
                # Counted, because a plugin may raise the one in place of the other.
                if times_cancelled() > cancelled_before:
                    self.finish(attempt, "cancelled")
                    if isinstance(error, asyncio.CancelledError):
                        raise
                    raise asyncio.CancelledError from error
                await self._recover(attempt, as_failure(error, candidate, timeout_s))
            except BaseException:  # the program ends: the slot must come back
                self.finish(attempt, "cancelled")
                raise

    def must_pay(self, attempt: Attempt) -> bool:
        """Whether the attempt's money has to be held before it is sent."""
        price = attempt.candidate.info.traits.price
        return self._payment is not None and (price is None or not price.free)

    def begin(self) -> Attempt:
        """Choose a backend and take one of its slots."""
        attempts = self.trace.attempts
        now_s = self.now()
        if self._asked >= self.plan.config.routing.max_attempts:
            raise self._causes.exhausted(f"gave up after {self._asked} attempts")
        if not now_s < self.deadline_at_s:  # so that NaN allows nothing
            raise self._causes.exhausted("the time allowed is used up")
        candidates = self._open(now_s)
        if not candidates:
            raise self._causes.nothing_open(self.pool.tiers, now_s)
        if self._last_failed and not self.shared.retries.withdraw():
            raise self._causes.exhausted("too many attempts fail to try again now")
        self._last_failed = False
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
        attempt.token = chosen.breaker.start(now_s)
        chosen.in_flight += 1
        return attempt

    def time_left_s(self, attempt: Attempt, now_s: float) -> float:
        """Return how long the attempt may still take, by its backend and in all."""
        end_at_s = attempt.started_s + attempt.candidate.info.timeout_s
        return min(end_at_s, self.deadline_at_s) - now_s

    def fail(self, attempt: Attempt, error: BackendError | NoAnswer) -> None:
        """Close an attempt that gave no answer; the first cause is kept."""
        candidate = attempt.candidate
        forget_frames(error)
        if isinstance(error, NoAnswer):
            self._causes.refusal = self._causes.refusal or error
            self.finish(
                attempt, "no_answer", error=error.code, bill=error.billed_micro_usd
            )
            return
        error.backend = candidate.name
        self._causes.error = self._causes.error or error
        self._last_failed = True
        attempt.sent = attempt.sent and error.sent is not False
        self.finish(attempt, "error", error=error.code, bill=error.billed_micro_usd)
        pause = pause_s(error)
        if pause is not None:
            until_s = self.now() + pause
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
        bill: int | None = None,
        quality: Mapping[str, float] | None = None,
    ) -> None:
        """Close an attempt: give the slot back and let everyone learn from it.

        `bill` is what it certainly cost in micro-USD, None when nobody knows.
        """
        if attempt.result:
            return
        now_s = self.now()
        candidate = attempt.candidate
        candidate.in_flight -= 1
        attempt.result = result
        attempt.error = error
        attempt.latency_s = now_s - attempt.started_s
        self.waited_s += attempt.latency_s
        candidate.breaker.finish(
            attempt.token, verdict(result, error), attempt.latency_s, now_s
        )
        if attempt.reservation is not None:
            charge(attempt, bill)
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

    async def _recover(self, attempt: Attempt, error: BackendError | NoAnswer) -> None:
        """Close a failed attempt and prepare for the next one, or raise its error."""
        candidate = attempt.candidate
        self._again = ""
        self.fail(attempt, error)
        action = action_for(error, candidate.info.on_error)
        if action == "stop":
            raise self._causes.identified(error)
        if action == "larger":
            self._smallest_context = (candidate.info.context_tokens or sys.maxsize) + 1
        if action not in ("again", "wait") or self._has_again(candidate):
            return
        now_s = self.now()
        if action == "again" and self._alone(candidate, now_s):
            pause_s = full_jitter(1, AGAIN_WITHIN_S, AGAIN_WITHIN_S, self.shared.rng)
        elif action == "wait" and not self._open(now_s):
            pause_s = max(candidate.closed_until_s - now_s, 0.0)
            if pause_s > self.plan.config.routing.longest_wait_s:
                return
        else:
            return
        if now_s + pause_s < self.deadline_at_s:
            await asyncio.sleep(pause_s)
            self._again = candidate.name

    def _has_again(self, candidate: Candidate) -> bool:
        """Whether the backend was asked twice for this request."""
        asked = [attempt.candidate.name for attempt in self.trace.attempts]
        return asked.count(candidate.name) > 1

    def _alone(self, candidate: Candidate, now_s: float) -> bool:
        """Whether nobody else of the backend's tier is left to ask."""
        tried = [attempt.candidate.name for attempt in self.trace.attempts]
        return not any(
            each.name not in tried and each.admits(now_s)
            for tier in self.pool.tiers
            if candidate in tier
            for each in tier
        )

    def _pass_over(
        self, attempt: Attempt, error: BudgetExhausted | LedgerUnavailable
    ) -> None:
        """Leave a backend for which there is no money; raise where that is the rule."""
        self.finish(attempt, "cancelled", error=error.code)
        self._causes.no_money = self._causes.no_money or error
        till = self.shared.till
        if till is not None and till.budget.when_exhausted == "refuse":
            raise self._causes.identified(error)

    def _open(self, now_s: float) -> Sequence[Candidate]:
        tried = self.trace.attempts
        for tier in self.pool.tiers:
            if not tried:
                for each in tier:
                    if not (each.breaker.closed and each.admits(now_s)):
                        break
                else:
                    return tier  # the usual case allocates nothing
            names = {attempt.candidate.name for attempt in tried} - {self._again}
            left = tuple(
                each
                for each in tier
                if each.name not in names
                and each.admits(now_s)
                and (each.info.context_tokens or 0) >= self._smallest_context
            )
            # A backend that may be well again gets this request as its trial: an
            # algorithm that remembers its failures would never send it one.
            trial = next((each for each in left if not each.breaker.closed), None)
            if trial is not None:
                return (trial,)
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
        raise self._causes.identified(
            first or AlgorithmFailed("none", "nothing to choose by")
        )
