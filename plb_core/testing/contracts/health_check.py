"""What every health check must do, as a test class to subclass."""

from __future__ import annotations

import asyncio
import inspect
import math
from typing import TYPE_CHECKING, ClassVar, get_args

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from plb_core.testing import fakes
from plb_core.types import Health, HealthRecord, ProbeResult

if TYPE_CHECKING:
    from collections.abc import Iterable

    from plb_core.hookspecs import Provider
    from plb_core.protocols import HealthCheck

# Derandomised: the contract gives the same verdict on every machine.
_examples = hypothesis_settings(
    max_examples=100, deadline=None, database=None, derandomize=True
)
_records = st.builds(
    HealthRecord,
    health=st.sampled_from(get_args(Health)),
    probe=st.builds(
        ProbeResult,
        ok=st.booleans(),
        latency_s=st.floats(0.0, 1e6),
        degraded=st.booleans(),
    ),
    successes_in_a_row=st.integers(0, 10_000),
    failures_in_a_row=st.integers(0, 10_000),
    success_rate=st.none() | st.floats(0.0, 1.0),
)


class Patient:
    """One backend's health over a series of probes, kept as the core keeps it."""

    def __init__(self, check: HealthCheck, health: Health = "unknown") -> None:
        self.check = check
        self.health = health
        self.changes = 0
        self.success_rate: float | None = None
        self._row = {True: 0, False: 0}

    def see(self, probes: Iterable[ProbeResult]) -> Health:
        """Judge after each probe; return the health after the last."""
        for probe in probes:
            self._row[probe.ok] += 1
            self._row[not probe.ok] = 0
            record = HealthRecord(
                health=self.health,
                probe=probe,
                successes_in_a_row=self._row[True],
                failures_in_a_row=self._row[False],
                success_rate=self.success_rate,
            )
            health = self.check.judge(record)
            self.changes += health != self.health
            self.health = health
        return self.health


class HangingBackend(fakes.FakeBackend):
    """A backend whose ping never returns; `asked` is set once it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def ping(self, timeout_s: float) -> ProbeResult:  # noqa: ARG002 - ignores its limit on purpose
        """Wait forever."""
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


class RaisingBackend(fakes.FakeBackend):
    """A backend whose ping breaks its promise never to raise."""

    async def ping(self, timeout_s: float) -> ProbeResult:  # noqa: ARG002 - never waits
        """Raise."""
        message = "a fault in the plugin"
        raise ZeroDivisionError(message)


class HealthCheckContract:
    """Subclass as `class TestMine(HealthCheckContract)` and set `provider`.

    `settings` are the settings to build with, None for the defaults. `hasty` are
    settings under which one probe takes at most 0.1 s.
    """

    provider: ClassVar[Provider[HealthCheck]]
    settings: ClassVar[object] = None
    hasty: ClassVar[object]

    def make(self, settings: object = None) -> HealthCheck:
        """Build the check under test."""
        settings = settings or self.settings or self.provider.settings()
        return self.provider.build(settings, fakes.context())

    def test_names_a_positive_interval(self) -> None:
        """The core sleeps for it between probes."""
        interval_s = self.make().interval_s
        assert math.isfinite(interval_s)
        assert interval_s > 0

    @pytest.mark.asyncio
    @pytest.mark.parametrize("healthy", [True, False])
    async def test_a_probe_tells_what_the_backend_tells(self, healthy: bool) -> None:
        """A well-behaved backend's own view arrives unchanged."""
        backend = fakes.FakeBackend()
        backend.healthy = healthy
        assert (await self.make().probe(backend)).ok is healthy

    @pytest.mark.asyncio
    async def test_a_probe_never_raises(self) -> None:
        """A backend whose ping raises has failed its probe."""
        result = await self.make().probe(RaisingBackend())
        assert not result.ok
        assert result.detail

    @pytest.mark.asyncio
    async def test_a_probe_has_its_own_time_limit(self) -> None:
        """A ping that never returns is a failed probe, not a stuck one."""
        result = await self.make(self.hasty).probe(HangingBackend())
        assert not result.ok

    @pytest.mark.asyncio
    async def test_a_probe_can_be_cancelled(self) -> None:
        """Shutting down does not wait for a slow backend."""
        backend = HangingBackend()
        probe = asyncio.create_task(self.make().probe(backend))
        await backend.asked.wait()
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe

    def test_judge_is_synchronous_and_total(self) -> None:
        """Every record gets one of the four healths."""
        check = self.make()
        assert not inspect.iscoroutinefunction(check.judge)

        @_examples
        @given(_records)
        def judge(record: HealthRecord) -> None:
            assert check.judge(record) in get_args(Health)

        judge()

    def test_a_lasting_failure_is_noticed_and_a_lasting_recovery_too(self) -> None:
        """Ten probes alike are always enough."""
        patient = Patient(self.make(), "healthy")
        assert patient.see([ProbeResult(False, 0.1)] * 10) == "unhealthy"
        assert patient.see([ProbeResult(True, 0.1)] * 10) == "healthy"

    @pytest.mark.parametrize("start", ["healthy", "unhealthy"])
    def test_a_flapping_probe_does_not_make_the_health_flap(
        self, start: Health
    ) -> None:
        """Of 60 probes every other one fails: at most two changes come of it."""
        patient = Patient(self.make(), start)
        patient.see([ProbeResult(True, 0.1), ProbeResult(False, 0.1)] * 30)
        assert patient.changes <= 2
