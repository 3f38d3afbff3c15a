"""What a balancer gives back: the backend's answer and how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from plb_core.types import Answer, Embeddings, Source


# Not frozen: created once per request on the hot path; see `types.Outcome`.
@attrs.define
class Reply:
    """An answered question.

    `attempts` counts the backends asked, this one included. `latency_s` is the whole
    time, `overhead_s` the part of it spent in plb itself. `cost_micro_usd` is what the
    backend billed, or else the scorer's figure, or None when unknown. `quality` maps
    dimensions to 0..1, None when not scored.
    """

    request_id: str
    answer: Answer
    backend: str
    track: str
    algorithm: str
    attempts: int
    latency_s: float
    overhead_s: float
    cost_micro_usd: int | None = None
    quality: Mapping[str, float] | None = None

    @property
    def text(self) -> str:
        """The answer's text."""
        return self.answer.text

    @property
    def sources(self) -> tuple[Source, ...]:
        """The answer's cited sources, `[n]` in the text being `sources[n - 1]`."""
        return self.answer.sources


@attrs.define
class EmbeddingsReply:
    """Embeddings and where they came from; fields as in `Reply`."""

    request_id: str
    embeddings: Embeddings
    backend: str
    track: str
    algorithm: str
    attempts: int
    latency_s: float
    overhead_s: float
    cost_micro_usd: int | None = None
