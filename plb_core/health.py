"""Probe every backend at its interval and keep its health."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, get_args

import attrs
from loguru import logger

from plb_core.types import Event, Health, HealthRecord, ProbeResult

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    from plb_core.candidate import Candidate
    from plb_core.plan import Plan
    from plb_core.protocols import Backend, HealthCheck


RECOVERY_LOOK_S: Final = 5.0
"""A backend whose breaker is open is probed at least this often, and gets a trial when
it was seen open for as long: within 15 seconds however long its breaker would wait."""

_HEALTHS: Final = get_args(Health)


# Not frozen: counts its own probes.
@attrs.define(eq=False)
class _Watch:
    """One backend's probes in a row."""

    backend: Backend
    candidate: Candidate
    successes: int = 0
    failures: int = 0
    open_since_s: float | None = None

    def note(self, probe: ProbeResult) -> HealthRecord:
        self.successes = self.successes + 1 if probe.ok else 0
        self.failures = 0 if probe.ok else self.failures + 1
        success = self.candidate.success
        return HealthRecord(
            health=self.candidate.health,
            probe=probe,
            successes_in_a_row=self.successes,
            failures_in_a_row=self.failures,
            success_rate=success.value if success.mass else None,
        )

    def help_recovery(self, probe: ProbeResult) -> None:
        """End the breaker's open time early when the backend seems well again.

        Not at once: where checks pass and calls fail, each trial is a question that
        has to be asked twice.
        """
        candidate = self.candidate
        now_s = candidate.now()
        if candidate.breaker.retry_at_s is None:
            self.open_since_s = None
        elif self.open_since_s is None:
            self.open_since_s = now_s
        elif probe.ok and now_s - self.open_since_s >= RECOVERY_LOOK_S:
            candidate.breaker.probe_passed(now_s)
            self.open_since_s = None


class HealthMonitor:
    """Runs one plan's probes, one task per backend, until `stop`."""

    def __init__(
        self,
        plan: Plan,
        *,
        announce: Callable[[Event], None],
        rng: random.Random,
    ) -> None:
        self._plan = plan
        self._announce = announce
        self._rng = rng
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin probing; the first probe of each backend runs at once."""
        check = self._plan.health_check
        if check is not None:
            self._tasks = [
                asyncio.create_task(
                    self._watch(check, _Watch(backend, self._plan.candidates[name])),
                    name=f"plb health {name}",
                )
                for name, backend in self._plan.backends.items()
            ]

    async def stop(self) -> None:
        """End all probes and wait for them."""
        await stop_tasks(self._tasks)
        self._tasks = []

    async def _watch(self, check: HealthCheck, watch: _Watch) -> None:
        while True:
            await self._look(check, watch)
            # Jitter, so that replicas do not all probe at the same moment.
            left_s = check.interval_s * self._rng.uniform(0.9, 1.1)
            while left_s > 0:
                await asyncio.sleep(min(left_s, RECOVERY_LOOK_S))
                left_s -= RECOVERY_LOOK_S
                if not watch.candidate.breaker.closed:
                    break

    async def _look(self, check: HealthCheck, watch: _Watch) -> None:
        try:
            probe = await check.probe(watch.backend)
            health = check.judge(watch.note(probe))
            if health not in _HEALTHS:
                raise ValueError("it judged neither healthy nor anything else known")
        except Exception as error:  # noqa: BLE001 - a fault in the plugin itself
            logger.error(
                "health check of backend {} failed: {!r}", watch.candidate.name, error
            )
            return
        self._apply(watch.candidate, health)
        watch.help_recovery(probe)

    def _apply(self, candidate: Candidate, health: Health) -> None:
        before = candidate.health
        if health == before:
            return
        candidate.health = health
        if before == "unhealthy":
            candidate.served = 0  # slow start counts from recovery
        data = {"backend": candidate.name, "from": before, "to": health}
        self._announce(Event("health_changed", data))


async def stop_tasks(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until each has ended."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
