from __future__ import annotations

import random
import tracemalloc

import attrs
import pytest

from plb_core.breaker import Breaker, CallResult
from plb_core.config import read_text
from plb_core.sections import BreakerSettings
from plb_core.testing.fakes import FakeClock

CLOSED_OPEN = ("closed", "open")
OPEN_HALF = ("open", "half_open")
HALF_OPEN = ("half_open", "open")
HALF_CLOSED = ("half_open", "closed")


class Rig:
    """A breaker on a fake clock; without jitter unless a test asks for it."""

    def __init__(self, *, seed: int = 1, **settings: float | None) -> None:
        values: dict[str, float | None] = {"jitter": 0.0, **settings}
        self.settings = BreakerSettings(**values)  # type: ignore[arg-type]  # shorthand
        self.clock = FakeClock()
        self.changes: list[tuple[str, str]] = []
        self.it = Breaker(self.settings, self.clock, random.Random(seed), self.note)

    def note(self, before: str, after: str) -> None:
        self.changes.append((before, after))

    def admits(self) -> bool:
        return self.it.admits(self.clock())

    def start(self) -> int:
        return self.it.start(self.clock())

    def finish(self, token: int, result: CallResult, latency_s: float = 0.1) -> None:
        self.it.finish(token, result, latency_s, self.clock())

    def call(self, result: CallResult, latency_s: float = 0.1, times: int = 1) -> None:
        for _ in range(times):
            self.finish(self.start(), result, latency_s)

    def open(self) -> None:
        self.call("failure", times=self.settings.failure_threshold)
        assert self.it.state == "open"

    def half_open(self) -> None:
        if self.it.state == "closed":
            self.open()
        assert self.it.retry_at_s is not None
        self.clock.now_s = self.it.retry_at_s
        assert self.admits()
        assert self.it.state == "half_open"

    def close(self) -> None:
        if self.it.state != "half_open":
            self.half_open()
        self.call("success", times=self.settings.success_threshold)
        assert self.it.closed

    def open_time_s(self) -> float:
        assert self.it.retry_at_s is not None
        return self.it.retry_at_s - self.clock()


# Closed


def test_starts_closed() -> None:
    rig = Rig()
    assert rig.it.closed
    assert rig.it.state == "closed"
    assert rig.it.retry_at_s is None
    assert rig.admits()
    assert not rig.changes


def test_failures_in_a_row_open_it() -> None:
    rig = Rig()
    rig.call("failure", times=4)
    assert rig.it.closed
    rig.call("failure")
    assert not rig.it.closed
    assert rig.it.state == "open"
    assert rig.changes == [CLOSED_OPEN]


def test_a_success_ends_the_row() -> None:
    rig = Rig(minimum_calls=1000)
    for _ in range(100):
        rig.call("failure", times=4)
        rig.call("success")
    assert rig.it.closed


def test_a_row_may_take_days() -> None:
    rig = Rig()
    for _ in range(5):
        rig.clock.advance(86_400.0)
        rig.call("failure")
    assert rig.it.state == "open"


def test_breaker_rate_not_lifetime() -> None:
    # Symptom: 5 failures among 5,000 good calls stopped a sound backend.
    rig = Rig()
    for _ in range(50):
        rig.call("success", times=100)
        rig.call("failure")
        rig.clock.advance(0.01)
    assert not rig.changes


def test_calls_below_the_minimum_decide_nothing() -> None:
    rig = Rig(failure_threshold=100, minimum_calls=20)
    rig.call("failure", times=19)
    assert rig.it.closed
    rig.call("failure")
    assert rig.it.state == "open"


@pytest.mark.parametrize(("failures", "state"), [(9, "closed"), (10, "open")])
def test_the_failure_rate_opens_it_when_reached(failures: int, state: str) -> None:
    rig = Rig(failure_threshold=100, minimum_calls=20)
    rig.call("failure", times=failures)
    rig.call("success", times=20 - failures)
    assert rig.it.state == state


def test_a_rate_is_reached_exactly_in_spite_of_rounding() -> None:
    rig = Rig(failure_threshold=100, minimum_calls=30, failure_rate=0.1)
    rig.call("failure", times=3)
    rig.call("success", times=26)
    assert rig.it.closed
    rig.call("success")
    assert rig.it.state == "open"


