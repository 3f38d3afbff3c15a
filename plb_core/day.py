"""Which day it is, in a time zone, by a wall clock that may be set."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, tzinfo


class DayClock:
    """Says which day it is; days only move forward, also when the clock is set back.

    `wall_now` returns aware times. A day begins with the first moment that carries
    its date: where midnight is skipped, with the moment after the gap; where it
    comes twice, with its first coming.
    """

    def __init__(self, zone: tzinfo, wall_now: Callable[[], datetime]) -> None:
        self._zone = zone
        self._wall_now = wall_now
        self._day = date.min
        self._ends_at = datetime.min.replace(tzinfo=UTC)

    def today(self) -> date:
        """Return the day; the same object until the next one begins."""
        now = self._wall_now()
        if now >= self._ends_at:
            self.not_before(now.astimezone(self._zone).date())
        return self._day

    def not_before(self, day: date) -> None:
        """Move on to `day`, unless it is past."""
        if day > self._day:
            self._day = day
            # A skipped midnight reads as if the clock had not been put forward yet,
            # a doubled one as its first coming: both are where the date changes.
            midnight = datetime.combine(day + timedelta(days=1), time(), self._zone)
            self._ends_at = midnight.astimezone(UTC)

    def left_s(self) -> float:
        """Return the seconds until the next day begins."""
        return max(0.0, (self._ends_at - self._wall_now()).total_seconds())
