"""How likely each backend is to give a good answer, as `cost_aware` learns it."""

from __future__ import annotations

import math
from collections.abc import Set as AbstractSet
from typing import Final

import attrs

MAX_KINDS: Final = 64  # a classifier returns a handful; what is beyond shares ""


@attrs.frozen
class Prior:
    """What is assumed of an unknown backend, and how fast it is unlearned.

    `answered` and `good` are chances, 0..1; `strength` says how many observations
    each is worth; `optimism` is the benefit of the doubt in standard deviations.
    """

    answered: float
    good: float
    strength: float
    optimism: float


# Not frozen: changed by every observation of its backend and kind.
@attrs.define
class Record:
    """Discounted counts of one backend for one kind, and the chance they give."""

    tries: float = 0.0
    answers: float = 0.0
    judged: float = 0.0
    good: float = 0.0
    chance: float = 0.0


class GoodAnswers:
    """Posterior chances of an answer of at least `bar`, per backend and kind.

    Older observations of a backend and kind halve after `half_life` newer ones.
    """

    def __init__(self, prior: Prior, bar: float, half_life: float) -> None:
        self.prior = prior
        self.bar = bar
        self.records: dict[str, dict[str, Record]] = {}
        self._keep = 0.5 ** (1.0 / half_life)
        self._unknown = self._posterior(Record())

    def of_kind(self, kind: str) -> dict[str, Record]:
        """Return the records of a kind by backend; empty when nothing is known."""
        return self.records.get(self._shared(kind), {})

    def chance(self, record: Record | None) -> float:
        """Return the chance of a good answer, 0 < chance ≤ 1."""
        return self._unknown if record is None else record.chance

    def attempt(
        self, backend: str, kind: str, *, answered: bool, quality: float | None
    ) -> None:
        """Learn from an attempt; without a quality only whether it was answered."""
        record = self._aged(backend, kind)
        record.tries += 1.0
        record.answers += answered
        if answered and quality is not None:
            self._judge(record, quality)
        record.chance = self._posterior(record)

    def verdict(self, backend: str, kind: str, quality: float) -> None:
        """Learn from a later verdict on an answer."""
        record = self._aged(backend, kind)
        self._judge(record, quality)
        record.chance = self._posterior(record)

    def adopt(self, previous: GoodAnswers, backends: AbstractSet[str]) -> None:
        """Take over what `previous` counted of these backends."""
        for kind, records in previous.records.items():
            for backend in records.keys() & backends:
                record = attrs.evolve(records[backend])
                if previous.bar != self.bar:
                    record.judged = record.good = 0.0
                record.chance = self._posterior(record)
                self.records.setdefault(kind, {})[backend] = record

    def _judge(self, record: Record, quality: float) -> None:
        record.judged += 1.0
        record.good += quality >= self.bar

    def _shared(self, kind: str) -> str:
        known = self.records
        return kind if kind in known or len(known) < MAX_KINDS else ""

    def _aged(self, backend: str, kind: str) -> Record:
        records = self.records.setdefault(self._shared(kind), {})
        record = records.setdefault(backend, Record())
        keep = self._keep
        record.tries *= keep
        record.answers *= keep
        record.judged *= keep
        record.good *= keep
        return record

    def _posterior(self, record: Record) -> float:
        answered = self._upper(record.answers, record.tries, self.prior.answered)
        return answered * self._upper(record.good, record.judged, self.prior.good)

    def _upper(self, count: float, tries: float, prior: float) -> float:
        mass = tries + self.prior.strength
        mean = (count + self.prior.strength * prior) / mass
        variance = max(0.0, mean * (1.0 - mean)) / (mass + 1.0)
        return min(1.0, mean + self.prior.optimism * math.sqrt(variance))
