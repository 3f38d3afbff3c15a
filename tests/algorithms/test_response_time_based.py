import math
from collections import Counter
from typing import ClassVar

import attrs
import pytest

from plb_contrib_algorithms.response_time_based import (
    ResponseTimeBased,
    ResponseTimeSettings,
    plb_register_algorithm,
)
from plb_core import BackendInfo, Query, Usage
from plb_core.testing import fakes
from plb_core.testing.contracts import AlgorithmContract

QUERY = Query("?")
PROVIDER = plb_register_algorithm()


class Stage:
    def __init__(self, backends: str = "", seed: int = 0, **settings: float) -> None:
        self.clock = fakes.FakeClock()
        infos = [BackendInfo(name, "fake") for name in backends]
        self.algorithm = ResponseTimeBased(
            ResponseTimeSettings(**settings),  # type: ignore[arg-type]  # test shorthand
            fakes.context(now=self.clock, seed=seed, backends=infos),
        )
        self.pair = [fakes.candidate("a"), fakes.candidate("b")]

    def see(self, name: str, latency_s: float = 0.1, **facts: object) -> None:
        outcome = fakes.outcome(name, latency_s=latency_s, **facts)  # type: ignore[arg-type]  # test shorthand
        self.algorithm.observe(outcome)

    def waits(self) -> list[float]:
        """L of both, in seconds."""
        return [-score for score in self.algorithm.choose(QUERY, self.pair).scores]

    def pick(self) -> str:
        return self.algorithm.choose(QUERY, self.pair).candidate.name


class TestResponseTimeBased(AlgorithmContract):
    provider = PROVIDER
    worse_outcome: ClassVar = {"latency_s": 3.0}


class TestByTimeToFirstText(AlgorithmContract):
    provider = PROVIDER
    worse_outcome: ClassVar = {"ttft_s": 3.0}


class TestByErrors(AlgorithmContract):
    provider = PROVIDER
    worse_outcome: ClassVar = {"result": "error", "latency_s": 0.0}


class TestByLoad(AlgorithmContract):
    provider = PROVIDER
    worse_state: ClassVar = {"in_flight": 8}


