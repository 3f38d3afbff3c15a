"""What `adaptive` knows of the algorithms it chooses among, and their chances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from plb_core.candidate import Decayed

PRIOR: Final = (0.95, 0.7, 0.0, 0.0)  # answered, quality, USD, seconds; mass 1
GRID: Final = 24  # points of the integral; 48 move a probability by < 0.005


class Arm:
    """Decayed means of what using one algorithm gave; the clock counts observations."""

    __slots__ = ("means",)

    def __init__(self, half_life: float) -> None:
        self.means = tuple(Decayed(half_life) for _ in PRIOR)

    def learn(self, sample: Sequence[float | None], tick: float) -> None:
        """Take in one attempt, in the order of `PRIOR`; None is unknown."""
        for mean, value in zip(self.means, sample, strict=True):
            if value is not None:
                mean.add(value, tick)

    def estimate(
        self, prior: Sequence[float], strength: float, tick: float
    ) -> list[float]:
        """Return the means, shrunk towards `prior`, in the order of `PRIOR`."""
        return [
            mean.blended(value, strength, tick)
            for mean, value in zip(self.means, prior, strict=True)
        ]

    def known(self, tick: float, *, judging: bool) -> float:
        """Return the attempts whose worth is known: failures and judged answers.

        Where nothing is ever judged, doubt about quality cannot be resolved by trying,
        so without `judging` all attempts count.
        """
        answered, quality, *_ = self.means
        tried = answered.mass_at(tick)
        if not judging:
            return tried
        return quality.mass_at(tick) + tried * (1.0 - answered.value)

    def adopt(self, previous: Arm, tick: float) -> None:
        """Take over the means of `previous` as they are at `tick`."""
        for mine, theirs in zip(self.means, previous.means, strict=True):
            if theirs.mass:
                mine.add(theirs.value, tick)
                mine.mass = theirs.mass_at(tick)


class Kind:
    """What is known for one kind of question, and the shares drawn from meanwhile."""

    __slots__ = (
        "arms", "bounds", "changes", "pending", "refreshed_at_s", "shares", "tick",
    )  # fmt: skip

    def __init__(self, count: int, half_life: float, now_s: float) -> None:
        self.arms = [Arm(half_life) for _ in range(count)]
        self.tick = 0.0
        self.pending = [0.0] * count
        self.shares: list[float] = []
        self.bounds: list[float] = []
        self.changes = 0
        self.refreshed_at_s = now_s

    def due_after(self) -> int:
        """Return after how many changes the shares are worked out anew."""
        return 1 + min(15, int(self.tick / 8))


def chances_of_best(means: Sequence[float], deviations: Sequence[float]) -> list[float]:
    """Return for each of several normal variables the chance of being the largest.

    P(a) = ∫ φ_a(x) Π_{b≠a} Φ_b(x) dx, summed over a grid that spans the largest.
    """
    pairs = tuple(zip(means, deviations, strict=True))
    low = max(mean - 4.0 * deviation for mean, deviation in pairs)
    high = max(mean + 4.0 * deviation for mean, deviation in pairs)
    edges = [low + (high - low) * step / GRID for step in range(GRID + 1)]
    below = []
    for mean, deviation in pairs:
        scale = 1.0 / (deviation * math.sqrt(2.0))
        below.append([1.0 + math.erf((edge - mean) * scale) for edge in edges])
    chances = [0.0] * len(pairs)
    for step in range(GRID):
        middles = [each[step] + each[step + 1] for each in below]
        product = math.prod(middles)
        for index, each in enumerate(below):
            risen = each[step + 1] - each[step]
            chances[index] += risen * product / middles[index]
    total = sum(chances)
    return [chance / total for chance in chances]
