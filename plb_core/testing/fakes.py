"""Small real objects to test plugins with: a clock, candidates, a build context."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import attrs
from loguru import logger

from plb_core.breaker import Breaker
from plb_core.candidate import Candidate
from plb_core.hookspecs import BuildContext, Provider, hookimpl
from plb_core.sections import BreakerSettings
from plb_core.types import (
    Answer,
    BackendInfo,
    BackendTraits,
    Chunk,
    ModelMap,
    Outcome,
    ProbeResult,
    Result,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from plb_core.protocols import Algorithm, Backend
    from plb_core.types import Query


class FakeClock:
    """A monotonic clock that moves only when told to."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """Return the set time in seconds."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Move forward; never backward, as a monotonic clock."""
        if seconds < 0:
            message = "a monotonic clock cannot go back"
            raise ValueError(message)
        self.now_s += seconds


def no_algorithm(name: str) -> Algorithm:
    """Stand in for `BuildContext.algorithm` where a plugin needs none."""
    raise KeyError(name)


def context(
    name: str = "test",
    *,
    now: Callable[[], float] | None = None,
    seed: int = 0,
    backends: Sequence[BackendInfo] = (),
    models: ModelMap | None = None,
    algorithm: Callable[[str], Algorithm] = no_algorithm,
) -> BuildContext:
    """Return a build context with a fake clock and a seeded random source."""
    return BuildContext(
        name=name,
        now=now or FakeClock(),
        rng=random.Random(seed),
        log=logger.bind(plugin=name),
        backends=tuple(backends),
        models=models or ModelMap(),
        algorithm=algorithm,
    )


def candidate(
    name: str,
    *,
    now: Callable[[], float] | None = None,
    in_flight: int = 0,
    **facts: object,
) -> Candidate:
    """Return a healthy candidate; `facts` are fields of `BackendInfo` or traits."""
    trait_names = {field.name for field in attrs.fields(BackendTraits)}
    traits = {key: facts.pop(key) for key in tuple(facts) if key in trait_names}
    info = BackendInfo(
        name=name,
        plugin="fake",
        traits=BackendTraits(**traits),  # type: ignore[arg-type]  # test shorthand
        **facts,  # type: ignore[arg-type]  # test shorthand
    )
    clock = now or FakeClock()
    breaker = Breaker(BreakerSettings(), clock, random.Random(0), lambda _a, _b: None)
    made = Candidate(info, clock, breaker, in_flight=in_flight)
    made.health = "healthy"
    return made


def outcome(
    backend: str,
    *,
    result: Result = "answer",
    latency_s: float = 0.1,
    at_s: float = 1000.0,
    **more: object,
) -> Outcome:
    """Return a finished attempt with plausible values."""
    values: dict[str, object] = {
        "request_id": "req_test",
        "track": "main",
        "algorithm": "test",
        "kind": "general",
        "attempt": 1,
        "error": "backend_error" if result == "error" else "",
        **more,
    }
    return Outcome(
        backend=backend,
        result=result,
        latency_s=latency_s,
        at_s=at_s,
        **values,  # type: ignore[arg-type]  # test shorthand
    )


class FakeBackend:
    """A backend in memory: answers at once, or raises what `failures` holds.

    `failures` is consumed from the front, one per call; None in it means success.
    """

    def __init__(
        self,
        text: str = "An answer. [1]",
        *,
        traits: BackendTraits | None = None,
        answer: Answer | None = None,
    ) -> None:
        self.traits = traits or BackendTraits()
        self.answer = answer or Answer(text)
        self.failures: list[Exception | None] = []
        self.calls: list[Query] = []
        self.healthy = True
        self.started = 0
        self.closed = 0

    async def start(self) -> None:
        """Count."""
        self.started += 1

    async def close(self) -> None:
        """Count."""
        self.closed += 1

    async def ask(self, query: Query, timeout_s: float) -> Answer:  # noqa: ARG002 - in memory, never waits
        """Return the set answer, or raise the next failure."""
        self.calls.append(query)
        self._fail()
        return self.answer

    async def stream(self, query: Query, timeout_s: float) -> AsyncIterator[Chunk]:  # noqa: ARG002 - in memory, never waits
        """Yield the set answer word by word."""
        self.calls.append(query)
        self._fail()
        for word in self.answer.text.split(" "):
            yield Chunk(word + " ")
        yield Chunk(end="complete", answer=self.answer)

    async def ping(self, timeout_s: float) -> ProbeResult:  # noqa: ARG002 - in memory, never waits
        """Report `healthy`."""
        return ProbeResult(self.healthy, 0.001)

    def _fail(self) -> None:
        if self.failures:
            failure = self.failures.pop(0)
            if failure is not None:
                raise failure


class FakePlugin:
    """Hands ready-made backends to a balancer: `Balancer(config, plugins=[…])`.

    Each keyword names a backend plugin, so `[backend.a]` finds `FakePlugin(a=…)`.
    """

    def __init__(self, **backends: Backend) -> None:
        self.backends = backends

    @hookimpl
    def plb_register_backend(self) -> Sequence[Provider[Backend]]:
        """Offer each backend under its keyword."""

        def provider(name: str, backend: Backend) -> Provider[Backend]:
            return Provider(name, lambda _settings, _context: backend)

        return [provider(name, backend) for name, backend in self.backends.items()]
