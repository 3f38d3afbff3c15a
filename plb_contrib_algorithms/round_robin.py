"""Fair rotation: everyone in turn, however backends come and go."""

from __future__ import annotations

from collections.abc import Sequence

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


class RoundRobin:
    """Chooses the candidate whose last turn lies furthest back.

    Score: 0 for a backend that never had a turn, else -t, where t is the number of
    its last turn; turns count up by one per choice. Higher is better.
    Source: least-recently-served scheduling. With a fixed set of candidates it is
    plain round robin; with a changing one it stays fair where a moving index skips or
    repeats: a backend that was away gets one turn at once, and no more than that.
    Weights are ignored; see `weighted_round_robin`.
    Knows nothing yet: backends without a turn come first, in random order, so that
    several processes do not all begin with the same one.
    Memory: one integer per backend.

    Examples, after turns of a, b and c in this order:

        candidates   chosen
        a b c        a
        b c          b      (a was tried already and failed)
        a b c        c      (so c is not skipped)
        a b c d      d      (new: one turn at once)
        a b c d      a
    """

    def __init__(self, _: NoSettings, context: BuildContext) -> None:
        self._random = context.rng.random
        self._backends = {info.name for info in context.backends}
        self._last: dict[str, int] = {}
        self._turn = 0

    def choose(self, _: Query, candidates: Sequence[Candidate]) -> Choice:
        """Return the candidate that waited longest."""
        last = self._last.get
        scores = [last(each.name, 0) for each in candidates]
        best = max(scores)
        index = scores.index(best)
        probability = 1.0
        # Turn numbers differ, so only backends without a turn can tie.
        if not best and (ties := scores.count(0)) > 1:
            nth = int(self._random() * ties)
            index = [i for i, score in enumerate(scores) if not score][nth]
            probability = 1.0 / ties
        chosen = candidates[index]
        self._turn -= 1
        self._last[chosen.name] = self._turn
        return Choice(chosen, probability, scores)

    def observe(self, outcome: Outcome) -> None:
        """Learn nothing: a turn counts when it is given, not when it ends."""

    def adopt(self, previous: RoundRobin) -> None:
        """Go on where `previous` stopped, for the backends still configured."""
        self._turn = previous._turn
        self._last = {
            name: turn
            for name, turn in previous._last.items()
            if name in self._backends
        }


@hookimpl
def plb_register_algorithm() -> Provider[RoundRobin]:
    """Offer `round_robin`."""
    return Provider(
        name="round_robin",
        build=RoundRobin,
        summary="everyone in turn, fair while backends come and go",
    )