def test_a_rate_of_one_needs_every_call_to_fail() -> None:
    rig = Rig(failure_threshold=100, minimum_calls=10, failure_rate=1.0)
    rig.call("success")
    rig.call("failure", times=60)
    assert rig.it.closed
    rig.clock.advance(30.0)
    rig.call("failure", times=10)
    assert rig.it.state == "open"


def test_old_calls_leave_the_window() -> None:
    rig = Rig(failure_threshold=100, minimum_calls=4, failure_rate=0.75)
    rig.call("failure", times=3)
    rig.clock.advance(30.0)
    rig.call("success")
    assert rig.it.closed
    rig.call("failure", times=3)
    assert rig.it.state == "open"


def test_calls_stay_in_the_window_for_nine_tenths_of_it() -> None:
    rig = Rig(failure_threshold=100, minimum_calls=4, failure_rate=0.75)
    rig.clock.advance(2.9)
    rig.call("failure", times=3)
    rig.clock.advance(27.0)
    rig.call("failure")
    assert rig.it.state == "open"


def test_slow_calls_open_it_although_they_succeed() -> None:
    rig = Rig(slow_call_s=1.0, minimum_calls=20)
    rig.call("success", latency_s=0.5, times=10)
    rig.call("success", latency_s=1.1, times=9)
    assert rig.it.closed
    rig.call("success", latency_s=1.1)
    assert rig.it.state == "open"


def test_a_call_of_just_the_limit_is_not_slow() -> None:
    rig = Rig(slow_call_s=1.0, minimum_calls=1)
    rig.call("success", latency_s=1.0)
    assert rig.it.closed


def test_without_a_limit_no_call_is_slow() -> None:
    rig = Rig(minimum_calls=1)
    rig.call("success", latency_s=1e9, times=100)
    assert rig.it.closed


def test_a_slow_failure_counts_as_slow_and_as_failed() -> None:
    for failure_rate, slow_rate in ((0.5, 1.0), (1.0, 0.5)):
        rig = Rig(
            slow_call_s=1.0,
            failure_threshold=100,
            minimum_calls=4,
            failure_rate=failure_rate,
            slow_rate=slow_rate,
        )
        rig.call("success", times=2)
        rig.call("failure", latency_s=2.0)
        assert rig.it.closed
        rig.call("failure", latency_s=2.0)
        assert rig.it.state == "open"


def test_slow_and_failed_calls_are_not_added_up() -> None:
    rig = Rig(slow_call_s=1.0, failure_threshold=100, minimum_calls=10)
    rig.call("success", times=2)
    rig.call("failure", times=4)
    rig.call("success", latency_s=2.0, times=4)
    assert rig.it.closed


def test_ignored_calls_count_nothing() -> None:
    rig = Rig(slow_call_s=1.0, minimum_calls=5)
    rig.call("failure", times=4)
    rig.call("ignored", latency_s=9.0, times=1000)
    assert rig.it.closed
    rig.call("failure")  # neither did they end the row
    assert rig.it.state == "open"


@pytest.mark.parametrize("seed", range(20))
def test_one_failure_in_ten_does_not_make_it_flap(seed: int) -> None:
    rig, chance = Rig(), random.Random(seed)
    for call in range(60 * 60):
        # Five failures in a row are a row, however rare; this is about the rate.
        failed = chance.random() < 0.1 and call % 5
        rig.call("failure" if failed else "success")
        rig.clock.advance(1 / 60)
    assert not rig.changes


def test_memory_is_bounded_by_the_window_not_by_the_calls() -> None:
    rig = Rig(failure_threshold=100_000, minimum_calls=100_000)

    def day() -> int:
        for _ in range(2000):
            rig.call("failure")
            rig.call("success")
            rig.clock.advance(0.5)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    first = day()
    second = day()
    tracemalloc.stop()
    assert second - first < 2000


# Open


def test_open_admits_nothing_until_its_time_is_up() -> None:
    rig = Rig(timeout_s=5.0)
    rig.open()
    assert rig.open_time_s() == 5.0
    rig.clock.advance(4.999)
    assert not any(rig.admits() for _ in range(100))
    assert rig.changes == [CLOSED_OPEN]
    rig.clock.advance(0.001)
    assert rig.admits()
    assert rig.it.state == "half_open"
    assert rig.it.retry_at_s is None
    assert rig.changes == [CLOSED_OPEN, OPEN_HALF]


