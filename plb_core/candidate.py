"""A backend as an algorithm sees it: fixed facts and live, decaying measurements."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import attrs

from plb_core.errors import BackendBusy
from plb_core.types import BackendInfo, Health, Outcome, Rating

if TYPE_CHECKING:
    from collections.abc import Callable

    from plb_core.breaker import Breaker

HALF_LIFE_S: Final = 300.0
"""Half of what is known about a backend is forgotten in five quiet minutes: long
enough to hold at a few requests a minute, short enough to notice a recovery."""


class Decayed:
    """A mean whose old samples lose weight with time.

    Each sample's weight halves every `half_life_s`. `mass` is the sum of weights at
    the last sample, that is, the number of samples still believed in.
    """

    __slots__ = ("_rate", "_stamp_s", "mass", "value")

    def __init__(self, half_life_s: float = HALF_LIFE_S) -> None:
        self._rate = math.log(2.0) / half_life_s
        self._stamp_s = -math.inf
        self.mass = 0.0
        self.value = 0.0

    def add(self, sample: float, now_s: float) -> None:
        """Take a finite sample in; `now_s` is monotonic."""
        mass = 1.0
        if self.mass:
            mass += self.mass * math.exp(self._rate * (self._stamp_s - now_s))
        self.mass = mass
        self._stamp_s = now_s
        self.value += (sample - self.value) / mass

    def mass_at(self, now_s: float) -> float:
        """Return how many samples are still believed in at `now_s`."""
        if not self.mass:
            return 0.0
        return self.mass * math.exp(self._rate * (self._stamp_s - now_s))

    def blended(self, prior: float, prior_mass: float, now_s: float) -> float:
        """Return the mean shrunk towards `prior`, worth `prior_mass` samples."""
        mass = self.mass_at(now_s)
        return (self.value * mass + prior * prior_mass) / (mass + prior_mass)


# Not frozen: the core alone writes to it, synchronously between two awaits;
# algorithms only read.
@attrs.define(eq=False)
class Candidate:
    """A configured backend with its live state.

    `weight` may be changed at run time. `served` counts answers since the backend
    last became healthy (slow start). `closed_until_s` is a monotonic time until which
    the backend asked not to be called; `breaker` judges by what its calls did. The
    means are None before the first sample; a success is an answer or an honest *no
    answer*.
    """

    info: BackendInfo
    now: Callable[[], float]
    breaker: Breaker
    name: str = attrs.field(init=False)
    weight: float = attrs.field(init=False)
    max_in_flight: int = attrs.field(init=False)
    in_flight: int = 0
    health: Health = "unknown"
    served: int = 0
    closed_until_s: float = -math.inf
    success: Decayed = attrs.field(factory=Decayed, repr=False)
    latency: Decayed = attrs.field(factory=Decayed, repr=False)
    ttft: Decayed = attrs.field(factory=Decayed, repr=False)
    cost: Decayed = attrs.field(factory=Decayed, repr=False)
    quality: Decayed = attrs.field(factory=Decayed, repr=False)

    def __attrs_post_init__(self) -> None:
        self.name = self.info.name
        self.weight = self.info.weight
        self.max_in_flight = self.info.traits.max_in_flight

    def admits(self, now_s: float) -> bool:
        """Whether the backend may be asked now: well, not full, not closed."""
        return (
            self.in_flight < self.max_in_flight
            and self.closed_until_s <= now_s
            and self.health != "unhealthy"
            and (self.breaker.closed or self.breaker.admits(now_s))
        )

    @property
    def latency_s(self) -> float | None:
        """Mean seconds to a complete answer."""
        return self.latency.value if self.latency.mass else None

    @property
    def ttft_s(self) -> float | None:
        """Mean seconds to the first text of a stream."""
        return self.ttft.value if self.ttft.mass else None

    @property
    def error_rate(self) -> float | None:
        """Decayed share of attempts that failed, 0..1."""
        return 1.0 - self.success.value if self.success.mass else None

    @property
    def cost_micro_usd(self) -> float | None:
        """Mean cost of an answered request in micro-USD."""
        return self.cost.value if self.cost.mass else None

    @property
    def quality_mean(self) -> float | None:
        """Mean scored quality, 0..1."""
        return self.quality.value if self.quality.mass else None

    def observe(self, outcome: Outcome) -> None:
        """Take one finished attempt in; called by the core only."""
        now_s = outcome.at_s
        if outcome.result == "cancelled" or outcome.error == BackendBusy.code:
            return  # the client went away, or load: neither is the backend's failure
        failed = outcome.result in ("error", "truncated")
        self.success.add(0.0 if failed else 1.0, now_s)
        if outcome.result == "answer":
            self.served += 1
            self.latency.add(outcome.latency_s, now_s)
            if outcome.ttft_s is not None:
                self.ttft.add(outcome.ttft_s, now_s)
            if outcome.quality is not None:
                self.quality.add(outcome.quality, now_s)
        if outcome.cost_micro_usd is not None:
            self.cost.add(outcome.cost_micro_usd, now_s)

    def rate(self, rating: Rating) -> None:
        """Take a later quality verdict in; called by the core only."""
        self.quality.add(rating.quality, self.now())
