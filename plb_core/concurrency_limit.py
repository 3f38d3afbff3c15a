"""How many requests the backends bear at once, found out from how long they take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from plb_core.sections import OverloadSettings

FEWEST_SAMPLES: Final = 10
"""Answers in a window at least: a mean of fewer is mostly chance."""

SHORTEST_WINDOW_S: Final = 0.1
"""Windows are not shorter, so that one burst of quick answers decides little."""

LONG_WINDOWS: Final = 600
"""Windows that the usual latency is a mean of while more is asked than fits."""

CALM_WINDOWS: Final = 30
"""The same while there is room: then latency shows the backends, not a queue."""

FIRST_WINDOWS: Final = 10
"""Windows after which there is a usual latency to hold on to."""

TOLERANCE: Final = 1.2
"""How much slower than usual answers may be: less is chance rather than a queue."""

ENOUGH_LESS: Final = 0.75
HARDLY_FASTER: Final = 0.9
"""Where a quarter less at once makes answers not a tenth faster, they did not queue:
the backend itself has become slower, and fewer at once only mean fewer answers."""

SMOOTHING: Final = 0.5
"""Share of the way to the new limit that one window goes."""

STEEPEST: Final = 0.5
"""One window, which may be an outlier, never asks for less than this share."""

BACKOFF: Final = 0.9
"""What is left of the limit after a refusal or silence caused by load."""


class AdaptiveLimit:
    """Finds the number of requests at once above which answers only get slower.

    After every window: half way to limit x gradient + sqrt(limit). The gradient is
    1.2 x usual / present mean latency, from 0.5 to 1: at rest the limit grows; once
    requests queue inside the backends their latency rises, and it settles where about
    sqrt(limit) of them do. It stays while less than half of it is in use. Refusals
    and silence under load take a tenth off, at most once in the time of an answer.
    `limit` is a whole number, never outside the configured bounds.

    Source: Gradient2 of Netflix's concurrency-limits, with its earlier square root as
    allowance; means, because answers differ in length a hundredfold, where a minimum
    would stand for the shortest question. Not from there: a window holds as many
    answers as the limit, all begun under it; the usual latency is learned mainly while
    there is room; slowness that a lower limit does not cure becomes usual; and load
    failures count. Against AIMD in simulation: as many answers, a fiftieth of the wait
    where the backend queues inside. Memory: ten numbers.
    """

    __slots__ = (
        "_count",
        "_estimate",
        "_most",
        "_settings",
        "_spared_until_s",
        "_sum_s",
        "_tried_from",
        "_tried_s",
        "_usual_s",
        "_window_start_s",
        "_windows",
        "limit",
    )

    def __init__(self, settings: OverloadSettings, now_s: float) -> None:
        self._settings = settings
        self._estimate = float(settings.initial_limit)
        self.limit = settings.initial_limit
        self._usual_s = 0.0
        self._windows = 0
        self._tried_from = 0.0
        self._tried_s = 0.0
        self._count = 0
        self._most = 0
        self._sum_s = 0.0
        self._window_start_s = now_s
        self._spared_until_s = -math.inf

    def answered(self, latency_s: float, in_flight: int, now_s: float) -> None:
        """Take in an answer's seconds, and how many requests ran when it began."""
        if now_s - latency_s < self._window_start_s:
            return  # it ran under another limit
        self._count += 1
        self._sum_s += latency_s
        self._most = max(self._most, in_flight)
        if self._count >= FEWEST_SAMPLES and now_s >= self._window_start_s + (
            SHORTEST_WINDOW_S
        ):
            self._end_window(now_s)

    def failed_by_load(self, now_s: float) -> None:
        """Take in a refusal or silence that load explains."""
        if now_s >= self._spared_until_s:
            self._spared_until_s = now_s + max(self._usual_s, SHORTEST_WINDOW_S)
            self._set(self._estimate * BACKOFF)

    def _end_window(self, now_s: float) -> None:
        estimate = self._estimate
        if self._count < min(estimate, self._most):
            return
        present_s = self._sum_s / self._count
        crowded = self._most >= estimate / 2
        self._learn(present_s, crowded=crowded)
        if crowded:
            gradient = 1.0
            borne_s = TOLERANCE * self._usual_s
            if present_s > borne_s:
                gradient = max(STEEPEST, borne_s / present_s)
            wanted = estimate * gradient + math.sqrt(estimate)
            self._set(estimate + SMOOTHING * (wanted - estimate))
            self._check_cause(present_s)
        self._count = self._most = 0
        self._sum_s = 0.0
        self._window_start_s = now_s

    def _learn(self, present_s: float, *, crowded: bool) -> None:
        self._windows += 1
        windows = min(self._windows, CALM_WINDOWS)
        if crowded and self._windows > FIRST_WINDOWS:
            windows = LONG_WINDOWS
        self._usual_s += (present_s - self._usual_s) / windows
        # After a long overload it must not take ten minutes to believe in the calm.
        if self._usual_s > 2.0 * present_s:
            self._usual_s *= BACKOFF

    def _check_cause(self, present_s: float) -> None:
        """Take slowness as usual if a lower limit did not help against it."""
        if self._estimate >= self._tried_from:
            self._tried_from, self._tried_s = self._estimate, present_s
            return
        # The queue may still have been growing when that limit was new.
        self._tried_s = max(self._tried_s, present_s)
        if self._estimate <= self._tried_from * ENOUGH_LESS:
            if present_s > self._tried_s * HARDLY_FASTER:
                self._usual_s = max(self._usual_s, present_s)
            self._tried_from, self._tried_s = self._estimate, present_s

    def _set(self, estimate: float) -> None:
        settings = self._settings
        self._estimate = min(max(estimate, settings.min_limit), settings.max_limit)
        self.limit = int(self._estimate)