@pytest.mark.parametrize(
    ("a", "b", "chosen"),
    [
        ((0.2, 0), (0.5, 0), "a"),
        ((0.2, 3), (0.5, 0), "b"),
        ((0.2, 0), (None, 0), "b"),
        ((0.2, 0), (None, 1), "a"),
        (("error", 0), (5.0, 0), "b"),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_follows_the_worked_examples(
    a: tuple[float | str | None, int],
    b: tuple[float | str | None, int],
    chosen: str,
    swapped: bool,
) -> None:
    stage = Stage()
    for candidate, (measured, in_flight) in zip(stage.pair, (a, b), strict=True):
        candidate.in_flight = in_flight
        if measured == "error":
            stage.see(candidate.name, result="error")
        elif isinstance(measured, float):
            stage.see(candidate.name, measured)
    if swapped:
        stage.pair.reverse()
    assert stage.pick() == chosen


def test_takes_a_peak_at_once_and_forgets_it_slowly() -> None:
    stage = Stage(decay_s=100.0)
    stage.see("a", 1.0)
    stage.see("a", 8.0)
    assert stage.waits()[0] == pytest.approx(8.0)
    stage.clock.advance(100.0)
    assert stage.waits()[0] == pytest.approx(8.0 / math.e)
    stage.see("a", 1.0)
    assert stage.waits()[0] == pytest.approx(8.0 / math.e + 1.0 - 1.0 / math.e)


def test_a_lower_sample_right_after_a_peak_changes_little() -> None:
    stage = Stage()
    stage.see("a", 8.0)
    stage.clock.advance(0.001)
    stage.see("a", 1.0)
    assert stage.waits()[0] == pytest.approx(8.0, abs=0.01)


def test_tries_a_once_slow_backend_again() -> None:
    stage = Stage(decay_s=60.0)
    stage.see("b", 20.0)
    picks = []
    for _ in range(300):
        stage.see("a", 0.5)
        picks.append(stage.pick())
        stage.clock.advance(1.0)
    # exp(-t / 60) x 20 falls below 0.5 after 60 x ln 40 = 221 s.
    assert "b" not in picks[:221]
    assert picks[222] == "b"


def test_a_long_answer_does_not_look_slow() -> None:
    stage = Stage()
    stage.see("a", 20.0, usage=Usage(output_tokens=1000))
    stage.see("b", 2.0, usage=Usage(output_tokens=50))
    assert stage.waits() == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize("usage", [None, Usage(), Usage(output_tokens=25)])
def test_a_short_answer_counts_whole(usage: Usage | None) -> None:
    stage = Stage()
    stage.see("a", 0.6, usage=usage)
    assert stage.waits()[0] == pytest.approx(0.6)


def test_a_stream_counts_its_time_to_first_text() -> None:
    stage = Stage()
    stage.see("a", 60.0, ttft_s=0.4, usage=Usage(output_tokens=9))
    assert stage.waits()[0] == pytest.approx(0.4)


def test_errors_in_a_row_double_the_penalty_up_to_ten_minutes() -> None:
    stage = Stage(error_penalty_s=10.0)
    waits = []
    for _ in range(8):
        stage.see("a", 0.01, result="error")
        waits.append(stage.waits()[0])
    assert waits == pytest.approx([10, 20, 40, 80, 160, 320, 600, 600])


def test_an_error_is_worse_than_a_slow_answer_however_slow() -> None:
    stage = Stage()
    stage.see("a", 30.0)
    stage.see("a", 0.01, result="error")
    stage.see("b", 30.0)
    assert stage.pick() == "b"


def test_a_cut_answer_counts_as_an_error_unless_the_client_left() -> None:
    stage = Stage()
    stage.see("a", 0.1, result="truncated", error="bad_answer", ttft_s=0.1)
    stage.see("b", 0.1, result="truncated", ttft_s=0.1)
    assert stage.waits() == pytest.approx([10.0, 0.1])


def test_a_call_given_up_only_raises_the_estimate() -> None:
    stage = Stage()
    stage.see("a", 2.0)
    stage.see("a", 0.5, result="cancelled")
    assert stage.waits()[0] == pytest.approx(2.0)
    stage.see("a", 30.0, result="cancelled")
    assert stage.waits()[0] == pytest.approx(30.0)


def test_an_honest_no_answer_is_measured_too() -> None:
    stage = Stage()
    stage.see("a", 0.3, result="no_answer")
    assert stage.waits()[0] == pytest.approx(0.3)


def test_a_measured_zero_is_not_taken_for_unmeasured() -> None:
    stage = Stage()
    stage.see("a", 0.0)
    stage.see("b", 9.0, ttft_s=0.0)
    assert all(wait > 0 for wait in stage.waits())


def test_does_not_stampede_a_new_backend() -> None:
    stage = Stage()
    stage.see("a", 0.2)
    picks = []
    for _ in range(6):
        candidate = stage.algorithm.choose(QUERY, stage.pair).candidate
        candidate.in_flight += 1
        picks.append(candidate.name)
    assert Counter(picks) == {"b": 1, "a": 5}


def test_unmeasured_backends_share_the_first_requests() -> None:
    names = {Stage(seed=seed).pick() for seed in range(20)}
    assert names == {"a", "b"}


def test_ties_carry_their_probability() -> None:
    stage = Stage()
    assert stage.algorithm.choose(QUERY, stage.pair).probability == 0.5


def test_survives_weeks_without_and_with_traffic() -> None:
    stage = Stage()
    stage.see("a", 1.0)
    stage.clock.advance(30 * 86_400.0)
    assert stage.waits() == [0.0, 0.0]
    stage.see("b", 2.0)
    assert stage.waits() == pytest.approx([0.0, 2.0])
    for _ in range(1000):
        stage.clock.advance(3600.0)
        stage.see("a", 1.0)
    assert stage.waits()[0] == pytest.approx(1.0)


def test_adopts_measurements_across_changed_settings() -> None:
    before = Stage(decay_s=60.0)
    for name, seconds in (("a", 4.0), ("b", 1.0), ("gone", 9.0)):
        before.see(name, seconds)
    before.clock.advance(60.0)
    after = Stage("ab", decay_s=600.0)
    after.clock.advance(60.0)
    after.algorithm.adopt(before.algorithm)
    assert after.waits() == pytest.approx([4.0 / math.e, 1.0 / math.e])
    after.see("b", 0.1)
    assert after.waits()[0] == pytest.approx(4.0 / math.e)
    assert "gone" not in after.algorithm.__dict__["_peaks"]


@pytest.mark.parametrize(
    "field", ["decay_s", "first_guess_s", "error_penalty_s", "comparable_tokens"]
)
def test_refuses_a_setting_of_zero(field: str) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        attrs.evolve(ResponseTimeSettings(), **{field: 0})
