"""The `ping` health check: ask each backend now and then, and believe it slowly."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import attrs

from plb_core import Provider, hookimpl
from plb_core.settings import at_least, doc, positive, share
from plb_core.types import ProbeResult

if TYPE_CHECKING:
    from plb_core.hookspecs import BuildContext
    from plb_core.protocols import Backend, HealthCheck
    from plb_core.types import Health, HealthRecord


@attrs.frozen
class PingSettings:
    """Settings of `[health_check.NAME]` with `plugin = "ping"`."""

    interval_s: float = attrs.field(
        default=30.0,
        validator=positive,
        metadata=doc("Seconds between two probes of one backend."),
    )
    timeout_s: float = attrs.field(
        default=5.0,
        validator=positive,
        metadata=doc("Seconds after which a probe counts as failed."),
    )
    unhealthy_threshold: int = attrs.field(
        default=3,
        validator=at_least(1),
        metadata=doc("Failed probes in a row that make a backend unhealthy."),
    )
    healthy_threshold: int = attrs.field(
        default=2,
        validator=at_least(1),
        metadata=doc("Good probes in a row that end unhealthiness."),
    )
    degraded_below: float = attrs.field(
        default=0.8,
        validator=share,
        metadata=doc(
            "Success rate of real requests, 0 to 1, below which a backend is degraded."
        ),
    )


class Ping:
    """Probes through the backend's own `ping` and judges with rise and fall counts.

    unhealthy   `unhealthy_threshold` failed probes in a row; fewer change nothing
    recovered   `healthy_threshold` good probes in a row; fewer change nothing
    degraded    a good probe that says so, or a success rate below `degraded_below`;
                it ends when the rate is halfway from there to 1
    unknown     the first good probe is believed at once
    Why two thresholds: a probe that flips every time then moves nothing at all.
    Memory: none; counts and rates come in with each record.
    """

    def __init__(self, settings: PingSettings, context: BuildContext) -> None:
        self._settings = settings
        self._now = context.now
        self._log = context.log
        self.interval_s = settings.interval_s

    async def probe(self, backend: Backend) -> ProbeResult:
        """Ping once within `timeout_s`; whatever goes wrong is a failed probe."""
        begin_s = self._now()
        limit_s = self._settings.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                result = await backend.ping(limit_s)
        except TimeoutError:
            detail = "no reply within the time limit"
        except Exception as error:  # noqa: BLE001 - ping is the backend plugin's code
            detail = f"the backend's ping raised {type(error).__name__}"
            self._log.warning(detail)
        else:
            if isinstance(result, ProbeResult):
                return result
            detail = f"the backend's ping returned {type(result).__name__}"
            self._log.warning(detail)
        return ProbeResult(False, self._now() - begin_s, detail)

    def judge(self, record: HealthRecord) -> Health:
        """Return the new health; without enough evidence it stays as it was."""
        settings = self._settings
        if not record.probe.ok:
            failed = record.failures_in_a_row >= settings.unhealthy_threshold
            return "unhealthy" if failed else record.health
        recovering = record.successes_in_a_row < settings.healthy_threshold
        if record.health == "unhealthy" and recovering:
            return "unhealthy"
        if record.probe.degraded or self._fails_too_often(record):
            return "degraded"
        return "healthy"

    def _fails_too_often(self, record: HealthRecord) -> bool:
        if record.success_rate is None:
            return False
        bar = self._settings.degraded_below
        if record.health == "degraded":
            bar = (bar + 1.0) / 2.0
        return record.success_rate < bar


@hookimpl
def plb_register_health_check() -> Provider[HealthCheck]:
    """Offer the health check."""
    return Provider(
        name="ping",
        build=Ping,
        settings=PingSettings,
        summary="probe through each backend's free endpoint, with hysteresis",
    )