def test_time_alone_changes_nothing() -> None:
    rig = Rig()
    rig.open()
    rig.clock.advance(1e9)
    assert rig.it.state == "open"


def test_a_call_that_is_not_admitted_cannot_start() -> None:
    rig = Rig()
    rig.open()
    with pytest.raises(RuntimeError, match="open"):
        rig.start()
    rig.half_open()
    token = rig.start()
    with pytest.raises(RuntimeError, match="half_open"):
        rig.start()
    rig.finish(token, "success")
    assert rig.start() != token


def test_starting_half_opens_by_itself() -> None:
    rig = Rig()
    rig.open()
    rig.clock.advance(5.0)
    rig.call("success", times=3)
    assert rig.changes == [CLOSED_OPEN, OPEN_HALF, HALF_CLOSED]


@pytest.mark.parametrize("result", ["success", "failure", "ignored"])
def test_calls_under_way_do_not_move_an_open_breaker(result: CallResult) -> None:
    rig = Rig()
    under_way = [rig.start() for _ in range(50)]
    rig.open()
    before = rig.it.retry_at_s
    rig.clock.advance(1.0)
    for token in under_way:
        rig.finish(token, result, latency_s=100.0)
    assert rig.it.state == "open"
    assert rig.it.retry_at_s == before


def test_the_open_time_doubles_up_to_its_limit() -> None:
    rig = Rig(timeout_s=5.0, max_timeout_s=30.0)
    rig.open()
    times = []
    for _ in range(5):
        times.append(rig.open_time_s())
        rig.half_open()
        rig.call("failure")
    assert times == [5.0, 10.0, 20.0, 30.0, 30.0]


def test_the_open_time_never_overflows() -> None:
    rig = Rig()
    for _ in range(3000):
        rig.half_open()
        rig.call("failure")
    assert rig.open_time_s() == pytest.approx(300.0)


def test_the_open_time_is_spread_by_the_jitter() -> None:
    times = []
    for seed in range(300):
        rig = Rig(seed=seed, jitter=0.5, timeout_s=10.0)
        rig.open()
        times.append(rig.open_time_s())
    assert 5.0 <= min(times) < 5.5
    assert 14.5 < max(times) <= 15.0
    assert sum(times) / len(times) == pytest.approx(10.0, abs=0.5)


def test_jitter_does_not_grow_with_each_opening() -> None:
    rig = Rig(jitter=1.0, max_timeout_s=5.0)
    rig.open()
    for _ in range(200):
        assert 0.0 <= rig.open_time_s() <= 10.0
        rig.half_open()
        rig.call("failure")


def test_a_stable_close_resets_the_open_time() -> None:
    rig = Rig(timeout_s=5.0, window_s=30.0)
    rig.half_open()
    rig.call("failure")
    rig.close()
    rig.clock.advance(30.0)
    rig.open()
    assert rig.open_time_s() == 5.0


def test_a_short_close_does_not_reset_the_open_time() -> None:
    rig = Rig(timeout_s=5.0, window_s=30.0)
    rig.close()
    rig.clock.advance(29.0)
    rig.open()
    assert rig.open_time_s() == 10.0


def test_a_late_first_opening_takes_the_first_open_time() -> None:
    for wait_s in (0.0, 1.0, 1e6):
        rig = Rig(timeout_s=5.0)
        rig.clock.advance(wait_s)
        rig.open()
        assert rig.open_time_s() == 5.0


def test_a_clock_that_goes_back_shortens_and_lengthens_nothing() -> None:
    rig = Rig(timeout_s=5.0)
    rig.call("failure", times=4)
    token = rig.start()
    rig.it.finish(rig.start(), "ignored", 0.1, 1000.0)
    rig.it.finish(token, "failure", 0.1, -1e9)
    assert rig.it.retry_at_s == 1005.0
    assert not rig.it.admits(1004.0)
    assert rig.it.admits(1005.0)
    rig.it.finish(rig.it.start(0.0), "failure", 0.1, 0.0)
    assert rig.it.retry_at_s == 1015.0


def test_an_impossible_time_counts_as_the_latest() -> None:
    rig = Rig(timeout_s=5.0)
    rig.open()
    assert not rig.it.admits(float("nan"))
    assert rig.it.retry_at_s == 1005.0


