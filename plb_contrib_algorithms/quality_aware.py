"""Choose the backend that answers this kind of question best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import attrs

from plb_core import (
    BuildContext,
    Choice,
    Outcome,
    Provider,
    Query,
    Rating,
    ScoringAlgorithm,
    doc,
    hookimpl,
)
from plb_core.candidate import Decayed
from plb_core.settings import at_least, positive, share

if TYPE_CHECKING:
    from plb_core import Candidate

MAX_KINDS: Final = 64  # a classifier returns a handful; what is beyond shares ""
STALE_SHARE: Final = 1 / 64  # of a half-life: 1 % of the mass


@attrs.frozen
class Settings:
    """What `[algorithm.quality_aware]` accepts."""

    quality_bar: float = attrs.field(
        default=0.5,
        validator=share,
        metadata=doc(
            "Quality below which a backend is set aside while another reaches it, 0..1."
        ),
    )
    optimism: float = attrs.field(
        default=1.0,
        validator=at_least(0),
        metadata=doc(
            "Standard deviations of benefit of the doubt; gets new backends tried."
        ),
    )
    exploration: float = attrs.field(
        default=0.02,
        validator=share,
        metadata=doc("Share of choices drawn evenly from all that may reach the bar."),
    )
    tie_quality: float = attrs.field(
        default=0.01,
        validator=share,
        metadata=doc("Backends this close to the best share the traffic, 0..1."),
    )
    prior_quality: float = attrs.field(
        default=0.7,
        validator=share,
        metadata=doc("Quality assumed of a backend that nobody has judged, 0..1."),
    )
    prior_strength: float = attrs.field(
        default=4.0,
        validator=positive,
        metadata=doc("How many judged answers each level's prior is worth."),
    )
    half_life_s: float = attrs.field(
        default=21600.0,
        validator=positive,
        metadata=doc("Seconds after which a judged answer counts half."),
    )


class _Belief:
    """What is known about one backend, for one kind or for all."""

    __slots__ = ("quality", "stale_at_s", "upper")

    def __init__(self, half_life_s: float) -> None:
        self.quality = Decayed(half_life_s)
        self.upper = 0.0
        self.stale_at_s = -math.inf


class QualityAware(ScoringAlgorithm):
    """Prefer the backend whose answers to this kind of question may be best.

    Formula: score = m + optimism·√(m(1-m)/(n+k+1)), the upper confidence bound of the
    posterior quality; m = (n·q + k·M)/(n + k) for q the decayed mean quality of n
    answers of this kind, shrunk towards the backend's mean over all kinds,
    M = (N·Q + k·prior)/(N + k). Few judged answers so decide little, and time widens
    the doubt again. A backend whose bound is below `quality_bar` is set aside (from
    exploration too) while another's reaches it. Scores within `tie_quality` of the
    best share the traffic by lot. Failures are not poor answers: they do not count.
    Knows nothing: m = prior_quality with its full doubt, so new backends get tried.
    Source: UCB (Auer, Cesa-Bianchi, Fischer 2002) on a partially pooled Beta mean.
    Memory: six floats per backend and kind, for 64 kinds and one for the rest.

    Worked example (optimism 0, k = 4, prior 0.7; a is unjudged, score 0.7):

    | b judged for this kind        | M of b | score of b | taken |
    | ----------------------------- | ------ | ---------- | ----- |
    | once 0.9                      | 0.740  | 0.772      | b     |
    | once 0.5                      | 0.660  | 0.628      | a     |
    | 4 times 0.9                   | 0.800  | 0.850      | b     |
    | 4 times 0.9 for another kind  | 0.800  | 0.800      | b     |
    | failed 4 times                | 0.700  | 0.700      | lot   |
    """

    def __init__(self, settings: Settings, context: BuildContext) -> None:
        super().__init__(context)
        self.exploration = settings.exploration
        self.settings = settings
        self.overall: dict[str, _Belief] = {}
        self.by_kind: dict[str, dict[str, _Belief]] = {}
        self._configured = {info.name for info in context.backends}
        self._stranger = self._bound(settings.prior_quality, 0.0)

    def choose(self, query: Query, candidates: Sequence[Candidate]) -> Choice:
        """Return the best for this kind among those that may reach the bar."""
        score = self.score
        scores = [score(query, each) for each in candidates]
        best = max(scores)
        enough = best - self.settings.tie_quality
        ranks = [best if value >= enough else value for value in scores]
        bar = self.settings.quality_bar
        if best < bar or min(scores) >= bar:
            return self.pick(candidates, ranks)
        passing = [index for index, value in enumerate(scores) if value >= bar]
        choice = self.pick(
            [candidates[index] for index in passing],
            [ranks[index] for index in passing],
        )
        return Choice(choice.candidate, choice.probability, scores)

    def score(self, query: Query, candidate: Candidate) -> float:
        """Return the upper bound of this backend's quality for this kind, 0..1."""
        name = candidate.name
        beliefs = self.by_kind.get(self._shared(query.kind))
        belief = beliefs.get(name) if beliefs is not None else None
        if belief is None:
            belief = self.overall.get(name)
            if belief is None:
                return self._stranger
        now_s = self.now()
        if now_s >= belief.stale_at_s:
            self._refresh(name, belief, now_s)
        return belief.upper

    def observe(self, outcome: Outcome) -> None:
        """Learn the quality of an answer, if it was scored."""
        if outcome.result == "answer" and outcome.quality is not None:
            self._learn(outcome.backend, outcome.kind, outcome.quality)

    def rate(self, rating: Rating) -> None:
        """Learn from a later verdict, which counts as one more judged answer."""
        self._learn(rating.backend, rating.kind, rating.quality)

    def adopt(self, previous: QualityAware) -> None:
        """Take over what is known of backends that are still configured."""
        for backend in previous.overall.keys() & self._configured:
            self.overall[backend] = self._copy(previous.overall[backend])
        for kind, beliefs in previous.by_kind.items():
            kept = beliefs.keys() & self._configured
            self.by_kind[kind] = {name: self._copy(beliefs[name]) for name in kept}

    def _copy(self, belief: _Belief) -> _Belief:
        copied = _Belief(self.settings.half_life_s)
        now_s = self.now()
        copied.quality.add(belief.quality.value, now_s)
        copied.quality.mass = belief.quality.mass_at(now_s)
        return copied

    def _shared(self, kind: str) -> str:
        known = self.by_kind
        return kind if kind in known or len(known) < MAX_KINDS else ""

    def _learn(self, backend: str, kind: str, quality: float) -> None:
        now_s = self.now()
        half_life_s = self.settings.half_life_s
        beliefs = self.by_kind.setdefault(self._shared(kind), {})
        if backend not in beliefs:
            beliefs[backend] = _Belief(half_life_s)
        if backend not in self.overall:
            self.overall[backend] = _Belief(half_life_s)
        for belief in (beliefs[backend], self.overall[backend]):
            belief.quality.add(quality, now_s)
        self.overall[backend].stale_at_s = -math.inf
        for each in self.by_kind.values():
            if backend in each:
                each[backend].stale_at_s = -math.inf

    def _refresh(self, backend: str, belief: _Belief, now_s: float) -> None:
        strength = self.settings.prior_strength
        overall = self.overall[backend]
        mean = overall.quality.blended(self.settings.prior_quality, strength, now_s)
        mass = 0.0
        if belief is not overall:
            mean = belief.quality.blended(mean, strength, now_s)
            mass = belief.quality.mass_at(now_s)
        belief.upper = self._bound(mean, mass)
        belief.stale_at_s = now_s + STALE_SHARE * self.settings.half_life_s

    def _bound(self, mean: float, mass: float) -> float:
        variance = max(0.0, mean * (1.0 - mean))
        mass += self.settings.prior_strength + 1.0
        return min(1.0, mean + self.settings.optimism * math.sqrt(variance / mass))


@hookimpl
def plb_register_algorithm() -> Provider[QualityAware]:
    """Offer `quality_aware`."""
    return Provider(
        "quality_aware",
        QualityAware,
        Settings,
        "best expected quality for this kind of question",
    )
