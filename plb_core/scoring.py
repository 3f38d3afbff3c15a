"""Write one `score`, get a fair and explained choice."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from plb_core.errors import AlgorithmFailed
from plb_core.protocols import Choice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plb_core.candidate import Candidate
    from plb_core.hookspecs import BuildContext
    from plb_core.types import Outcome, Query


class ScoringAlgorithm(ABC):
    """Chooses the candidate with the highest score, ties by lot.

    Subclasses write `score`. Scores are finite numbers of any size; a NaN or an
    infinity raises `AlgorithmFailed` naming the backend. With `exploration` e, a
    share e of choices falls on a candidate drawn evenly from all.
    """

    exploration: float = 0.0

    def __init__(self, context: BuildContext) -> None:
        self.name = context.name
        self.now = context.now
        self.rng = context.rng

    @abstractmethod
    def score(self, query: Query, candidate: Candidate) -> float:
        """Return how good this candidate is for the query; higher is better."""

    def observe(self, outcome: Outcome) -> None:  # noqa: B027 - learning is optional
        """Learn from a finished attempt; does nothing unless overridden."""

    def choose(self, query: Query, candidates: Sequence[Candidate]) -> Choice:
        """Return the candidate with the highest score, with its probability."""
        score = self.score
        return self.pick(candidates, [score(query, each) for each in candidates])

    def pick(self, candidates: Sequence[Candidate], scores: Sequence[float]) -> Choice:
        """Return the best by `scores`, which run parallel to `candidates`."""
        if not math.isfinite(sum(scores)):
            self._complain(candidates, scores)
        best = max(scores)
        ties = scores.count(best)
        exploration = self.exploration
        if exploration and self.rng.random() < exploration:
            index = int(self.rng.random() * len(scores))
        elif ties == 1:
            index = scores.index(best)
        else:
            nth = int(self.rng.random() * ties)
            index = [i for i, value in enumerate(scores) if value == best][nth]
        probability = exploration / len(scores)
        if scores[index] == best:
            probability += (1.0 - exploration) / ties
        return Choice(candidates[index], probability, scores)

    def _complain(
        self, candidates: Sequence[Candidate], scores: Sequence[float]
    ) -> None:
        for candidate, value in zip(candidates, scores, strict=True):
            if not math.isfinite(value):
                message = f"the score of backend {candidate.name!r} is {value!r}"
                raise AlgorithmFailed(self.name, message)
        message = "the scores are too large to compare"
        raise AlgorithmFailed(self.name, message)