# Active checks


def test_a_good_check_ends_the_open_time_early() -> None:
    rig = Rig()
    rig.open()
    rig.it.probe_passed(rig.clock())
    assert rig.it.state == "half_open"
    assert rig.admits()


def test_a_good_check_never_closes_it() -> None:
    rig = Rig()
    rig.open()
    for _ in range(1000):
        rig.clock.advance(1.0)
        rig.it.probe_passed(rig.clock())
    assert rig.changes == [CLOSED_OPEN, OPEN_HALF]


def test_a_good_check_gives_no_second_permit() -> None:
    rig = Rig()
    rig.half_open()
    rig.start()
    rig.it.probe_passed(rig.clock())
    assert not rig.admits()


def test_a_good_check_means_nothing_while_closed() -> None:
    rig = Rig()
    rig.call("failure", times=4)
    rig.it.probe_passed(rig.clock())
    assert not rig.changes
    rig.call("failure")
    assert rig.it.state == "open"


def test_checks_do_not_stop_the_open_time_from_growing() -> None:
    rig = Rig(timeout_s=5.0)
    rig.open()
    for expected_s in (10.0, 20.0, 40.0):
        rig.it.probe_passed(rig.clock())
        rig.call("failure")
        assert rig.open_time_s() == expected_s


# Half-open


@pytest.mark.parametrize("permits", [1, 2, 10])
def test_half_open_admits_exactly_the_permits(permits: int) -> None:
    rig = Rig(half_open_permits=permits)
    rig.half_open()
    tokens = [rig.start() for _ in range(1000) if rig.admits()]
    assert len(tokens) == permits
    assert len(set(tokens)) == permits


def test_asking_takes_no_permit() -> None:
    rig = Rig()
    rig.half_open()
    assert all(rig.admits() for _ in range(1000))


@pytest.mark.parametrize("threshold", [1, 3, 7])
def test_enough_good_trials_close_it(threshold: int) -> None:
    rig = Rig(success_threshold=threshold)
    rig.half_open()
    rig.call("success", times=threshold - 1)
    assert rig.it.state == "half_open"
    rig.call("success")
    assert rig.it.closed
    assert rig.it.retry_at_s is None


def test_one_failed_trial_opens_it_again() -> None:
    rig = Rig()
    rig.half_open()
    rig.call("success", times=2)
    rig.call("failure")
    assert rig.changes == [CLOSED_OPEN, OPEN_HALF, HALF_OPEN]
    rig.half_open()
    rig.call("success", times=2)  # the two from before are forgotten
    assert rig.it.state == "half_open"


def test_an_ignored_trial_gives_its_permit_back_and_counts_nothing() -> None:
    # Symptom of the fault: a client that left took the only permit with it for ever.
    rig = Rig()
    rig.half_open()
    rig.call("success", times=2)
    for _ in range(100):
        token = rig.start()
        assert not rig.admits()
        rig.finish(token, "ignored", latency_s=1e9)
        assert rig.admits()
    assert rig.it.state == "half_open"
    rig.call("success")
    assert rig.it.closed


def test_a_permit_comes_back_only_once() -> None:
    rig = Rig(half_open_permits=2)
    rig.half_open()
    first = rig.start()
    rig.start()
    for _ in range(5):
        rig.finish(first, "success")
    assert rig.it.state == "half_open"  # one success, not five
    rig.start()
    assert not rig.admits()


@pytest.mark.parametrize("result", ["success", "failure", "ignored"])
def test_a_call_from_before_never_moves_the_half_open_state(result: CallResult) -> None:
    rig = Rig()
    under_way = [rig.start() for _ in range(50)]
    rig.half_open()
    trial = rig.start()
    for token in under_way:
        rig.finish(token, result, latency_s=100.0)
    assert rig.it.state == "half_open"
    assert not rig.admits()
    rig.finish(trial, "success")
    assert rig.it.state == "half_open"


@pytest.mark.parametrize("result", ["success", "failure", "ignored"])
def test_a_trial_of_an_earlier_half_open_time_is_old_news(result: CallResult) -> None:
    rig = Rig(half_open_permits=2, success_threshold=1)
    rig.half_open()
    late = rig.start()
    rig.call("failure")
    rig.half_open()
    rig.start()
    rig.finish(late, result)
    assert rig.it.state == "half_open"
    rig.start()
    assert not rig.admits()


