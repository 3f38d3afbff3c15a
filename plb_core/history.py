"""Remember recent decisions, so that each can be explained and rated."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

import attrs

from plb_core.errors import UnknownRequest

if TYPE_CHECKING:
    from plb_core.candidate import Candidate
    from plb_core.plan import BuiltTrack, NamedAlgorithm
    from plb_core.protocols import Choice
    from plb_core.reservation import Reservation
    from plb_core.types import Result

KEPT: Final = 2048
"""Requests remembered: minutes of busy traffic, at about a kilobyte each."""


# Not frozen: the request that owns it fills in how it ended.
@attrs.define(eq=False)
class Attempt:
    """One backend asked for one request; holds neither question nor answer.

    `in_flight` and `candidates` are as they were when the choice was made.
    `fallbacks` names algorithms that failed before one chose. `token` is the
    breaker's permit; `sent` says that the backend was called.
    """

    number: int
    candidate: Candidate
    named: NamedAlgorithm
    choice: Choice
    candidates: Sequence[Candidate]
    in_flight: Sequence[int]
    fallbacks: Sequence[str]
    started_s: float
    result: Result | Literal[""] = ""
    error: str = ""
    latency_s: float = 0.0
    token: int = 0
    sent: bool = False
    reservation: Reservation | None = None

    def explanation(self) -> dict[str, object]:
        """Return why this backend was asked and how it ended, JSON-safe."""
        choice = self.choice
        scores = _json_safe(choice.scores, len(self.candidates))
        return {
            "backend": self.candidate.name,
            "algorithm": self.named.name,
            "via": choice.via,
            "probability": choice.probability,
            "fallbacks": list(self.fallbacks),
            "candidates": [
                {"name": each.name, "score": score, "in_flight": in_flight}
                for each, score, in_flight in zip(
                    self.candidates, scores, self.in_flight, strict=True
                )
            ],
            "result": self.result or "running",
            "error": self.error,
            "latency_s": self.latency_s,
        }


@attrs.define(eq=False)
class Trace:
    """One request's decisions."""

    request_id: str
    model: str
    kind: str
    wanted: str
    reason: str
    track: BuiltTrack
    attempts: list[Attempt] = attrs.field(factory=list)

    def explanation(self) -> dict[str, object]:
        """Return the decisions as one JSON-safe object."""
        return {
            "request_id": self.request_id,
            "model": self.model,
            "kind": self.kind,
            "wanted": self.wanted,
            "reason": self.reason,
            "track": self.track.name,
            "attempts": [attempt.explanation() for attempt in self.attempts],
        }


def _json_safe(scores: object, count: int) -> Sequence[float | None]:
    """Return what an algorithm noted as scores, None for each that is no number."""
    if not isinstance(scores, Sequence) or len(scores) != count:
        return [None] * count
    return [
        score if isinstance(score, int | float) and math.isfinite(score) else None
        for score in scores
    ]


class History:
    """The newest traces by request id."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._traces: dict[str, Trace] = {}
        # A dict finds its oldest key ever more slowly as keys are deleted.
        self._order: deque[str] = deque()

    def add(self, trace: Trace) -> None:
        """Remember a trace and forget the oldest beyond the bound."""
        traces = self._traces
        traces[trace.request_id] = trace
        self._order.append(trace.request_id)
        if len(self._order) > self._kept:
            traces.pop(self._order.popleft(), None)

    def find(self, request_id: str) -> Trace:
        """Return a remembered trace; raises `UnknownRequest`."""
        try:
            return self._traces[request_id]
        except KeyError:
            message = f"no request {request_id[:64]!r} among the last {self._kept}"
            raise UnknownRequest(message) from None
