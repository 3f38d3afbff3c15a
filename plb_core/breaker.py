"""One backend's circuit breaker: whether a call may start, by what calls did lately."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal

from plb_core.rolling import RollingCounts

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from plb_core.sections import BreakerSettings

State = Literal["closed", "open", "half_open"]
CallResult = Literal["success", "failure", "ignored"]

BUCKETS: Final = 10
"""The window moves in tenths: fine enough to follow, and 40 integers a backend."""


class Breaker:
    """Stops calls to a backend that fails, and lets trials find out when it is back.

    closed: calls pass; failures in a row, or a share of failed or slow calls in the
    window, open it. open: nothing passes until `retry_at_s`. half_open: a few trials
    at a time; one failure opens it again for about twice as long, enough successes
    close it.

    Times are monotonic seconds; one that lies before an earlier one counts as that
    one. `closed`, `state` and `retry_at_s` (None unless open) are for reading only.
    `on_change` gets the old and the new state, after the change. Not for threads:
    every method is one step of an event loop.
    """

    __slots__ = (
        "_closed_at_s",
        "_epoch",
        "_latest_s",
        "_on_change",
        "_open_s",
        "_permits",
        "_rng",
        "_row",
        "_serial",
        "_settings",
        "_slow_after_s",
        "_slow_trials",
        "_trials",
        "_window",
        "closed",
        "retry_at_s",
        "state",
    )

    def __init__(
        self,
        settings: BreakerSettings,
        now: Callable[[], float],
        rng: random.Random,
        on_change: Callable[[str, str], None],
    ) -> None:
        self._settings = settings
        self._rng = rng
        self._on_change = on_change
        slow_after_s = settings.slow_call_s
        self._slow_after_s = math.inf if slow_after_s is None else slow_after_s
        self.state: State = "closed"
        self.closed = True
        self.retry_at_s: float | None = None
        self._latest_s = now()
        self._closed_at_s = -math.inf
        self._open_s = settings.timeout_s
        # Tokens: the epoch, above 0, of a call that started while closed; a number
        # below 0, never used twice, of each trial.
        self._epoch = 1
        self._serial = 0
        self._permits: set[int] = set()
        self._trials = 0
        self._slow_trials = 0
        self._row = 0
        self._window = self._new_window()

    def admits(self, now_s: float) -> bool:
        """Whether a call may start; an open breaker whose time is up half-opens."""
        if self.closed:
            return True
        if self.retry_at_s is not None:
            if self._time(now_s) < self.retry_at_s:
                return False
            self._change("half_open")
        return len(self._permits) < self._settings.half_open_permits

    def start(self, now_s: float) -> int:
        """Begin a call and return its token, which `finish` must get back.

        Raises RuntimeError when the breaker does not admit the call.
        """
        if self.closed:
            return self._epoch
        if not self.admits(now_s):
            raise RuntimeError(f"the breaker is {self.state} and admits no call")
        self._serial -= 1
        self._permits.add(self._serial)
        return self._serial

    def finish(
        self, token: int, result: CallResult, latency_s: float, now_s: float
    ) -> None:
        """End a call; "ignored" says nothing about the backend, and counts nothing.

        A call that began before the last change of state is too old to be news.
        """
        now_s = self._time(now_s)
        if token < 0:
            if token in self._permits:
                self._permits.remove(token)
                self._end_trial(result, latency_s, now_s)
            return
        if token != self._epoch or result == "ignored":
            return
        failed = result == "failure"
        self._row = self._row + 1 if failed else 0
        kind = failed + 2 * (latency_s > self._slow_after_s)
        self._window.add(kind, now_s)
        if self._is_sick():
            self._open(now_s)

    def probe_passed(self, now_s: float) -> None:
        """End the open time early: a good active check earns a trial, no more."""
        self._time(now_s)
        if self.retry_at_s is not None:
            self._change("half_open")

    def _is_sick(self) -> bool:
        settings = self._settings
        if self._row >= settings.failure_threshold:
            return True
        good, failed, slow, both = self._window.counts
        calls = good + failed + slow + both
        if calls < settings.minimum_calls:
            return False
        failure_rate, slow_rate = (failed + both) / calls, (slow + both) / calls
        return failure_rate >= settings.failure_rate or slow_rate >= settings.slow_rate

    def _end_trial(self, result: CallResult, latency_s: float, now_s: float) -> None:
        if result == "ignored":
            return
        if result == "failure":
            self._open(now_s)
            return
        self._trials += 1
        self._slow_trials += latency_s > self._slow_after_s
        if self._trials < self._settings.success_threshold:
            return
        if self._slow_trials / self._trials >= self._settings.slow_rate:
            self._open(now_s)
        else:
            self._close(now_s)

    def _open(self, now_s: float) -> None:
        settings = self._settings
        # Opened again before a window went by, it is still the same illness.
        if self.closed and now_s - self._closed_at_s >= settings.window_s:
            self._open_s = settings.timeout_s
        else:
            self._open_s = min(2 * self._open_s, settings.max_timeout_s)
        spread = settings.jitter * self._rng.uniform(-1.0, 1.0)
        self._change("open", now_s + self._open_s * (1.0 + spread))

    def _close(self, now_s: float) -> None:
        self._closed_at_s = now_s
        self._row = 0
        # Samples from before would open it again on its first call.
        self._window = self._new_window()
        self._change("closed")

    def _change(self, state: State, retry_at_s: float | None = None) -> None:
        before, self.state = self.state, state
        self.closed = state == "closed"
        self.retry_at_s = retry_at_s
        self._epoch += 1
        self._permits.clear()
        self._trials = self._slow_trials = 0
        self._on_change(before, state)

    def _new_window(self) -> RollingCounts:
        width_s = self._settings.window_s / BUCKETS
        return RollingCounts(4, BUCKETS, width_s, self._latest_s)

    def _time(self, now_s: float) -> float:
        self._latest_s = max(self._latest_s, now_s)
        return self._latest_s
