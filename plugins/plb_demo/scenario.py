"""The demo's course: each algorithm gets its questions, and a failure in the middle."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final, cast

import attrs

from plb_core import RequestError
from plb_core.balancer import Balancer
from plb_core.config import read_text
from plb_demo.backends import NAMES, PaidBackends, paid_backends

ALGORITHMS: Final = (
    "round_robin",
    "least_connections",
    "response_time_based",
    "health_aware",
    "cost_aware",
)
QUESTIONS: Final = (
    "What are metabolic pathways?",
    "How does glycolysis gain ATP?",
    "What does metformin do in the liver?",
    "Which drug is newly approved for obesity this year?",
    "How does insulin lower blood glucose?",
    "What is beta-oxidation of fatty acids?",
    "Who won the race to sequence the wheat genome?",
    "What does the citric acid cycle produce?",
    "Why is NADH needed for oxidative phosphorylation?",
    "What does a hospital bed cost per night?",
    "How is metabolomics done with mass spectrometry?",
    "Which enzyme controls glycolysis?",
)
_ASKERS: Final = 8
"""Enough at once to make loads differ, few enough for LightRAG's small limit."""

Progress = Callable[[str, str], None]
"""Told the algorithm and the broken backend ("" for none) after each question."""


@attrs.frozen
class Round:
    """What one algorithm made of its questions; costs in micro-USD.

    `failovers` counts failed attempts that another backend made good, `passed_on`
    those where a healthy backend had no answer. `shares` is by answering backend.
    """

    algorithm: str
    questions: int
    answered: int
    failovers: int
    passed_on: int
    p50_ms: float
    p95_ms: float
    shares: dict[str, float]
    broken: str
    billed_micro_usd: int
    counted_micro_usd: int


@attrs.frozen
class Report:
    """The whole demo."""

    seed: int
    seconds: float
    rounds: tuple[Round, ...]

    @property
    def books_agree(self) -> bool:
        """Whether plb counted exactly what the backends billed, in every round."""
        return all(
            each.billed_micro_usd == each.counted_micro_usd for each in self.rounds
        )

    def as_dict(self) -> dict[str, object]:
        """Return the report JSON-safe."""
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "questions": sum(each.questions for each in self.rounds),
            "books_agree": self.books_agree,
            "algorithms": [attrs.asdict(each) for each in self.rounds],
        }


async def run_demo(
    *,
    seed: int,
    progress: Progress,
    questions: int = 200,
    algorithms: Sequence[str] = ALGORITHMS,
) -> Report:
    """Run one round for each algorithm; the questions are shared out evenly."""
    started_s = time.monotonic()
    each = questions // len(algorithms)
    async with paid_backends(seed) as paid:
        rounds = [
            await _run_round(algorithm, each, paid, seed, progress)
            for algorithm in algorithms
        ]
    return Report(seed, time.monotonic() - started_s, tuple(rounds))


async def _run_round(
    algorithm: str, questions: int, paid: PaidBackends, seed: int, progress: Progress
) -> Round:
    before = paid.billed_micro_usd()
    config = read_text(paid.config(algorithm), file="demo")
    async with Balancer(config, seed=seed) as balancer:
        tally = _Tally(balancer, paid, questions)
        texts = itertools.islice(itertools.cycle(QUESTIONS), questions)
        numbered = enumerate(texts, 1)
        async with asyncio.TaskGroup() as group:
            for _ in range(_ASKERS):
                group.create_task(_ask(numbered, tally, algorithm, progress))
    return tally.round(algorithm, paid.billed_micro_usd() - before)


async def _ask(
    numbered: Iterator[tuple[int, str]],
    tally: _Tally,
    algorithm: str,
    progress: Progress,
) -> None:
    for number, text in numbered:
        tally.begin(number)
        await tally.ask(text)
        progress(algorithm, tally.failing)


class _Tally:
    """Counts one round, and breaks and mends a backend at its thirds."""

    def __init__(self, balancer: Balancer, paid: PaidBackends, questions: int) -> None:
        self.failing = ""
        self._balancer = balancer
        self._paid = paid
        self._questions = questions
        self._broken = ""
        self._answers: Counter[str] = Counter()
        self._results: Counter[str] = Counter()
        self._latencies_s: list[float] = []
        self._counted_micro_usd = 0

    def begin(self, number: int) -> None:
        """Break the busiest paid backend at the first third, mend it at the second."""
        if number == self._questions // 3 + 1:
            self._broken = max(self._paid.by_name, key=lambda name: self._answers[name])
            self.failing = self._broken
            self._paid.break_down(self._broken)
        elif number == 2 * self._questions // 3 + 1:
            self._paid.mend(self._broken)
            self.failing = ""

    async def ask(self, text: str) -> None:
        """Ask one question and count what came of it."""
        try:
            reply = await self._balancer.ask(text)
        except RequestError:
            return
        self._answers[reply.backend] += 1
        self._latencies_s.append(reply.latency_s)
        self._counted_micro_usd += reply.cost_micro_usd or 0
        explained = self._balancer.explain(reply.request_id)
        attempts = cast("list[dict[str, str]]", explained["attempts"])
        self._results.update(attempt["result"] for attempt in attempts)

    def round(self, algorithm: str, billed_micro_usd: int) -> Round:
        """Return the counts."""
        answered = self._answers.total()
        return Round(
            algorithm=algorithm,
            questions=self._questions,
            answered=answered,
            failovers=self._results["error"],
            passed_on=self._results["no_answer"],
            p50_ms=_percentile_ms(self._latencies_s, 0.50),
            p95_ms=_percentile_ms(self._latencies_s, 0.95),
            shares={name: self._answers[name] / max(answered, 1) for name in NAMES},
            broken=self._broken,
            billed_micro_usd=billed_micro_usd,
            counted_micro_usd=self._counted_micro_usd,
        )


def _percentile_ms(values_s: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile in milliseconds, 0 of nothing."""
    if not values_s:
        return 0.0
    rank = math.ceil(share * len(values_s))
    return round(sorted(values_s)[rank - 1] * 1000, 3)
