"""Hears of every attempt and of every move of a breaker, to judge them afterwards."""

from __future__ import annotations

import math
import time

from plb_core import Event, Outcome, Provider, hookimpl

LISTENER = "[listener.watch]\n"


class Watch:
    """A plugin for a case; its configuration needs `LISTENER`."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.moves: list[tuple[float, str, object]] = []

    def observe(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    @hookimpl
    def plb_register_listener(self) -> Provider[Watch]:
        return Provider("watch", lambda _settings, _context: self)

    @hookimpl
    def plb_event(self, event: Event) -> None:
        if event.name == "breaker_moved":
            backend = str(event.data["backend"])
            self.moves.append((time.monotonic(), backend, event.data["to"]))

    def failures_until_open(self, backend: str) -> float:
        """How many failed attempts had ended when the breaker first opened."""
        opened_at_s = self._first(backend, "open", -math.inf)
        if opened_at_s == math.inf:
            return math.inf
        return sum(
            each.backend == backend and bool(each.error) and each.at_s <= opened_at_s
            for each in self.outcomes
        )

    def begun_while_open(self, backend: str) -> int:
        """How many attempts began between the first opening and the first trial."""
        opened_at_s = self._first(backend, "open", -math.inf)
        until_s = self._first(backend, "half_open", opened_at_s)
        return sum(
            each.backend == backend
            and opened_at_s < each.at_s - each.latency_s < until_s
            for each in self.outcomes
        )

    def _first(self, backend: str, state: str, after_s: float) -> float:
        times_s = [
            at_s
            for at_s, name, to in self.moves
            if name == backend and to == state and at_s > after_s
        ]
        return min(times_s, default=math.inf)
