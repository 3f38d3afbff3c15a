"""Type-checked, never run: plugins of one's own, as an author writes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, assert_type

import attrs

from plb_core import (
    Answer,
    BackendBusy,
    BackendInfo,
    BackendTraits,
    BuildContext,
    Candidate,
    Choice,
    Chunk,
    Decision,
    EnvVar,
    HealthRecord,
    Outcome,
    ProbeResult,
    Provider,
    Query,
    Rating,
    ScoringAlgorithm,
    Secret,
    Usage,
    doc,
    hookimpl,
)
from plb_core.protocols import (
    Adopts,
    Algorithm,
    Backend,
    Classifier,
    CostScorer,
    HealthCheck,
    LearnsFromRatings,
    Listener,
    QualityScorer,
)
from plb_core.settings import at_least, positive


@attrs.frozen
class CheapestSettings:
    tolerance: float = attrs.field(
        default=0.1, validator=at_least(0), metadata=doc("What counts as equal.")
    )
    mode: Literal["mean", "last"] = attrs.field(
        default="mean", metadata=doc("Which cost is compared.")
    )


class Cheapest(ScoringAlgorithm):
    def __init__(self, settings: CheapestSettings, context: BuildContext) -> None:
        super().__init__(context)
        self.settings = settings

    def score(self, query: Query, candidate: Candidate) -> float:
        assert_type(candidate.cost_micro_usd, float | None)
        return -(candidate.cost_micro_usd or 0.0)


class FirstOf:
    """Has the protocol's methods and no base class."""

    def __init__(self, inner: Algorithm) -> None:
        self.inner = inner

    def choose(self, query: Query, candidates: Sequence[Candidate]) -> Choice:
        if query.kind:
            return self.inner.choose(query, candidates)
        return Choice(candidates[0], via="first")

    def observe(self, outcome: Outcome) -> None:
        assert_type(outcome.quality, float | None)

    def rate(self, rating: Rating) -> None:
        assert_type(rating.quality, float)

    def adopt(self, previous: FirstOf) -> None:
        self.inner = previous.inner


def offered(inner: Algorithm) -> list[Algorithm]:
    return [FirstOf(inner)]


learns: type[LearnsFromRatings] = FirstOf


@hookimpl
def plb_register_algorithm() -> Sequence[Provider[Algorithm]]:
    return [
        Provider("cheapest", Cheapest, CheapestSettings, "Prefers what costs least."),
        Provider("first_of", lambda _, context: FirstOf(context.algorithm("inner"))),
    ]


@attrs.frozen
class EchoSettings:
    delay_s: float = attrs.field(
        default=0.1, validator=positive, metadata=doc("Seconds before it answers.")
    )
    key_env: EnvVar = attrs.field(
        default=EnvVar("ECHO_KEY"), metadata=doc("The variable with the key.")
    )


class Echo:
    traits = BackendTraits(knowledge="graph", max_in_flight=4)

    def __init__(self, settings: EchoSettings, context: BuildContext) -> None:
        self._key = Secret.from_env(settings.key_env)
        context.log.bind(plugin=context.name).info("built")

    async def start(self) -> None:
        assert_type(self._key.reveal(), str)

    async def close(self) -> None: ...

    async def ask(self, query: Query, timeout_s: float) -> Answer:
        if not query.text:
            raise BackendBusy("try later", retry_after_s=1.5)
        return Answer(query.text, usage=Usage(1, 1))

    async def stream(self, query: Query, timeout_s: float) -> AsyncIterator[Chunk]:
        yield Chunk(query.text)
        yield Chunk(end="complete", answer=Answer(query.text))

    async def ping(self, timeout_s: float) -> ProbeResult:
        return ProbeResult(ok=True, latency_s=0.0)


@hookimpl
def plb_register_backend() -> Provider[Backend]:
    return Provider("echo", Echo, EchoSettings)


class ByLength:
    """One object as classifier, cost scorer and quality scorer."""

    def classify(self, query: Query) -> Decision:
        return Decision("live" if len(query.text) < 20 else "graph", "any", 0.5)

    def ceiling(self, query: Query, info: BackendInfo) -> int | None:
        return None if info.traits.price is None else 1000

    def estimate(self, query: Query, info: BackendInfo) -> int | None:
        return len(query.text)

    def actual(self, usage: Usage, info: BackendInfo) -> int | None:
        return usage.output_tokens

    def score(self, query: Query, answer: Answer) -> Mapping[str, float] | None:
        return {"content": min(1.0, len(answer.text) / 1000)}

    def observe(self, outcome: Outcome) -> None: ...


class Always:
    interval_s = 30.0

    async def probe(self, backend: Backend) -> ProbeResult:
        return await backend.ping(1.0)

    def judge(self, record: HealthRecord) -> Literal["healthy", "unhealthy"]:
        return "healthy" if record.probe.ok else "unhealthy"


classifier: Classifier = ByLength()
cost_scorer: CostScorer = ByLength()
quality_scorer: QualityScorer = ByLength()
listener: Listener = ByLength()
health_check: HealthCheck = Always()


class AsyncChoice:
    async def choose(self, query: Query, candidates: Sequence[Candidate]) -> Choice:
        return Choice(candidates[0])

    def observe(self, outcome: Outcome) -> None: ...


not_an_algorithm: Algorithm = AsyncChoice()  # type: ignore[assignment]
not_a_backend: Backend = object()  # type: ignore[assignment]


def adopting(algorithm: object) -> bool:
    return isinstance(algorithm, Adopts)
