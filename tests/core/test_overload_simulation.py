"""Overload for a simulated minute: the answers given stay as many and as quick."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from plb_core import overload
from plb_core.concurrency_limit import AdaptiveLimit
from plb_core.sections import OverloadSettings
from tests.core.overload_simulation import Run, Server, percentile, run

CALM, FLOOD = 70.0, 1000.0  # a second, against a capacity of 100
FIXED = OverloadSettings(max_in_flight=10)
SETTINGS = {"fixed": FIXED, "adaptive": OverloadSettings()}


@functools.cache
def flooded(name: str) -> Run:
    return run(SETTINGS[name], [(10, CALM), (60, FLOOD), (10, CALM)])


def waits_s(seen: Run, start_s: float, end_s: float) -> list[float]:
    within = seen.within(start_s, end_s)
    return [each.waited_s for each in within if each.waited_s is not None]


def refusals_s(seen: Run, start_s: float, end_s: float) -> list[float]:
    within = seen.within(start_s, end_s)
    return [each.took_s for each in within if each.waited_s is None]


@pytest.mark.parametrize("name", SETTINGS)
def test_tenfold_overload_keeps_the_answers_a_second(name: str) -> None:
    assert flooded(name).goodput(10, 70) >= 90.0


@pytest.mark.parametrize("name", SETTINGS)
def test_those_admitted_waited_milliseconds(name: str) -> None:
    assert percentile(waits_s(flooded(name), 10, 70), 0.99) <= 0.02


def test_with_a_fixed_limit_answers_take_at_most_twice_as_long() -> None:
    took = [each.took_s for each in flooded("fixed").within(10, 70) if each.ok]
    assert percentile(took, 0.99) <= 0.2


def test_with_an_adaptive_limit_the_backend_s_queue_is_found_and_kept_short() -> None:
    seen = flooded("adaptive")
    took = [each.took_s for each in seen.within(20, 70) if each.ok]
    assert percentile(took, 0.5) <= 0.2
    assert max(seen.limits[25:70]) <= 32


@pytest.mark.parametrize(("name", "limit_s"), [("fixed", 0.02), ("adaptive", 0.03)])
def test_those_refused_hear_of_it_in_milliseconds(name: str, limit_s: float) -> None:
    assert percentile(refusals_s(flooded(name), 10, 70), 0.99) <= limit_s


@pytest.mark.parametrize("name", SETTINGS)
def test_two_seconds_later_nothing_is_left_of_it(name: str) -> None:
    seen = flooded(name)
    assert not refusals_s(seen, 72, 80)
    assert all(each.ok for each in seen.within(72, 80))
    assert max(each.took_s for each in seen.within(72, 80)) <= 0.3
    assert (seen.gate.in_flight, seen.gate.waiting) == (0, 0)
    assert not seen.gate.overloaded


def test_the_bounds_hold_throughout() -> None:
    seen = flooded("fixed")
    assert seen.most_in_flight == 10
    assert seen.most_waiting <= 256


@pytest.mark.parametrize("factor", [1.1, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_milder_overload_wastes_nothing_either(factor: float, spread: float) -> None:
    seen = run(FIXED, [(20, 100 * factor)], spread=spread)
    assert seen.goodput(5, 20) >= 90.0
    assert max(each.took_s for each in seen.done if each.waited_s is None) <= 1.01


def test_load_below_capacity_is_not_refused() -> None:
    assert not refusals_s(run(FIXED, [(60, 85.0)]), 0, 60)


def test_a_burst_that_fits_into_a_second_is_served_whole() -> None:
    seen = run(FIXED, [(5, 50.0), (0.05, 1800.0), (5, 10.0)])
    assert not refusals_s(seen, 0, 11)


def test_a_backend_that_refuses_above_twenty_is_used_to_the_full() -> None:
    seen = run(SETTINGS["adaptive"], [(30, FLOOD)], workers=1000, busy_above=20)
    assert seen.goodput(10, 30) >= 0.9 * 200


def slower(server: Server) -> None:
    server.work_s *= 2


def test_a_backend_that_became_slower_is_not_starved() -> None:
    seen = run(
        SETTINGS["adaptive"],
        [(5, 450.0), (30, 2000.0)],
        workers=64,
        events=[(15.0, slower)],
    )
    assert seen.goodput(20, 35) >= 0.9 * 320


class Aimd(AdaptiveLimit):
    """Grows by one an answer, shrinks by a tenth on load failures alone."""

    __slots__ = ()

    def answered(self, latency_s: float, in_flight: int, now_s: float) -> None:
        if in_flight * 2 >= self._estimate:
            self._set(self._estimate + 1.0)


def test_aimd_would_fill_the_backend_s_own_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reason for gradients: backends that queue inside never refuse."""
    loads: list[tuple[float, float]] = [(10, CALM), (40, FLOOD)]
    monkeypatch.setattr(overload, "AdaptiveLimit", Aimd)
    by_aimd = run(SETTINGS["adaptive"], loads)
    by_gradient = flooded("adaptive")
    median: Callable[[Any], float] = lambda seen: percentile(  # noqa: E731 - a formula
        [each.took_s for each in seen.within(20, 49) if each.ok], 0.5
    )
    assert by_aimd.goodput(20, 49) <= 1.05 * by_gradient.goodput(20, 49)
    assert median(by_aimd) > 40 * median(by_gradient)
