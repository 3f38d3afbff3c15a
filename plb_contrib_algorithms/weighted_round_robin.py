"""Smooth weighted rotation: shares by weight, evenly spread in time."""

from __future__ import annotations

from collections.abc import Sequence
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

# Credits that should be equal differ by rounding, far less than this; without it
# the order of equally weighted backends would wander.
_EQUAL: Final = 1e-9


class WeightedRoundRobin:
    """Chooses by credit: everyone earns its share per turn, the chosen pays one.

    Score: c_i + w_i / W; c_i is the credit so far, w_i the candidate's weight, W the
    sum over the candidates of this turn. The highest is chosen and pays 1. Ties go
    to the candidate listed first. The rule is deterministic.
    Source: nginx, smooth weighted round-robin balancing. There a choice costs W and
    credits are in units of weight; in shares, as here, the order is the same and a
    changed weight or a missing candidate leaves no debt behind that must be paid off.
    Weights are read at every choice. A weight of 0 gets nothing while another
    candidate has more; when all are 0, all count the same.
    Knows nothing yet: credit 0.
    Memory: one float per backend.

    Examples, turn by turn:

        weights      order
        a5 b1 c1     a a b a c a a
        a1 b1 c1     a b c a b c
        a3 b2        a b a b a
        a2 b0        a a a
        a0 b0        a b a
    """

    def __init__(self, _: NoSettings, context: BuildContext) -> None:
        self._backends = {info.name for info in context.backends}
        self._credit: dict[str, float] = {}

    def choose(self, _: Query, candidates: Sequence[Candidate]) -> Choice:
        """Return the candidate with the most credit."""
        weights = [each.weight for each in candidates]
        total = sum(weights)
        if not total:
            weights = [1.0] * len(weights)
            total = float(len(weights))
        credit = self._credit
        credit_of = credit.get
        scores = []
        top = -1e300
        chosen = candidates[0]
        for each, weight in zip(candidates, weights, strict=True):
            name = each.name
            score = credit_of(name, 0.0) + weight / total
            credit[name] = score
            scores.append(score)
            if score > top and weight:
                top = score + _EQUAL
                chosen = each
        credit[chosen.name] -= 1.0
        return Choice(chosen, 1.0, scores)

    def observe(self, outcome: Outcome) -> None:
        """Learn nothing: a turn counts when it is given, not when it ends."""

    def adopt(self, previous: WeightedRoundRobin) -> None:
        """Go on where `previous` stopped, for the backends still configured."""
        self._credit = {
            name: credit
            for name, credit in previous._credit.items()
            if name in self._backends
        }


@hookimpl
def plb_register_algorithm() -> Provider[WeightedRoundRobin]:
    """Offer `weighted_round_robin`."""
    return Provider(
        name="weighted_round_robin",
        build=WeightedRoundRobin,
        summary="shares by weight, evenly spread (nginx's smooth weighting)",
    )
