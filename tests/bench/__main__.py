"""`make bench`: measure plb and print the figures; asserts nothing.

`python -m tests.bench NAME …` runs only what is named; `--page` first also records the
output in docs/explanation/benchmarks.md, as `make bench-page` does.
"""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from plb_core import Choice, Provider, hookimpl
from plb_core.balancer import Balancer
from plb_core.candidate import Candidate
from plb_core.config import read_text
from plb_core.loader import Loader
from plb_core.protocols import Algorithm
from plb_core.source import read_source
from plb_core.testing.fakes import FakeBackend, FakePlugin, candidate, outcome
from plb_core.types import Query

QUERY = Query("What is glycolysis?", kind="mechanism")
PAGE = Path(__file__).parents[2] / "docs/explanation/benchmarks.md"
MARK = "<!-- Written by `make bench-page`. -->"
ROUNDS = 7
CALLS = 4000


def median_us(call: Callable[[], object], calls: int = CALLS) -> float:
    """Return the median over rounds of the mean time of one call."""
    for _ in range(calls // 4):
        call()
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        rounds.append((time.perf_counter() - start) / calls * 1e6)
    return statistics.median(rounds)


def warm_candidates(count: int) -> list[Candidate]:
    """Return candidates with some history, as a running balancer has."""
    made = [
        candidate(
            f"b{number}",
            now=time.monotonic,
            weight=1.0 + number % 3,
            coordinates=(50.0 - number, 8.0 + number),
            in_flight=number % 4,
        )
        for number in range(count)
    ]
    for each in made:
        each.served = 1000  # past any slow start
        for result in ("answer", "answer", "error"):
            each.observe(
                outcome(
                    each.name,
                    result=result,
                    at_s=time.monotonic(),
                    quality=0.7,
                    cost_micro_usd=1200,
                )
            )
    return made


def median_choice_us(algorithm: Algorithm, candidates: list[Candidate]) -> float:
    """Return the median time of one choice; each is followed by its outcome."""
    times = []
    for _ in range(CALLS):
        begin = time.perf_counter()
        choice = algorithm.choose(QUERY, candidates)
        times.append((time.perf_counter() - begin) * 1e6)
        name, now_s = choice.candidate.name, time.monotonic()
        algorithm.observe(
            outcome(name, kind=QUERY.kind, at_s=now_s, quality=0.7, via=choice.via)
        )
    return statistics.median(times)


def teach(algorithm: Algorithm, candidates: list[Candidate]) -> None:
    """Let an algorithm learn some outcomes of each candidate, as traffic does."""
    for _ in range(20):
        choice = algorithm.choose(QUERY, candidates)
        for each in candidates:
            algorithm.observe(
                outcome(
                    each.name,
                    kind=QUERY.kind,
                    at_s=time.monotonic(),
                    quality=0.7,
                    cost_micro_usd=1200,
                    via=choice.via,
                )
            )


def algorithms() -> Iterator[str]:
    """Time one choice of each algorithm."""
    loader = Loader()
    plan = Balancer(
        read_text(
            "[backend.a]\n[algorithm.custom]\n"
            'score = "quality - 0.3*cost_usd - latency_s"\n'
            '[track.m]\nalgorithm = "custom"\nfallback_algorithms = ['
            + ", ".join(
                f'"{each.name}"'
                for each in loader.installed()
                if "algorithm" in read_source(each.module).kinds
                and each.name != "custom"
                and each.distribution == "plb"
            )
            + "]\n"
        ),
        plugins=[FakePlugin(a=FakeBackend())],
    ).plan
    yield f"{'choose, µs':24}{'10':>8}{'1,000':>10}"
    few, many = warm_candidates(10), warm_candidates(1000)
    for name, named in sorted(plan.algorithms.items()):
        choose = named.algorithm.choose
        teach(named.algorithm, few)
        ten = median_choice_us(named.algorithm, few)
        thousand = median_us(
            lambda choose=choose: choose(QUERY, many),  # type: ignore[misc]
            100,
        )
        yield f"{name:24}{ten:8.2f}{thousand:10.1f}"


class _Nth:
    def choose(self, query: Query, candidates: list[Candidate]) -> Choice:
        return Choice(candidates[0])

    def observe(self, outcome: object) -> None:
        pass


class _NthPlugin:
    @hookimpl
    def plb_register_algorithm(self) -> Provider[_Nth]:
        return Provider("first", lambda _s, _c: _Nth())


def ask() -> Iterator[str]:
    """Time a whole in-process question against an instant backend."""
    parts = (
        '[routing]\nclassifier = "biomedical"\ncost_scorer = "tokens"\n'
        'quality_scorer = "basic"\n'
    )
    for label, head, algorithm in (
        ("bare: no scorers", "", "first"),
        ("least_connections", "", "least_connections"),
        ("all scorers on", parts, "least_connections"),
    ):
        config = read_text(
            head + "[backend.a]\n[backend.b]\n[backend.c]\n"
            f'[track.m]\nalgorithm = "{algorithm}"\n'
        )
        backends = FakePlugin(a=FakeBackend(), b=FakeBackend(), c=FakeBackend())
        yield f"ask, {label:24}{asyncio.run(_time_ask(config, backends)):8.1f} µs"


async def _time_ask(config: object, backends: FakePlugin) -> float:
    async with Balancer(config, plugins=[backends, _NthPlugin()]) as balancer:  # type: ignore[arg-type]
        times = []
        for _ in range(CALLS):
            start = time.perf_counter()
            await balancer.ask("What is glycolysis?")
            times.append((time.perf_counter() - start) * 1e6)
        for backend in backends.backends.values():
            backend.calls.clear()  # type: ignore[attr-defined]
    return statistics.median(times[CALLS // 4 :])


def start() -> Iterator[str]:
    """Time imports and whole commands in fresh processes."""
    for label, command in (
        ("python itself", [sys.executable, "-c", ""]),
        ("import plb_core", [sys.executable, "-c", "import plb_core"]),
        (
            'plb ask "…"',
            [
                sys.executable,
                "-m",
                "plb_core.cli",
                "ask",
                "What are metabolic pathways?",
            ],
        ),
        (
            "plb serve until ready",
            [
                *(sys.executable, "-m", "plb_core.cli", "serve", "--once"),
                *("--set", "service.gateway.port=0"),
            ],
        ),
    ):
        times = []
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times.append((time.perf_counter() - begin) * 1e3)
        yield f"{label:28}{statistics.median(times):8.0f} ms"


def gateway() -> Iterator[str]:
    """Compare the gateway with a bare pass-through in one run."""
    from tests.bench import gateway_throughput  # needs aiohttp

    yield from gateway_throughput.report()


PARTS = {"algorithms": algorithms, "ask": ask, "start": start, "gateway": gateway}


def main() -> int:
    """Run the named parts, or all."""
    names = sys.argv[1:]
    record = names[:1] == ["--page"]
    shown = []
    for name in names[record:] or PARTS:
        for line in (f"\n{PARTS[name].__doc__}", *PARTS[name]()):
            print(line, flush=True)
            shown.append(line)
    if record:
        head = PAGE.read_text().partition(MARK)[0]
        where = f"Python {platform.python_version()}, {os.cpu_count()} cores"
        PAGE.write_text("\n".join([f"{head}{MARK}\n\n```text", where, *shown, "```\n"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
