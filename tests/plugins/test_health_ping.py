from __future__ import annotations

import asyncio
from typing import cast

import attrs
import pytest

import plb_health_ping
from plb_core.testing import fakes
from plb_core.testing.contracts.health_check import (
    HealthCheckContract,
    Patient,
    RaisingBackend,
)
from plb_core.types import Health, HealthRecord, ProbeResult
from plb_health_ping import Ping, PingSettings

GOOD = ProbeResult(True, 0.01)
BAD = ProbeResult(False, 0.01, "refused")
LIMPING = ProbeResult(True, 0.01, degraded=True)


class TestPing(HealthCheckContract):
    provider = plb_health_ping.plb_register_health_check()
    hasty = PingSettings(timeout_s=0.05)


def ping(**settings: object) -> Ping:
    return Ping(PingSettings(**settings), fakes.context())  # type: ignore[arg-type]  # test shorthand


def healths(check: Ping, start: Health, probes: list[ProbeResult]) -> list[Health]:
    patient = Patient(check, start)
    return [patient.see([probe]) for probe in probes]


def test_is_registered_under_its_entry_point_name() -> None:
    provider = plb_health_ping.plb_register_health_check()
    assert provider.name == "ping"
    assert provider.settings is PingSettings
    assert provider.summary


@pytest.mark.parametrize("start", ["unknown", "healthy", "degraded"])
def test_two_failures_change_nothing_and_the_third_makes_unhealthy(
    start: Health,
) -> None:
    assert healths(ping(), start, [BAD] * 4) == [
        start,
        start,
        "unhealthy",
        "unhealthy",
    ]


def test_one_good_probe_is_not_yet_a_recovery_and_two_are() -> None:
    assert healths(ping(), "unhealthy", [GOOD, GOOD]) == ["unhealthy", "healthy"]


def test_a_failure_between_good_probes_starts_the_count_again() -> None:
    seen = healths(ping(), "unhealthy", [GOOD, BAD, GOOD, GOOD])
    assert seen == ["unhealthy", "unhealthy", "unhealthy", "healthy"]


def test_the_first_good_probe_of_an_unknown_backend_is_believed() -> None:
    assert healths(ping(), "unknown", [GOOD]) == ["healthy"]


def test_thresholds_of_one_believe_every_probe() -> None:
    check = ping(unhealthy_threshold=1, healthy_threshold=1)
    seen = healths(check, "healthy", [BAD, GOOD, BAD])
    assert seen == ["unhealthy", "healthy", "unhealthy"]


def test_a_probe_that_calls_itself_degraded_is_believed_both_ways() -> None:
    seen = healths(ping(), "healthy", [LIMPING, GOOD])
    assert seen == ["degraded", "healthy"]


def test_a_recovering_backend_comes_back_degraded_when_its_probe_says_so() -> None:
    assert healths(ping(), "unhealthy", [LIMPING] * 2) == ["unhealthy", "degraded"]


@pytest.mark.parametrize(
    ("before", "success_rate", "after"),
    [
        ("healthy", None, "healthy"),
        ("healthy", 0.80, "healthy"),
        ("healthy", 0.79, "degraded"),
        ("healthy", 0.0, "degraded"),
        ("degraded", None, "healthy"),
        ("degraded", 0.80, "degraded"),
        ("degraded", 0.89, "degraded"),
        ("degraded", 0.90, "healthy"),
        ("unknown", 0.5, "degraded"),
    ],
)
def test_traffic_that_fails_degrades_in_spite_of_good_probes(
    before: Health, success_rate: float | None, after: Health
) -> None:
    record = HealthRecord(before, GOOD, 9, 0, success_rate)
    assert ping().judge(record) == after


def test_traffic_that_fails_alone_never_makes_unhealthy() -> None:
    assert ping().judge(HealthRecord("degraded", GOOD, 1, 0, 0.0)) == "degraded"


def test_a_success_rate_around_the_bar_does_not_flap() -> None:
    patient = Patient(ping(), "healthy")
    for success_rate in [0.79, 0.81] * 30:
        patient.success_rate = success_rate
        patient.see([GOOD])
    assert patient.changes == 1


def test_never_degrades_by_traffic_when_the_bar_is_zero() -> None:
    check = ping(degraded_below=0.0)
    assert check.judge(HealthRecord("healthy", GOOD, 1, 0, 0.0)) == "healthy"


@pytest.mark.asyncio
async def test_tells_the_backend_its_time_limit_and_returns_its_word() -> None:
    class Listening(fakes.FakeBackend):
        async def ping(self, timeout_s: float) -> ProbeResult:
            return ProbeResult(True, timeout_s, "as told", degraded=True)

    result = await ping(timeout_s=2.5).probe(Listening())
    assert result == ProbeResult(True, 2.5, "as told", degraded=True)


@pytest.mark.asyncio
async def test_names_the_fault_of_a_ping_that_raises_but_not_its_message() -> None:
    result = await ping().probe(RaisingBackend())
    assert result.detail == "the backend's ping raised ZeroDivisionError"


@pytest.mark.asyncio
async def test_a_ping_that_returns_nonsense_is_a_failed_probe() -> None:
    class Mute(fakes.FakeBackend):
        async def ping(self, timeout_s: float) -> ProbeResult:
            return cast("ProbeResult", None)

    result = await ping().probe(Mute())
    assert (result.ok, result.detail) == (False, "the backend's ping returned NoneType")


@pytest.mark.asyncio
async def test_a_hanging_ping_is_let_go_with_the_time_it_took() -> None:
    clock = fakes.FakeClock()
    check = Ping(PingSettings(timeout_s=0.02), fakes.context(now=clock))
    left: list[str] = []

    class Hanging(fakes.FakeBackend):
        async def ping(self, timeout_s: float) -> ProbeResult:
            try:
                await asyncio.Event().wait()
            finally:
                left.append("left")
                clock.advance(timeout_s)
            raise AssertionError

    result = await check.probe(Hanging())
    assert not result.ok
    assert result.latency_s == pytest.approx(0.02)
    assert result.detail == "no reply within the time limit"
    assert left == ["left"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("interval_s", 0.0),
        ("timeout_s", -1.0),
        ("unhealthy_threshold", 0),
        ("healthy_threshold", 0),
        ("degraded_below", 1.01),
        ("degraded_below", -0.01),
    ],
)
def test_refuses_settings_that_make_no_sense(key: str, value: float) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        PingSettings(**{key: value})  # type: ignore[arg-type]  # one field at a time


def test_every_setting_has_a_help_text() -> None:
    assert all("doc" in field.metadata for field in attrs.fields(PingSettings))
