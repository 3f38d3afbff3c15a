"""Shortest expected wait: decayed peak latency times requests in flight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import attrs

from plb_core import BuildContext, Candidate, Choice, Outcome, Provider, Query, hookimpl
from plb_core.settings import at_least, doc, positive

# exp(400) times any latency is still far from the largest float.
_REBASE_AT: Final = 400.0
# A measured 0 would look like "never measured".
_SHORTEST_S: Final = 1e-6
# Errors in a row double a backend's penalty; more than this would only keep a
# recovered backend out for longer.
_LONGEST_PENALTY_S: Final = 600.0


@attrs.frozen
class ResponseTimeSettings:
    """Settings of `response_time_based`."""

    decay_s: float = attrs.field(
        default=120.0,
        validator=positive,
        metadata=doc("Seconds after which a measured peak has faded to 37 %."),
    )
    first_guess_s: float = attrs.field(
        default=1.0,
        validator=positive,
        metadata=doc(
            "Seconds assumed for a backend that was called but never measured."
        ),
    )
    comparable_tokens: int = attrs.field(
        default=25,
        validator=at_least(1),
        metadata=doc(
            "Output tokens whose share of a complete answer's time is compared with"
            " the time to first text of a stream."
        ),
    )
    error_penalty_s: float = attrs.field(
        default=10.0,
        validator=positive,
        metadata=doc("Seconds that an error counts as at least."),
    )


class ResponseTimeBased:
    """Chooses the candidate that should begin to answer soonest.

    Score: -(L x (n + 1)); L is the decayed peak latency in seconds, n the requests in
    flight. Higher is better, ties by lot.
    L: a sample above L is taken at once; a lower one moves it by 1 - exp(-dt / decay_s)
    of the way, dt since the last sample; between samples L fades by exp(-t / decay_s),
    so a once slow backend is tried again.
    A stream's sample is its time to first text. A complete answer of T output tokens
    took latency x min(1, comparable_tokens / T), so long answers do not look slow. An
    error counts as `error_penalty_s` or twice L, whichever is more, up to 10 minutes.
    A call that was given up can only raise L.
    Source: Finagle PeakEwma (decay on read, peaks at once).
    Knows nothing yet: an idle unmeasured backend comes first (L = 0); while it is
    busy with its first calls, L = first_guess_s.
    Memory: two floats per backend.

    Examples (seconds measured just now, in flight):

        a            b            chosen
        0.2, 0       0.5, 0       a
        0.2, 3       0.5, 0       b  (0.8 against 0.5)
        0.2, 0       none, 0      b  (new: tried)
        0.2, 0       none, 1      a  (0.2 against 2 x 1.0)
        error, 0     5.0, 0       b  (10 against 5)
    """

    def __init__(self, settings: ResponseTimeSettings, context: BuildContext) -> None:
        self._settings = settings
        self._now = context.now
        self._random = context.rng.random
        self._backends = {info.name for info in context.backends}
        # All peaks fade by the same factor, so they are kept as of `_epoch_s`: one
        # exp per choice instead of one per candidate.
        self._epoch_s = context.now()
        self._peaks: dict[str, float] = {}
        self._stamps_s: dict[str, float] = {}

    def choose(self, _: Query, candidates: Sequence[Candidate]) -> Choice:
        """Return the candidate with the shortest expected wait."""
        fade = math.exp((self._epoch_s - self._now()) / self._settings.decay_s)
        peak = self._peaks.get
        scores = [
            -fade * peak(each.name, 0.0) * (each.in_flight + 1) for each in candidates
        ]
        best = max(scores)
        if not best:
            best = self._guess(candidates, scores)
        ties = scores.count(best)
        if ties == 1:
            return Choice(candidates[scores.index(best)], 1.0, scores)
        nth = int(self._random() * ties)
        index = [i for i, score in enumerate(scores) if score == best][nth]
        return Choice(candidates[index], 1.0 / ties, scores)

    def observe(self, outcome: Outcome) -> None:
        """Take the attempt's time in."""
        now_s = self._now()
        settings = self._settings
        if now_s - self._epoch_s > _REBASE_AT * settings.decay_s:
            self._rebase(now_s)
        name = outcome.backend
        grow = math.exp((now_s - self._epoch_s) / settings.decay_s)
        faded_s = self._peaks.get(name, 0.0) / grow
        sample_s = self._sample(outcome, faded_s)
        if sample_s < faded_s:
            age_s = now_s - self._stamps_s[name]
            moved = faded_s + sample_s * -math.expm1(-age_s / settings.decay_s)
            sample_s = max(sample_s, moved)
        self._peaks[name] = sample_s * grow
        self._stamps_s[name] = now_s

    def adopt(self, previous: ResponseTimeBased) -> None:
        """Take over what `previous` measured of the backends still configured."""
        now_s = self._now()
        previous._rebase(now_s)
        self._epoch_s = now_s
        for name, peak in previous._peaks.items():
            if name in self._backends:
                self._peaks[name] = peak
                self._stamps_s[name] = previous._stamps_s[name]

    def _sample(self, outcome: Outcome, faded_s: float) -> float:
        """Return comparable seconds for an attempt; `faded_s` is L before it."""
        settings = self._settings
        if outcome.result == "error" or (
            outcome.result == "truncated" and outcome.error
        ):
            doubled_s = min(2.0 * faded_s, _LONGEST_PENALTY_S)
            return max(settings.error_penalty_s, outcome.latency_s, doubled_s)
        if outcome.ttft_s is not None:
            return max(outcome.ttft_s, _SHORTEST_S)
        sample_s = max(outcome.latency_s, _SHORTEST_S)
        if outcome.result in ("cancelled", "truncated"):
            return max(sample_s, faded_s)
        if outcome.usage is not None:
            tokens = outcome.usage.output_tokens
            if tokens > settings.comparable_tokens:
                return max(sample_s * settings.comparable_tokens / tokens, _SHORTEST_S)
        return sample_s

    def _guess(self, candidates: Sequence[Candidate], scores: list[float]) -> float:
        """Fill in the guess for busy unmeasured candidates; return the best score."""
        for index, each in enumerate(candidates):
            if not scores[index] and each.in_flight:
                scores[index] = -self._settings.first_guess_s * (each.in_flight + 1)
        return max(scores)

    def _rebase(self, now_s: float) -> None:
        fade = math.exp((self._epoch_s - now_s) / self._settings.decay_s)
        self._epoch_s = now_s
        for name in self._peaks:
            self._peaks[name] *= fade


@hookimpl
def plb_register_algorithm() -> Provider[ResponseTimeBased]:
    """Offer `response_time_based`."""
    return Provider(
        name="response_time_based",
        build=ResponseTimeBased,
        settings=ResponseTimeSettings,
        summary="shortest expected wait: decayed peak latency x requests in flight",
    )
