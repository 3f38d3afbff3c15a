"""Shares by how likely each backend is to answer."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import attrs

from plb_core import BuildContext, Candidate, Choice, Outcome, Provider, Query, hookimpl
from plb_core.settings import at_least, doc, positive, share

# Beta prior: a backend nobody has used is taken to be good, but two failures count.
_PRIOR_SUCCESSES: Final = 1.9
_PRIOR_MASS: Final = 2.0
# Shares move little in a second, and refreshing them costs more than a choice.
_REFRESH_S: Final = 1.0


@attrs.frozen
class HealthAwareSettings:
    """Settings of `health_aware`."""

    half_life_s: float = attrs.field(
        default=300.0,
        validator=positive,
        metadata=doc("Seconds after which half of what is known is forgotten."),
    )
    sharpness: float = attrs.field(
        default=4.0,
        validator=at_least(0),
        metadata=doc(
            "Power to which the success rate is raised; more sends less to failing"
            " backends."
        ),
    )
    degraded_share: float = attrs.field(
        default=0.3,
        validator=share,
        metadata=doc("Share of its usual requests that a degraded backend gets."),
    )
    slow_start_requests: int = attrs.field(
        default=20,
        validator=at_least(0),
        metadata=doc(
            "Answers after a recovery until a backend gets its full share; 0 for at"
            " once."
        ),
    )
    slow_start_floor: float = attrs.field(
        default=0.1,
        validator=share,
        metadata=doc("Share that a backend gets at the beginning of its slow start."),
    )
    panic_share: float = attrs.field(
        default=0.5,
        validator=share,
        metadata=doc(
            "When a smaller share of the candidates is healthy, the health checks are"
            " not believed; 0 to always believe them."
        ),
    )


class HealthAware:
    """Chooses at random, in proportion to health.

    Score: w x p^sharpness x h x s; w the candidate's weight, p its posterior success
    rate, h its health, s its slow start. The probability is the score's share.
    p = (S + 1.9) / (N + 2); S successes of N attempts, both halving every half_life_s.
    An answer and an honest "no answer" are successes, an error is none; a busy
    backend and a client that went away say nothing.
    h: healthy or unknown 1, degraded `degraded_share`, unhealthy 0.
    s: (served + 1) / slow_start_requests, at least `slow_start_floor`, at most 1, and 1
    for all while no candidate has finished its slow start.
    Panic: when fewer than `panic_share` of the candidates are healthy or unknown, or
    nothing is left, h = 1 and s = 1 for all. Failures of real requests still count.
    Source: Beta-Bernoulli posterior with exponential forgetting; Envoy's panic
    threshold and slow start, the latter by requests because traffic may be sparse.
    A weight of 0 gets nothing while another candidate has more; when all are 0, all
    count the same.
    Knows nothing yet: p = 0.95, so new backends get their share of slow start.
    Memory: three floats per backend.

    Examples (successes of attempts, health, served), probability of a:

        a                       b                       a
        0 of 0, healthy, 0      0 of 0, healthy, 0      0.5
        8 of 8, healthy, 20     0 of 8, healthy, 20     0.9987
        0 of 0, degraded, 20    0 of 0, healthy, 20     0.2308
        0 of 0, healthy, 4      0 of 0, healthy, 20     0.2
        0 of 0, unhealthy, 20   0 of 0, degraded, 20    0.5  (panic)
    """

    def __init__(self, settings: HealthAwareSettings, context: BuildContext) -> None:
        self._settings = settings
        self._now = context.now
        self._random = context.rng.random
        self._backends = {info.name for info in context.backends}
        self._rate = math.log(2.0) / settings.half_life_s
        self._known_s = context.now()
        # (successes, attempts) as of `_known_s`, and the factor p^sharpness.
        self._counts: dict[str, tuple[float, float]] = {}
        self._factors: dict[str, float] = {}
        self._unknown = self._factor(0.0, 0.0)

    def choose(self, _: Query, candidates: Sequence[Candidate]) -> Choice:
        """Return a candidate drawn in proportion to health."""
        now_s = self._now()
        if now_s - self._known_s > _REFRESH_S:
            self._fade(now_s)
        factor = self._factors.get
        unknown = self._unknown
        full = self._settings.slow_start_requests
        scores = [
            factor(each.name, unknown) * each.weight
            for each in candidates
            if each.served >= full and each.health == "healthy"
        ]
        if len(scores) != len(candidates):
            scores = self._careful(candidates)
        steps = list(accumulate(scores))
        total = steps[-1]
        if not total:
            scores = self._panic(candidates)
            steps = list(accumulate(scores))
            total = steps[-1]
        # The last step can be passed by rounding only, never by the lot itself.
        index = bisect(steps, self._random() * total, 0, len(steps) - 1)
        return Choice(candidates[index], scores[index] / total, scores)

    def observe(self, outcome: Outcome) -> None:
        """Count a success or a failure."""
        result = outcome.result
        if outcome.error == "backend_busy":
            return
        if result in ("cancelled", "truncated") and not outcome.error:
            return
        now_s = self._now()
        if now_s - self._known_s > _REFRESH_S:
            self._fade(now_s)
        successes, attempts = self._counts.get(outcome.backend, (0.0, 0.0))
        successes += result in ("answer", "no_answer")
        attempts += 1.0
        self._counts[outcome.backend] = successes, attempts
        self._factors[outcome.backend] = self._factor(successes, attempts)

    def adopt(self, previous: HealthAware) -> None:
        """Take over what `previous` counted of the backends still configured."""
        self._known_s = previous._known_s
        for name, counts in previous._counts.items():
            if name in self._backends:
                self._counts[name] = counts
                self._factors[name] = self._factor(*counts)

    def _factor(self, successes: float, attempts: float) -> float:
        rate = (successes + _PRIOR_SUCCESSES) / (attempts + _PRIOR_MASS)
        return float(rate**self._settings.sharpness)

    def _fade(self, now_s: float) -> None:
        """Bring every count up to `now_s`."""
        fade = math.exp(self._rate * (self._known_s - now_s))
        self._known_s = now_s
        for name, (successes, attempts) in self._counts.items():
            faded = successes * fade, attempts * fade
            self._counts[name] = faded
            self._factors[name] = self._factor(*faded)

    def _careful(self, candidates: Sequence[Candidate]) -> list[float]:
        """Score with health and slow start, which the common case does not need."""
        settings = self._settings
        well = sum(each.health in ("healthy", "unknown") for each in candidates)
        if well < settings.panic_share * len(candidates):
            return self._panic(candidates)
        full = settings.slow_start_requests
        warm = any(each.served >= full for each in candidates)
        scores = []
        for each in candidates:
            score = self._factors.get(each.name, self._unknown) * each.weight
            if each.health == "degraded":
                score *= settings.degraded_share
            elif each.health == "unhealthy":
                score = 0.0
            if warm and each.served < full:
                ramp = (each.served + 1) / full
                score *= min(1.0, max(settings.slow_start_floor, ramp))
            scores.append(score)
        return scores

    def _panic(self, candidates: Sequence[Candidate]) -> list[float]:
        """Score by weight and real failures alone."""
        factor = self._factors.get
        scores = [factor(each.name, self._unknown) * each.weight for each in candidates]
        return scores if any(scores) else [1.0] * len(scores)


@hookimpl
def plb_register_algorithm() -> Provider[HealthAware]:
    """Offer `health_aware`."""
    return Provider(
        name="health_aware",
        build=HealthAware,
        settings=HealthAwareSettings,
        summary="shares by success rate and health, with slow start and panic rule",
    )
