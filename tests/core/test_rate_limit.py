"""Each client may ask so often, whatever others do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from plb_core.errors import RateLimited
from plb_core.rate_limit import RateLimiter
from plb_core.sections import RateLimitSettings
from plb_core.testing.fakes import FakeClock


def limiter(
    per_minute: int = 60, burst: int = 3, kept: int = 100
) -> tuple[RateLimiter, FakeClock]:
    clock = FakeClock()
    return RateLimiter(RateLimitSettings(per_minute, burst), clock, kept), clock


def admitted(it: RateLimiter, client: str) -> bool:
    try:
        it.admit(client)
    except RateLimited as error:
        return error.retry_after_s <= 0.0
    return True


def test_a_burst_passes_and_then_one_a_second() -> None:
    it, clock = limiter()
    assert [admitted(it, "a") for _ in range(4)] == [True, True, True, False]
    clock.advance(1.0)
    assert [admitted(it, "a") for _ in range(2)] == [True, False]
    clock.advance(100.0)
    assert [admitted(it, "a") for _ in range(4)] == [True, True, True, False]


def test_the_wait_named_is_the_wait_needed() -> None:
    it, clock = limiter()
    for _ in range(3):
        it.admit("a")
    clock.advance(0.25)
    with pytest.raises(RateLimited) as caught:
        it.admit("a")
    assert caught.value.retry_after_s == 0.75
    assert "a'" not in str(caught.value)
    clock.advance(0.75)
    it.admit("a")


def test_clients_share_nothing() -> None:
    it, _ = limiter(burst=1)
    it.admit("a")
    assert not admitted(it, "a")
    assert admitted(it, "b")
    assert admitted(it, "")


def test_a_refused_request_costs_nothing() -> None:
    it, clock = limiter(burst=1)
    it.admit("a")
    for _ in range(1000):
        assert not admitted(it, "a")
    clock.advance(1.0)
    it.admit("a")


def test_memory_is_bounded_by_forgetting_whose_bucket_is_full() -> None:
    it, clock = limiter(burst=1, kept=10)
    for number in range(1000):
        it.admit(f"client {number}")
        clock.advance(0.2)
    assert len(it) == 10


def test_an_exhausted_client_is_not_forgotten_for_newcomers() -> None:
    it, clock = limiter(burst=2, kept=2)
    it.admit("quiet")
    for _ in range(2):
        it.admit("loud")
    assert not admitted(it, "loud")
    with pytest.raises(RateLimited) as caught:
        it.admit("new")
    assert caught.value.retry_after_s == 1.0
    clock.advance(1.0)
    it.admit("new")  # in place of the quiet one
    assert admitted(it, "loud")
    assert not admitted(it, "loud")
    assert not admitted(it, "newer")


class LimiterMachine(RuleBasedStateMachine):
    """Against buckets that are filled by the clock, with binary fractions only."""

    @initialize(rate=st.sampled_from([15, 60, 240]), burst=st.integers(1, 4))
    def begin(self, rate: int, burst: int) -> None:
        self.rate_per_s, self.burst = rate / 60, burst
        self.it, self.clock = limiter(rate, burst, kept=3)
        self.tokens: dict[str, float] = {}
        self.passed: dict[str, list[float]] = {}

    @rule(client=st.sampled_from("abcde"))
    def ask(self, client: str) -> None:
        full = [name for name, left in self.tokens.items() if left >= self.burst]
        known = client in self.tokens and client not in full
        busy = len(self.tokens) - len(full)
        if admitted(self.it, client):
            tokens = self.tokens.get(client, float(self.burst))
            assert tokens >= 1.0
            self.tokens[client] = tokens - 1.0
            self.passed.setdefault(client, []).append(self.clock())
        elif known:
            assert self.tokens[client] < 1.0
        else:
            assert busy >= 3, "refused although there was room"

    @rule(seconds=st.sampled_from([0.0, 0.25, 0.5, 1.0, 4.0, 64.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.tokens = {
            name: min(left + seconds * self.rate_per_s, float(self.burst))
            for name, left in self.tokens.items()
        }

    @invariant()
    def bounds_hold(self) -> None:
        if not hasattr(self, "it"):
            return
        assert len(self.it) <= 3
        assert all(0.0 <= left <= self.burst for left in self.tokens.values())
        for times in self.passed.values():
            for first, start_s in enumerate(times):
                for last, end_s in enumerate(times[first:], 1):
                    assert last <= self.rate_per_s * (end_s - start_s) + self.burst


TestLimiter = LimiterMachine.TestCase
TestLimiter.settings = settings(
    max_examples=2000, stateful_step_count=25, deadline=None
)


@settings(max_examples=2000, deadline=None)
@given(
    per_minute=st.integers(1, 100_000),
    burst=st.integers(1, 1000),
    gaps_s=st.lists(st.floats(0.0, 10.0), min_size=1, max_size=60),
)
def test_any_stretch_of_time_has_at_most_rate_times_time_and_a_burst(
    per_minute: int, burst: int, gaps_s: list[float]
) -> None:
    it, clock = limiter(per_minute, burst)
    times = []
    for gap_s in gaps_s:
        clock.advance(gap_s)
        if admitted(it, "a"):
            times.append(clock())
    for first, start_s in enumerate(times):
        for last, end_s in enumerate(times[first:], 1):
            allowed = per_minute / 60 * (end_s - start_s) + burst
            assert last <= allowed * (1 + 1e-9)