def test_a_trial_that_outlives_the_half_open_time_does_not_count_when_closed() -> None:
    rig = Rig(half_open_permits=2, success_threshold=1, failure_threshold=1)
    rig.half_open()
    late = rig.start()
    rig.call("success")
    rig.finish(late, "failure")
    assert rig.it.closed


def test_a_call_from_before_does_not_count_when_closed_again() -> None:
    rig = Rig()
    under_way = [rig.start() for _ in range(5)]
    rig.close()
    for token in under_way:
        rig.finish(token, "failure")
    assert rig.it.closed


@pytest.mark.parametrize(
    ("latencies_s", "state"),
    [([2.0, 0.1, 0.1], "closed"), ([0.1, 2.0, 2.0], "open"), ([2.0] * 3, "open")],
)
def test_slow_trials_keep_it_from_closing(latencies_s: list[float], state: str) -> None:
    rig = Rig(slow_call_s=1.0)
    rig.half_open()
    for latency_s in latencies_s:
        rig.call("success", latency_s)
    assert rig.it.state == state


def test_slow_trials_that_are_just_the_limit_share_open_it_again() -> None:
    rig = Rig(slow_call_s=1.0, success_threshold=2)
    rig.half_open()
    rig.call("success", 1.0)
    rig.call("success", 1.1)
    assert rig.it.state == "open"
    rig.half_open()
    rig.call("success", 0.1)
    rig.call("success", 1.0)
    assert rig.it.closed


def test_breaker_window_reset_on_close() -> None:
    # Symptom: after closing, the first call opened it again because of old slow ones.
    rig = Rig(slow_call_s=1.0, minimum_calls=20, window_s=1e6)
    rig.call("success", latency_s=9.0, times=20)
    assert rig.it.state == "open"
    rig.close()
    rig.call("success", times=19)
    rig.call("failure")
    assert rig.it.closed
    rig.call("failure", times=3)
    assert rig.it.closed
    rig.call("failure")  # and the row begins anew as well
    assert rig.it.state == "open"


def test_a_window_begun_at_closing_still_forgets() -> None:
    rig = Rig(failure_threshold=100, minimum_calls=4, window_s=10.0)
    rig.call("failure", times=4)
    rig.clock.advance(1000.0)
    rig.close()
    rig.call("failure", times=3)
    rig.clock.advance(9.0)
    rig.call("success")
    assert rig.it.state == "open"
    rig.close()
    rig.call("failure", times=3)
    rig.clock.advance(10.0)
    rig.call("success")
    assert rig.it.closed


def test_ten_thousand_interleavings_never_let_two_trials_out() -> None:
    for seed in range(10_000):
        chance = random.Random(seed)
        rig = Rig(seed=seed, success_threshold=2, failure_threshold=1)
        old = [rig.start() for _ in range(3)]
        rig.half_open()
        trials: list[int] = []
        for _ in range(12):
            if rig.it.closed:
                break
            step = chance.randrange(5)
            if step == 0 and old:
                rig.finish(old.pop(), chance.choice(["success", "failure", "ignored"]))
            elif step == 1:
                rig.it.probe_passed(rig.clock())
            elif step == 2 and trials:
                rig.finish(trials.pop(), chance.choice(["ignored", "success"]))
            elif step == 3:
                rig.clock.advance(chance.random())
            else:
                waiting = [rig.start() for _ in range(10) if rig.admits()]
                assert len(waiting) == (not trials)
                trials += waiting
            assert len(trials) <= 1


# Recovery as a whole


def test_a_burst_of_errors_costs_few_calls_and_closes_soon_after() -> None:
    rig = Rig(jitter=0.5, success_threshold=3)
    failures, begun_s, open_s, closed_at_s = 0, rig.clock(), 0.0, 0.0
    for _ in range(60 * 40):
        rig.clock.advance(1 / 60)
        sick = rig.clock() < begun_s + 5.0
        if rig.admits():
            rig.call("failure" if sick else "success")
            failures += sick
        if rig.it.retry_at_s:
            open_s = max(open_s, rig.open_time_s())
        if rig.it.closed and not sick:
            closed_at_s = closed_at_s or rig.clock()
    assert failures <= 6  # the row of five, and at most one trial meanwhile
    assert 0.0 < closed_at_s <= begun_s + 5.0 + open_s + 1.0


