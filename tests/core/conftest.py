"""Balancers over backends in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
from loguru import logger

from plb_core import Choice, Provider, Query, hookimpl
from plb_core.balancer import Balancer
from plb_core.candidate import Candidate
from plb_core.config import read_text
from plb_core.testing.fakes import FakeBackend, FakePlugin
from plb_core.types import Outcome, Rating


class First:
    """Chooses the first candidate and remembers what it was told."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.ratings: list[Rating] = []
        self.error: Exception | None = None
        self.answer: Callable[[Sequence[Candidate]], object] | None = None

    def choose(self, query: Query, candidates: Sequence[Candidate]) -> Choice:
        if self.error is not None:
            raise self.error
        if self.answer is not None:
            return self.answer(candidates)  # type: ignore[return-value]  # on purpose
        return Choice(candidates[0])

    def observe(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def rate(self, rating: Rating) -> None:
        self.ratings.append(rating)


class FirstPlugin:
    """Offers one `First` under two names, so that tests can look at both."""

    def __init__(self) -> None:
        self.first = First()
        self.second = First()

    @hookimpl
    def plb_register_algorithm(self) -> list[Provider[First]]:
        return [
            Provider("first", lambda _s, _c: self.first),
            Provider("second", lambda _s, _c: self.second),
        ]


class Rig:
    """Three backends a, b and c in memory, and a balancer over them."""

    def __init__(self, toml: str = "", extra: Sequence[object] = ()) -> None:
        self.a, self.b, self.c = FakeBackend("A"), FakeBackend("B"), FakeBackend("C")
        self.algorithms = FirstPlugin()
        self.plugins = [
            FakePlugin(a=self.a, b=self.b, c=self.c),
            self.algorithms,
            *extra,
        ]
        text = toml or "[backend.a]\n[backend.b]\n[backend.c]\n"
        if "[track" not in text:
            text += '[track.main]\nalgorithm = "first"\n'
        self.balancer = Balancer(
            read_text(text, file="c.toml"), plugins=self.plugins, seed=1
        )

    @property
    def first(self) -> First:
        return self.algorithms.first

    def candidate(self, name: str) -> Candidate:
        return self.balancer.plan.candidates[name]

    def idle(self) -> bool:
        return not any(c.in_flight for c in self.balancer.plan.candidates.values())


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Collect what is logged as a warning or worse."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), level="WARNING")
    yield lines
    logger.remove(sink)


@pytest.fixture
def rig() -> Callable[..., Rig]:
    return Rig
