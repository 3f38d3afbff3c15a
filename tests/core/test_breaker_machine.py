"""The breaker does what forty plain lines say, whatever happens in whatever order."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from plb_core.breaker import Breaker, CallResult
from plb_core.sections import BreakerSettings

LEGAL = {
    ("closed", "open"),
    ("open", "half_open"),
    ("half_open", "open"),
    ("half_open", "closed"),
}
# Binary fractions: sums are exact, so that both sides agree on the edges.
STEPS_S = st.sampled_from([0.0, 0.25, 1.0, 2.0, 5.0, 9.75, 10.0])
RATES = st.sampled_from([0.25, 0.5, 1.0])
BACK_S = st.sampled_from([0.0, 0.0, 0.0, 0.25, 1000.0])
SLOW_S = 1.0
LATENCIES_S = st.sampled_from([0.0, SLOW_S, 2 * SLOW_S])
RESULTS: st.SearchStrategy[CallResult] = st.sampled_from(
    ["failure", "failure", "success", "success", "ignored"]
)


class Model:
    """Keeps every call and counts anew each time; windows are ten pieces of 1 s."""

    def __init__(self, settings: BreakerSettings, now_s: float) -> None:
        self.settings = settings
        self.open_s = settings.timeout_s
        self.close(now_s)
        self.closed_at_s = -math.inf

    def close(self, now_s: float) -> None:
        self.state, self.closed_at_s, self.from_s = "closed", now_s, now_s
        self.calls: list[tuple[int, bool, bool]] = []

    def open(self, now_s: float) -> None:
        limit = self.settings
        if self.state == "closed" and now_s - self.closed_at_s >= limit.window_s:
            self.open_s = limit.timeout_s
        else:
            self.open_s = min(self.open_s * 2, limit.max_timeout_s)
        self.state, self.retry_at_s = "open", now_s + self.open_s

    def half_open(self) -> None:
        self.state = "half_open"
        self.permits: set[int] = set()
        self.trials: list[bool] = []

    def call(self, failed: bool, slow: bool, now_s: float) -> None:
        piece = int(now_s - self.from_s)
        self.calls.append((piece, failed, slow))
        seen = [each for each in self.calls if piece - each[0] < 10]
        limit, row = self.settings, self.calls[-self.settings.failure_threshold :]
        enough = len(seen) >= limit.minimum_calls
        if (
            (len(row) == limit.failure_threshold and all(each[1] for each in row))
            or (enough and sum(e[1] for e in seen) >= limit.failure_rate * len(seen))
            or (enough and sum(e[2] for e in seen) >= limit.slow_rate * len(seen))
        ):
            self.open(now_s)

    def trial(self, failed: bool, slow: bool, now_s: float) -> None:
        self.trials.append(slow)
        slow_share = sum(self.trials) / len(self.trials)
        if failed:
            self.open(now_s)
        elif len(self.trials) == self.settings.success_threshold:
            again = slow_share >= self.settings.slow_rate
            self.open(now_s) if again else self.close(now_s)


class BreakerMachine(RuleBasedStateMachine):
    @initialize(
        most=st.tuples(*[st.integers(1, most) for most in (4, 3, 6, 2)]),
        failure_rate=RATES,
        slow_rate=RATES,
        measured=st.booleans(),
    )
    def begin(
        self,
        most: tuple[int, int, int, int],
        failure_rate: float,
        slow_rate: float,
        measured: bool,
    ) -> None:
        limit = BreakerSettings(
            failure_threshold=most[0],
            success_threshold=most[1],
            minimum_calls=most[2],
            half_open_permits=most[3],
            failure_rate=failure_rate,
            slow_rate=slow_rate,
            slow_call_s=SLOW_S if measured else None,
            timeout_s=2.0,
            max_timeout_s=10.0,
            jitter=0.0,
            window_s=10.0,
        )
        self.now_s = self.latest_s = 100.0
        self.started: list[tuple[int, int, bool]] = []  # token, changes, spent
        self.changes: list[tuple[str, str]] = []
        self.model = Model(limit, self.now_s)
        self.it = Breaker(limit, lambda: 100.0, random.Random(0), self.changed)

    def changed(self, before: str, after: str) -> None:
        assert (before, after) in LEGAL
        assert self.it.state == after
        self.changes.append((before, after))

    def tell(self, back_s: float) -> float:
        told_s = self.now_s - back_s
        self.latest_s = max(self.latest_s, told_s)
        return told_s

    @rule(step_s=STEPS_S)
    def wait(self, step_s: float) -> None:
        self.now_s += step_s

    @precondition(lambda self: self.model.state == "closed")
    @rule()
    def break_down(self) -> None:
        self.call("failure", 0.0, self.model.settings.failure_threshold)

    @precondition(lambda self: self.model.state == "open")
    @rule(early_s=st.sampled_from([0.0, 0.0, 0.25]))
    def wait_for_the_trial(self, early_s: float) -> None:
        self.now_s = max(self.now_s, self.model.retry_at_s - early_s)
        self.ask(0.0)

    @rule(back_s=BACK_S)
    def ask(self, back_s: float) -> None:
        model, told_s = self.model, self.now_s - back_s
        if model.state == "open":
            told_s = self.tell(back_s)
            if self.latest_s >= model.retry_at_s:
                model.half_open()
        assert self.it.admits(told_s) == self.admitted()

    def admitted(self) -> bool:
        model = self.model
        if model.state == "half_open":
            return len(model.permits) < model.settings.half_open_permits
        return model.state == "closed"

    @rule()
    def begin_call(self) -> None:
        self.start()

    def start(self) -> bool:
        self.ask(0.0)
        if not self.admitted():
            with pytest.raises(RuntimeError):
                self.it.start(self.now_s)
            return False
        token = self.it.start(self.now_s)
        if self.model.state == "half_open":
            assert token not in self.model.permits
            self.model.permits.add(token)
        self.started.append((token, len(self.changes), False))
        return True

    @rule(result=RESULTS, latency_s=LATENCIES_S, times=st.integers(1, 6))
    def call(self, result: CallResult, latency_s: float, times: int) -> None:
        for _ in range(times):
            if self.start():
                self.finish(-1, result, latency_s, 0.0, keep=False)

    @precondition(lambda self: self.started)
    @rule(
        index=st.integers(0, 7),
        result=RESULTS,
        latency_s=LATENCIES_S,
        back_s=BACK_S,
        keep=st.booleans(),
    )
    def finish(
        self,
        index: int,
        result: CallResult,
        latency_s: float,
        back_s: float,
        *,
        keep: bool,
    ) -> None:
        token, changes, spent = self.started.pop(index % len(self.started))
        told_s, model = self.tell(back_s), self.model
        slow = model.settings.slow_call_s is not None and latency_s > SLOW_S
        failed = result == "failure"
        if changes == len(self.changes) and not spent:
            if model.state == "half_open":
                model.permits.remove(token)
                if keep:
                    self.started.append((token, changes, True))
                if result != "ignored":
                    model.trial(failed, slow, self.latest_s)
            elif result != "ignored":
                model.call(failed, slow, self.latest_s)
        self.it.finish(token, result, latency_s, told_s)

    @rule(back_s=BACK_S)
    def probe(self, back_s: float) -> None:
        told_s = self.tell(back_s)
        if self.model.state == "open":
            self.model.half_open()
        self.it.probe_passed(told_s)

    @invariant()
    def agrees(self) -> None:
        assert self.it.state == self.model.state
        assert self.it.closed == (self.it.state == "closed")
        expected_s = self.model.retry_at_s if self.it.state == "open" else None
        assert self.it.retry_at_s == expected_s


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(
    max_examples=2000, stateful_step_count=14, deadline=None, database=None
)