def test_a_herd_at_recovery_reaches_it_one_by_one() -> None:
    rig = Rig(jitter=0.5)
    rig.open()
    back_at_s = rig.clock() + 30.0
    out: list[tuple[float, int]] = []
    most, closed_at_s = 0, 0.0
    while not closed_at_s:
        rig.clock.advance(0.01)
        sound = rig.clock() >= back_at_s
        while out and out[0][0] <= rig.clock():
            rig.finish(out.pop(0)[1], "success" if sound else "failure")
        closed_at_s = rig.clock() if rig.it.closed else 0.0
        if sound:
            rig.it.probe_passed(rig.clock())
        waiting = 0 if rig.it.closed else 30
        end_s = rig.clock() + 0.05
        out += [(end_s, rig.start()) for _ in range(waiting) if rig.admits()]
        most = max(most, len(out))
    assert most == 1
    assert closed_at_s <= back_at_s + 1.0


def test_the_listener_sees_the_new_state_and_may_ask_again() -> None:
    seen: list[tuple[str, str, bool]] = []

    def look(_before: str, after: str) -> None:
        seen.append((after, it.state, it.admits(1000.0)))

    it = Breaker(
        BreakerSettings(failure_threshold=1, success_threshold=1),
        FakeClock(),
        random.Random(1),
        look,
    )
    it.finish(it.start(1000.0), "failure", 0.1, 1000.0)
    it.probe_passed(1000.0)
    it.finish(it.start(1000.0), "success", 0.1, 1000.0)
    assert seen == [
        ("open", "open", False),
        ("half_open", "half_open", True),
        ("closed", "closed", True),
    ]


def test_a_listener_that_raises_leaves_the_new_state_complete() -> None:
    def fail(_before: str, _after: str) -> None:
        raise LookupError

    settings = BreakerSettings(failure_threshold=1, jitter=0.0)
    it = Breaker(settings, FakeClock(), random.Random(1), fail)
    with pytest.raises(LookupError):
        it.finish(it.start(1000.0), "failure", 0.1, 1000.0)
    assert it.state == "open"
    assert it.retry_at_s == 1005.0


# Settings


def test_the_guides_defaults() -> None:
    assert attrs.asdict(BreakerSettings()) == {
        "failure_threshold": 5,
        "success_threshold": 3,
        "timeout_s": 5.0,
        "max_timeout_s": 300.0,
        "jitter": 0.5,
        "window_s": 30.0,
        "minimum_calls": 20,
        "failure_rate": 0.5,
        "slow_call_s": None,
        "slow_rate": 0.5,
        "half_open_permits": 1,
    }


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("failure_threshold = 0", "at least 1"),
        ("success_threshold = 0", "at least 1"),
        ("timeout_s = 0", "above 0"),
        ("timeout_s = nan", "finite"),
        ("max_timeout_s = inf", "finite"),
        ("max_timeout_s = 0", "above 0"),
        ("max_timeout_s = 4.5", "max_timeout_s = 4.5 is less than timeout_s = 5"),
        ("jitter = 1.5", "from 0 to 1"),
        ("window_s = -1", "above 0"),
        ("minimum_calls = 0", "at least 1"),
        ("failure_rate = 0", "above 0"),
        ("failure_rate = 50", "from 0 to 1"),
        ("slow_call_s = 0", "above 0"),
        ("slow_rate = 0", "above 0"),
        ("slow_rate = 1.1", "from 0 to 1"),
        ("half_open_permits = 0", "at least 1"),
        ('failure_threshold = "5"', "a whole number"),
        ("failure_treshold = 5", "did you mean 'failure_threshold'"),
    ],
)
def test_a_bad_setting_is_refused_with_its_line(line: str, problem: str) -> None:
    config = read_text(f"[breaker]\n{line}\n", file="c.toml")
    found = [each for each in config.problems.found if each.key.startswith("breaker")]
    assert len(found) == 1
    assert problem in found[0].message
    assert found[0].line in (1, 2)


def test_the_section_is_read() -> None:
    config = read_text("[breaker]\nfailure_threshold = 2\nslow_call_s = 3\n")
    assert config.breaker == BreakerSettings(failure_threshold=2, slow_call_s=3.0)
