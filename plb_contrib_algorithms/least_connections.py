"""Fewest requests in flight per weight."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from plb_core import (
    BuildContext,
    Candidate,
    Choice,
    NoSettings,
    Outcome,
    Provider,
    Query,
    hookimpl,
)

_SCAN_UP_TO: Final = 5
"""Two random choices leave the emptiest of a few backends out too often."""
_EXACT_UP_TO: Final = 32
"""Up to here the probability is counted out; above, a full count would cost more
than the choice itself."""
_DRAWS: Final = 16


class LeastConnections:
    """Chooses the candidate with the fewest requests in flight for its weight.

    Score: -(n / w); n requests in flight, w the candidate's weight. Higher is better;
    ties are drawn by lot in proportion to weight. Up to 5 candidates all are
    compared. Above, two different ones are drawn evenly and the better of the two
    wins, a tie by the toss of a coin: nearly as even, and the work does not grow
    with the number of backends.
    Probability: 1 or the share of the lot; with two choices the share of all pairs
    that the chosen one wins (above 32 candidates estimated from 16 draws).
    Source: M. Mitzenmacher, A. W. Richa, R. Sitaraman, The Power of Two Random
    Choices; Envoy's least-request balancer.
    A weight of 0 gets nothing while another candidate has more; when all are 0, all
    count the same.
    Knows nothing yet: an idle backend has 0 in flight, so new backends get tried.
    Memory: none.

    Examples (in flight / weight):

        a        b        c        chosen, probability
        2/1      1/1      3/1      b 1
        4/4      2/1               a 1
        1/1      1/1      9/1      a 1/2, b 1/2
        0/3      0/1               a 3/4, b 1/4
        9/1      0/0               a 1
        2/0      1/0               b 1
    """

    def __init__(self, _: NoSettings, context: BuildContext) -> None:
        self._random = context.rng.random

    def choose(self, _: Query, candidates: Sequence[Candidate]) -> Choice:
        """Return the least loaded candidate, or the better of two."""
        if len(candidates) > _SCAN_UP_TO:
            return self._better_of_two(candidates)
        return self._least(candidates)

    def observe(self, outcome: Outcome) -> None:
        """Learn nothing: requests in flight are counted by the core."""

    def _least(self, candidates: Sequence[Candidate]) -> Choice:
        try:
            scores = [-each.in_flight / each.weight for each in candidates]
        except ZeroDivisionError:
            return self._with_weightless(candidates)
        best = max(scores)
        if scores.count(best) == 1:
            return Choice(candidates[scores.index(best)], 1.0, scores)
        ties = [i for i, score in enumerate(scores) if score == best]
        steps = list(accumulate([candidates[i].weight for i in ties]))
        point = self._random() * steps[-1]
        nth = sum(point >= step for step in steps)
        chosen = candidates[ties[nth]]
        return Choice(chosen, chosen.weight / steps[-1], scores)

    def _better_of_two(self, candidates: Sequence[Candidate]) -> Choice:
        random = self._random
        count = len(candidates)
        first = int(random() * count)
        second = int(random() * (count - 1))
        if second >= first:
            second += 1
        chosen, other = candidates[first], candidates[second]
        try:
            score = -chosen.in_flight / chosen.weight
            rival = -other.in_flight / other.weight
            if rival > score or (rival == score and int(random() * 2)):
                chosen, score = other, rival
            if count <= _EXACT_UP_TO:
                scores = [-each.in_flight / each.weight for each in candidates]
                beaten = sum(map(score.__gt__, scores))
                ties = scores.count(score) - 1
                pairs = count * (count - 1) / 2.0
                return Choice(chosen, (beaten + ties / 2.0) / pairs, scores)
            beaten_share = self._beaten_share(candidates, score)
        except ZeroDivisionError:
            return self._with_weightless(candidates)
        return Choice(chosen, beaten_share * 2.0 / count)

    def _beaten_share(self, candidates: Sequence[Candidate], score: float) -> float:
        """Estimate which share of the candidates this score wins against."""
        random = self._random
        count = len(candidates)
        # It has beaten one already; counting that keeps the estimate above 0.
        won = 1.0
        for _ in range(_DRAWS):
            each = candidates[int(random() * count)]
            rival = -each.in_flight / each.weight
            won += 0.5 if rival == score else score > rival
        return won / (_DRAWS + 1)

    def _with_weightless(self, candidates: Sequence[Candidate]) -> Choice:
        usable = [each for each in candidates if each.weight]
        if usable:
            many = len(usable) > _SCAN_UP_TO
            choice = self._better_of_two(usable) if many else self._least(usable)
            return Choice(choice.candidate, choice.probability)
        scores = [-float(each.in_flight) for each in candidates]
        best = max(scores)
        ties = [i for i, score in enumerate(scores) if score == best]
        chosen = candidates[ties[int(self._random() * len(ties))]]
        return Choice(chosen, 1.0 / len(ties), scores)


@hookimpl
def plb_register_algorithm() -> Provider[LeastConnections]:
    """Offer `least_connections`."""
    return Provider(
        name="least_connections",
        build=LeastConnections,
        summary="fewest requests in flight per weight; two random choices when many",
    )
