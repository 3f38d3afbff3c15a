from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plb_core.retry_budget import RetryBudget, full_jitter
from plb_core.testing.fakes import FakeClock


def granted(budget: RetryBudget, times: int = 1000) -> int:
    return sum(budget.withdraw() for _ in range(times))


def deposit(budget: RetryBudget, times: int) -> None:
    for _ in range(times):
        budget.deposit()


def test_the_first_withdrawals_are_granted_without_any_request() -> None:
    budget = RetryBudget(FakeClock(), ratio=0.1, floor_per_s=0.0, reserve=10.0)
    assert granted(budget) == 10
    assert granted(budget) == 0


def test_the_reserve_is_there_once_in_a_lifetime() -> None:
    clock = FakeClock()
    budget = RetryBudget(clock, ratio=0.1, floor_per_s=0.0, reserve=10.0)
    clock.advance(86_400.0)
    assert granted(budget) == 10
    clock.advance(86_400.0)
    assert granted(budget) == 0


def test_earned_withdrawals_use_the_reserve_up_as_well() -> None:
    clock = FakeClock()
    budget = RetryBudget(clock, ratio=0.5, floor_per_s=0.0, reserve=10.0)
    deposit(budget, 8)
    assert granted(budget, 4) == 4
    clock.advance(11.0)
    assert granted(budget) == 6


def test_every_tenth_request_earns_an_extra_attempt() -> None:
    budget = RetryBudget(FakeClock(), ratio=0.1, floor_per_s=0.0, reserve=0.0)
    for requests in range(1, 101):
        budget.deposit()
        assert budget.withdraw() == (requests % 10 == 0)


def test_many_requests_allow_their_share_and_not_the_floor_on_top() -> None:
    budget = RetryBudget(FakeClock())
    deposit(budget, 2000)
    assert granted(budget) == 200


def test_by_default_ten_are_granted_in_ten_seconds_without_any_request() -> None:
    clock = FakeClock()
    budget = RetryBudget(clock)
    assert granted(budget) == 10
    clock.advance(11.0)
    assert granted(budget) == 10


def test_few_requests_have_the_floor() -> None:
    clock = FakeClock()
    budget = RetryBudget(clock, ratio=0.1, floor_per_s=0.5, reserve=0.0)
    assert granted(budget) == 5
    clock.advance(11.0)
    deposit(budget, 49)
    assert granted(budget) == 5


def test_a_share_below_one_token_is_no_token() -> None:
    budget = RetryBudget(FakeClock(), ratio=0.1, floor_per_s=0.0999, reserve=0.9)
    deposit(budget, 9)
    assert granted(budget) == 0


def test_a_quiet_time_saves_nothing_up() -> None:
    clock = FakeClock()
    budget = RetryBudget(clock, ratio=0.1, floor_per_s=0.0, reserve=0.0)
    deposit(budget, 1000)
    clock.advance(8.9)
    assert budget.withdraw()
    clock.advance(1.1)
    assert not budget.withdraw()


def test_a_withdrawal_weighs_for_ten_seconds() -> None:
    clock = FakeClock()
    budget = RetryBudget(clock, ratio=0.1, floor_per_s=0.1, reserve=0.0)
    clock.advance(0.999)
    assert budget.withdraw()
    clock.advance(10.0)
    assert not budget.withdraw()
    clock.advance(0.001)
    assert budget.withdraw()


def test_nothing_allowed_is_nothing_granted() -> None:
    budget = RetryBudget(FakeClock(), ratio=0.0, floor_per_s=0.0, reserve=0.0)
    deposit(budget, 1000)
    assert granted(budget) == 0


def test_a_storm_of_failures_adds_at_most_a_tenth() -> None:
    clock = FakeClock()
    budget = RetryBudget(clock)
    requests, extra = [], []
    for _ in range(60 * 200):  # 200 requests a second for a minute; all want three
        clock.advance(1 / 200)
        budget.deposit()
        requests.append(clock())
        extra += [clock() for _ in range(2) if budget.withdraw()]
    assert len(extra) <= 0.10 * len(requests)
    assert len(extra) >= 0.09 * len(requests)
    for start_s in range(1000, 1050):
        within = [
            sum(start_s <= each < start_s + 10 for each in times)
            for times in (requests, extra)
        ]
        assert within[1] <= 0.10 * within[0] + 1


@settings(max_examples=300, deadline=None)
@given(
    ratio=st.sampled_from([0.0, 0.1, 0.2, 1.0]) | st.floats(0.0, 2.0),
    floor_per_s=st.sampled_from([0.0, 1.0]) | st.floats(0.0, 3.0),
    reserve=st.sampled_from([0.0, 10.0]) | st.floats(0.0, 20.0),
    steps=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.1, 1.0, 9.0, 10.0, 11.0]) | st.floats(0.0, 12.0),
            st.integers(0, 60),
            st.integers(0, 40),
        ),
        max_size=25,
    ),
)
def test_withdrawals_stay_within_what_ten_seconds_allow(
    ratio: float,
    floor_per_s: float,
    reserve: float,
    steps: list[tuple[float, int, int]],
) -> None:
    clock = FakeClock()
    budget = RetryBudget(clock, ratio, floor_per_s, reserve)
    deposits: list[float] = []
    withdrawals: list[float] = []

    def since(times: list[float], seconds: float) -> int:
        return sum(each > clock() - seconds for each in times)

    for gap_s, requests, wanted in steps:
        clock.advance(gap_s)
        deposit(budget, requests)
        deposits += [clock()] * requests
        for _ in range(wanted):
            if budget.withdraw():
                withdrawals.append(clock())
                most = max(ratio * since(deposits, 10.0), floor_per_s * 10, reserve)
                assert since(withdrawals, 10.0) <= most + 1e-6
            else:  # and nothing is refused that was earned
                sure = max(ratio * since(deposits, 9.0), floor_per_s * 10)
                assert since(withdrawals, 11.0) + 1 > sure
                assert len(withdrawals) + 1 > reserve


# Jitter


def test_the_ceiling_doubles_with_each_failed_attempt() -> None:
    highest = [
        max(full_jitter(attempt, 0.1, 10.0, random.Random(seed)) for seed in range(300))
        for attempt in (1, 2, 3, 4)
    ]
    assert highest == pytest.approx([0.1, 0.2, 0.4, 0.8], rel=0.02)


def test_waits_are_spread_down_to_nothing() -> None:
    rng = random.Random(1)
    waits = [full_jitter(3, 0.1, 10.0, rng) for _ in range(2000)]
    assert min(waits) < 0.002
    assert sum(waits) / len(waits) == pytest.approx(0.2, rel=0.05)


@given(
    attempt=st.integers(1, 10**9),
    base_s=st.floats(0.0, 1e6),
    cap_s=st.floats(0.0, 1e6),
    seed=st.integers(0, 100),
)
def test_a_wait_is_never_above_the_cap_and_never_overflows(
    attempt: int, base_s: float, cap_s: float, seed: int
) -> None:
    wait_s = full_jitter(attempt, base_s, cap_s, random.Random(seed))
    assert 0.0 <= wait_s <= cap_s
