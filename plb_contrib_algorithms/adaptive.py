"""Learn which algorithm to use for each kind of question."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import attrs

from plb_contrib_algorithms.arms import PRIOR, Arm, Kind, chances_of_best
from plb_core import (
    BuildContext,
    Choice,
    ConfigError,
    Outcome,
    Problem,
    Provider,
    Query,
    Rating,
    doc,
    hookimpl,
)
from plb_core.settings import at_least, positive, share

if TYPE_CHECKING:
    from plb_core import Candidate

MAX_KINDS: Final = 64  # a classifier returns a handful; what is beyond shares ""
PRIOR_VARIANCE: Final = 0.09  # an answer's quality lies some 0.3 around its mean
PENDING_HALF_LIFE_S: Final = 60.0  # a choice that never became an attempt fades


@attrs.frozen
class Settings:
    """What `[algorithm.adaptive]` accepts."""

    algorithms: tuple[str, ...] = attrs.field(
        default=("response_time_based", "health_aware", "cost_aware", "quality_aware"),
        metadata=doc("Names of the algorithms to choose among, at least two."),
    )
    cost_penalty_per_usd: float = attrs.field(
        default=10.0,
        validator=at_least(0),
        metadata=doc("Quality given up to save one US dollar per answer."),
    )
    latency_penalty_per_s: float = attrs.field(
        default=0.01,
        validator=at_least(0),
        metadata=doc("Quality given up to save one second per answer."),
    )
    half_life_observations: float = attrs.field(
        default=500.0,
        validator=positive,
        metadata=doc("Observations of a kind after which an older one counts half."),
    )
    exploration: float = attrs.field(
        default=0.02,
        validator=share,
        metadata=doc("Share of choices drawn evenly from all algorithms."),
    )
    prior_strength: float = attrs.field(
        default=10.0,
        validator=positive,
        metadata=doc("How many observations what is known in general is worth."),
    )


class Adaptive:
    """Use the algorithm that has been most useful for this kind of question.

    Formula: utility = quality - λ·cost_usd - μ·latency_s, estimated per algorithm and
    kind as U = P(answered)·Q - λ·C - μ·L from discounted means, each shrunk towards
    the algorithm's mean over all kinds and that towards everything's, worth
    prior_strength observations each. An answer without a quality leaves Q as it is;
    a failure is worth 0; cost and latency lose an attempt at most 1 each.
    Posterior: normal, variance 0.09 / (n + prior_strength + pending), n judged
    attempts; choices whose outcome is still out count as made, so a delay does not
    send everything to the arm that is least known. An algorithm is drawn with
    probability (1-e)·P(its utility is highest) + e/K, e = exploration. That is
    Thompson sampling, with the probability integrated instead of one sample drawn,
    so that `Choice.probability` = P(algorithm) x P(its choice) is exact. The integral
    is renewed at every observation at first, later after 16 changes.
    Knows nothing: every algorithm gets an equal share.
    Source: Thompson sampling with discounts (Raj and Kalyani, 2017).
    Memory: 13 floats per algorithm and kind, for 64 kinds and one for the rest.

    Worked example (two algorithms, exploration 0.02, prior_strength 10, each attempt
    0 s and 0 USD; share of `a`):

    | observed                            | U(a)  | U(b)  | share of a |
    | ----------------------------------- | ----- | ----- | ---------- |
    | nothing                             | 0.665 | 0.665 | 0.50       |
    | 200 answers each, of 0.9 and 0.6    | 0.89  | 0.60  | 0.99       |
    | 200 answers of a, nobody judged one | equal | equal | about 0.5  |
    """

    def __init__(self, settings: Settings, context: BuildContext) -> None:
        self.name = context.name
        self._rng = context.rng
        self._now = context.now
        self.settings = settings
        self.names = settings.algorithms
        _check(self.names, context.name)
        self._inner = [context.algorithm(name) for name in self.names]
        self._index = {name: index for index, name in enumerate(self.names)}
        half_life = settings.half_life_observations
        # One outlier must not outweigh hundreds of answers: it loses 1 at most.
        self._most_usd = 1.0 / max(settings.cost_penalty_per_usd, 1e-9)
        self._most_s = 1.0 / max(settings.latency_penalty_per_s, 1e-9)
        self.everything = Arm(half_life)
        self.general = [Arm(half_life) for _ in self.names]
        self.tick = 0.0
        self.kinds: dict[str, Kind] = {}

    def choose(self, query: Query, candidates: Sequence[Candidate]) -> Choice:
        """Draw an algorithm for this kind of question and let it choose."""
        kind = self._kind(query.kind)
        if kind.changes > 4 * kind.due_after():  # many choices, no outcome yet
            self._refresh(kind)
        bounds = kind.bounds
        index = bisect(bounds, self._rng.random() * bounds[-1], 0, len(bounds) - 1)
        choice = self._inner[index].choose(query, candidates)
        kind.pending[index] += 1.0
        kind.changes += 1
        probability = kind.shares[index] * choice.probability
        return Choice(choice.candidate, probability, choice.scores, self.names[index])

    def observe(self, outcome: Outcome) -> None:
        """Credit the algorithm that chose; the core lets the inner ones observe too."""
        index = self._index.get(outcome.via)
        if index is None or outcome.algorithm != self.name:
            return
        kind = self._kind(outcome.kind)
        kind.pending[index] = max(0.0, kind.pending[index] - 1.0)
        result = outcome.result
        if result == "cancelled" or (result == "truncated" and not outcome.error):
            return  # the client went away
        answered = result == "answer"
        cost = outcome.cost_micro_usd
        sample = (
            1.0 if answered else 0.0,
            outcome.quality if answered else None,
            None if cost is None else min(cost / 1e6, self._most_usd),
            min(outcome.latency_s, self._most_s),
        )
        self._learn(kind, index, sample)

    def rate(self, rating: Rating) -> None:
        """Credit a later verdict to the algorithm that chose."""
        index = self._index.get(rating.via)
        if index is not None and rating.algorithm == self.name:
            kind = self._kind(rating.kind)
            self._learn(kind, index, (None, rating.quality, None, None))

    def adopt(self, previous: Adaptive) -> None:
        """Take over what is known of the algorithms that are still in the list."""
        self.tick = previous.tick
        self.everything.adopt(previous.everything, self.tick)
        kept = [
            (mine, previous.names.index(name))
            for mine, name in enumerate(self.names)
            if name in previous.names
        ]
        for mine, theirs in kept:
            self.general[mine].adopt(previous.general[theirs], self.tick)
        for label, known in previous.kinds.items():
            kind = self._kind(label)
            kind.tick = known.tick
            for mine, theirs in kept:
                kind.arms[mine].adopt(known.arms[theirs], kind.tick)
            self._refresh(kind)

    def _kind(self, label: str) -> Kind:
        kind = self.kinds.get(label)
        if kind is None:
            if len(self.kinds) >= MAX_KINDS and label:
                return self._kind("")
            half_life = self.settings.half_life_observations
            kind = Kind(len(self.names), half_life, self._now())
            self.kinds[label] = kind
            self._refresh(kind)
        return kind

    def _learn(self, kind: Kind, index: int, sample: Sequence[float | None]) -> None:
        self.tick += 1.0
        kind.tick += 1.0
        kind.arms[index].learn(sample, kind.tick)
        self.general[index].learn(sample, self.tick)
        self.everything.learn(sample, self.tick)
        kind.changes += 1
        if kind.changes >= kind.due_after():
            self._refresh(kind)

    def _refresh(self, kind: Kind) -> None:
        known = self.settings
        now_s = self._now()
        faded = 0.5 ** ((now_s - kind.refreshed_at_s) / PENDING_HALF_LIFE_S)
        kind.pending = [pending * faded for pending in kind.pending]
        prior = self.everything.estimate(PRIOR, 1.0, self.tick)
        judging = self.everything.means[1].mass > 0.0
        means, deviations = [], []
        for arm, general, pending in zip(
            kind.arms, self.general, kind.pending, strict=True
        ):
            usual = general.estimate(prior, known.prior_strength, self.tick)
            answered, quality, cost_usd, latency_s = arm.estimate(
                usual, known.prior_strength, kind.tick
            )
            means.append(
                answered * quality
                - known.cost_penalty_per_usd * cost_usd
                - known.latency_penalty_per_s * latency_s
            )
            mass = arm.known(kind.tick, judging=judging)
            mass += known.prior_strength + pending
            deviations.append(math.sqrt(PRIOR_VARIANCE / mass))
        floor = known.exploration / len(means)
        kind.shares = [
            (1.0 - known.exploration) * chance + floor
            for chance in chances_of_best(means, deviations)
        ]
        kind.bounds = list(accumulate(kind.shares))
        kind.changes = 0
        kind.refreshed_at_s = now_s


def _check(names: Sequence[str], own: str) -> None:
    message = ""
    if len(names) < 2:  # noqa: PLR2004 - nothing to learn with fewer
        message = "expected at least two algorithms"
    elif len(set(names)) < len(names):
        message = "an algorithm is named twice"
    elif own in names:
        message = f"{own!r} cannot choose itself"
    if message:
        raise ConfigError([Problem(message, key=f"algorithm.{own}.algorithms")])


@hookimpl
def plb_register_algorithm() -> Provider[Adaptive]:
    """Offer `adaptive`."""
    return Provider(
        "adaptive", Adaptive, Settings, "learns which algorithm suits which question"
    )
