"""What each kind of plugin must provide, and what it must never do.

Choosing, scoring and judging are synchronous: code between two awaits cannot be
interrupted, so there are no locks. Only talking to a network or a disk is async.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import attrs

if TYPE_CHECKING:
    import argparse
    import asyncio
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import date

    from plb_core.balancer import Balancer
    from plb_core.candidate import Candidate
    from plb_core.ledger_records import LedgerRow, LedgerState
    from plb_core.types import (
        Answer,
        BackendInfo,
        BackendTraits,
        Chunk,
        Decision,
        Embeddings,
        Health,
        HealthRecord,
        Outcome,
        ProbeResult,
        Query,
        Rating,
        Usage,
    )


# Not frozen: created once per choice on the hot path; see `Outcome`.
@attrs.define
class Choice:
    """An algorithm's decision.

    `probability` is that with which this candidate was going to be chosen (1.0 for a
    deterministic rule), needed for honest later estimates. `scores` runs parallel to
    the candidates, higher is better, and may be empty. `via` names the inner
    algorithm a composite used; it comes back in `Outcome.via`.
    """

    candidate: Candidate
    probability: float = 1.0
    scores: Sequence[float] = ()
    via: str = ""


class Algorithm(Protocol):
    """Chooses a backend."""

    def choose(self, query: Query, candidates: Sequence[Candidate]) -> Choice:
        """Return a choice among ≥ 1 open candidates.

        No I/O, no logging above DEBUG, no change to query or candidates; at most
        50 µs for 10 candidates. Break ties with the context's `rng`. Raising makes
        the track's next fallback algorithm choose, counted and shown.
        """
        ...

    def observe(self, outcome: Outcome) -> None:
        """Learn from one finished attempt, failed and cancelled ones too.

        Called once per attempt, also for attempts another algorithm of the track
        chose. Memory stays bounded: key by backend and kind, never by text.
        """
        ...


@runtime_checkable
class LearnsFromRatings(Protocol):
    """An algorithm that also takes later quality verdicts in."""

    def rate(self, rating: Rating) -> None:
        """Take one verdict in."""
        ...


@runtime_checkable
class Adopts(Protocol):
    """An algorithm whose learned state survives a changed configuration."""

    def adopt(self, previous: object) -> None:
        """Take over what `previous`, of the same class, has learned."""
        ...


class Backend(Protocol):
    """Answers questions over a network, or from local files.

    Every call ends in one of three ways: an answer, `NoAnswer` (healthy, another
    backend is tried), or one of the `BackendError` kinds (counts against it). A
    status code alone decides nothing. Calls may be cancelled at any await.
    """

    traits: BackendTraits

    async def start(self) -> None:
        """Open what is needed; must not fail because the far side is down."""
        ...

    async def close(self) -> None:
        """Release everything; called once, after the last call ended."""
        ...

    async def ask(self, query: Query, timeout_s: float) -> Answer:
        """Return the complete answer within `timeout_s`."""
        ...

    def stream(self, query: Query, timeout_s: float) -> AsyncIterator[Chunk]:
        """Yield text as it comes, then exactly one chunk with `end` set.

        An async generator. Before the first text it may raise like `ask`; after it,
        a failure is raised as `BackendError` and a cut is a "truncated" end.
        """
        ...

    async def ping(self, timeout_s: float) -> ProbeResult:
        """Report health through an endpoint that bills nothing; never raises."""
        ...


@runtime_checkable
class EmbeddingBackend(Protocol):
    """A backend that also has the capability "embeddings"."""

    async def embed(
        self, query: Query, inputs: Sequence[str], timeout_s: float
    ) -> Embeddings:
        """Return one vector per input, in order."""
        ...


class HealthCheck(Protocol):
    """Decides how healthy a backend is."""

    interval_s: float
    """Seconds between two probes of one backend."""

    async def probe(self, backend: Backend) -> ProbeResult:
        """Look once, within an own time limit; never raises."""
        ...

    def judge(self, record: HealthRecord) -> Health:
        """Return the new health from the probes and traffic so far."""
        ...


class CostScorer(Protocol):
    """Says what a request may cost, will probably cost, and did cost.

    All in micro-USD; None means unknown. A ceiling is never below the bill.
    """

    def ceiling(self, query: Query, info: BackendInfo) -> int | None:
        """Return the most this query can cost on this backend."""
        ...

    def estimate(self, query: Query, info: BackendInfo) -> int | None:
        """Return the expected cost."""
        ...

    def actual(self, usage: Usage, info: BackendInfo) -> int | None:
        """Return the cost of what was used."""
        ...


class QualityScorer(Protocol):
    """Scores an answer by signals that are cheap to read."""

    def score(self, query: Query, answer: Answer) -> Mapping[str, float] | None:
        """Return {dimension: 0..1}, or None for "no opinion"; ≤ 200 µs."""
        ...


class Classifier(Protocol):
    """Tells what kind of question it is and which knowledge it needs."""

    def classify(self, query: Query) -> Decision:
        """Return a decision within 50 µs, without I/O."""
        ...


class Listener(Protocol):
    """Hears of every finished attempt (metrics, traces, alerts)."""

    def observe(self, outcome: Outcome) -> None:
        """Take note; at most a few µs, never raises, never waits."""
        ...


class Service(Protocol):
    """Runs beside the balancer for as long as `plb serve` does."""

    async def start(self, balancer: Balancer) -> Sequence[str]:
        """Begin to serve; return the addresses to show, for example URLs.

        Raises `ConfigError` when it cannot, for example because a port is taken.
        """
        ...

    async def close(self) -> None:
        """Stop accepting, finish what runs, release everything."""
        ...


class Store(Protocol):
    """Keeps the rows of the money's ledger; one event loop and one ledger use it."""

    async def start(self) -> None:
        """Open it; raises `ConfigError` when what is there cannot be trusted."""
        ...

    async def close(self) -> None:
        """Finish every write, then release everything."""
        ...

    async def load(self, day: date) -> LedgerState:
        """Return what is stored, for `day` or the newest day if that is later."""
        ...

    def write(self, row: LedgerRow) -> asyncio.Future[None]:
        """Take a row in at once; the future is done when the row is durable.

        Rows become durable in the order of the calls, also when nobody waits or the
        future is cancelled. The future raises `LedgerUnavailable` when the store
        cannot write now, and `ValueError` for a row that may not follow what is
        stored under its `attempt_id` (see `LedgerRow`); a first row is "reserved".
        """
        ...


class Command(Protocol):
    """A sub-command of `plb`."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add options."""
        ...

    def run(self, options: argparse.Namespace) -> int:
        """Do the work; return the exit status."""
        ...
