"""Run one fault case: start everything, judge everything, print one JSON line."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import attrs
from loguru import logger

from plb_core.balancer import Balancer
from plb_core.config import Config, read_text
from plb_core.ledger_records import Scope
from plb_core.testing.emulators import (
    Emulator,
    LightRAGEmulator,
    OpenAIEmulator,
    PerplexityEmulator,
)
from tests.faults.load import Load, Sent, percentile_ms
from tests.faults.measure import LagMeter, open_files, peak_mib, reset_peak, rss_mib

FULL: Final = bool(os.environ.get("PLB_FAULTS_FULL"))
RECORD: Final = Path(os.environ.get("PLB_FAULTS_RECORD", "build/faults.jsonl"))
SEED: Final = int(os.environ.get("PLB_FAULTS_SEED", "1"))
RATE: Final = 200.0 if FULL else 100.0
SECONDS: Final = 20.0 if FULL else 2.5
CANARY: Final = "sk-CANARY-5a7d-never-shown"
MOST_LAG_MS: Final = 100.0
SETTLE_S: Final = 2.0

_PLUGINS: Final = {
    LightRAGEmulator: 'plugin = "lightrag"\nmax_in_flight = 64\n',
    PerplexityEmulator: 'plugin = "perplexity"\nmax_in_flight = 64\n'
    'allow_private = true\napi_key_env = "PLB_FAULTS_KEY"\n',
    OpenAIEmulator: 'plugin = "openai"\nallow_private = true\nmodel = "gpt-6-mini"\n'
    'api_key_env = "PLB_FAULTS_KEY"\n',
}


@attrs.define
class Figure:
    """One figure to report, and between which bounds it passes."""

    value: float
    at_most: float | None = None
    at_least: float | None = None

    @property
    def passes(self) -> bool:
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)


def base_latency_s(rng: random.Random) -> float:
    return rng.uniform(0.02, 0.04)


def three_backends() -> dict[str, Emulator]:
    """Return the usual upstreams: two LightRAG servers and one Perplexity."""
    return {
        "graph1": LightRAGEmulator(latency_s=base_latency_s),
        "graph2": LightRAGEmulator(latency_s=base_latency_s),
        "live": PerplexityEmulator(latency_s=base_latency_s),
    }


class Case:
    """A gateway before emulated backends, as `async with Case("F01", …) as case`.

    `via` names another port for a backend, such as a proxy's. `options` adds TOML to a
    backend's section, `routing`, `gateway` and `more` elsewhere. Leaving the block
    closes everything, takes stock, prints and records the line, and asserts.
    """

    def __init__(
        self,
        name: str,
        title: str,
        ups: Mapping[str, Emulator] | None = None,
        *,
        via: Mapping[str, int] | None = None,
        options: Mapping[str, str] | None = None,
        routing: str = "",
        gateway: str = "",
        more: str = "",
        track: str = 'algorithm = "round_robin"',
        plugins: Sequence[object] = (),
        rss_mib: float | None = None,
        lag_ms: float = MOST_LAG_MS,
    ) -> None:
        self.name = name
        self.title = title
        self.ups = dict(three_backends() if ups is None else ups)
        self.via = dict(via or {})
        self.options = options or {}
        self.parts = (routing, track, gateway, more)
        self.plugins = plugins
        self.most_rss_mib = rss_mib
        self.most_lag_ms = lag_ms
        self.sent: list[Sent] = []
        self.figures: dict[str, Figure] = {}
        self.url = ""
        self.balancer: Balancer
        self._stack = AsyncExitStack()
        self._logged: list[str] = []
        self._lag = LagMeter()

    def text(self, replace: tuple[str, str] = ("", "")) -> str:
        """Return the configuration, one piece of it replaced if wanted."""
        routing, track, gateway, more = self.parts
        parts = [f'[routing]\ntrack = "main"\n{routing}\n[track.main]\n{track}\n']
        for name, up in self.ups.items():
            port = self.via.get(name, up.port)
            path = "/v1" if isinstance(up, OpenAIEmulator) else ""
            parts.append(
                f"[backend.{name}]\n{_PLUGINS[type(up)]}"
                f'base_url = "http://127.0.0.1:{port}{path}"\n'
                f"{self.options.get(name, '')}\n"
            )
        parts.append(f"[service.gateway]\nport = 0\n{gateway}\n{more}\n")
        return "".join(parts).replace(*replace) if replace[0] else "".join(parts)

    def config(self, replace: tuple[str, str] = ("", "")) -> Config:
        return read_text(self.text(replace), file="config.toml")

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _start(self) -> None:
        os.environ["PLB_FAULTS_KEY"] = CANARY
        gc.collect()
        self._files, self._tasks = open_files(), len(asyncio.all_tasks())
        sink = logger.add(self._logged.append, level="DEBUG", format="{message}")
        self._stack.callback(logger.remove, sink)
        for number, up in enumerate(self.ups.values()):
            up.seed = SEED + number
            await self._stack.enter_async_context(up)
        self.balancer = Balancer(self.config(), plugins=self.plugins, seed=SEED)
        await self._stack.enter_async_context(self.balancer)
        service = self.balancer.plan.services["gateway"]
        self._stack.push_async_callback(service.close)
        (self.url,) = await service.start(self.balancer)
        reset_peak()
        self._rss_mib = rss_mib()
        await self._stack.enter_async_context(self._lag)

    async def load(self, **options: object) -> Sequence[Sent]:
        """Send the base load, or what `options` of `Load` say; return what came."""
        wanted = {"rate": RATE, "seconds": SECONDS, "seed": SEED, **options}
        load = Load(self.url, **wanted)  # type: ignore[arg-type]
        try:
            return await load.run()
        finally:
            self.sent += load.sent

    def figure(
        self,
        name: str,
        value: float,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        """Note a figure and its pass line."""
        self.figures[name] = Figure(round(value, 3), at_most, at_least)

    def exactly(self, name: str, value: float, wanted: float) -> None:
        self.figure(name, value, at_most=wanted, at_least=wanted)

    @property
    def in_flight(self) -> int:
        return sum(each.in_flight for each in self.balancer.plan.candidates.values())

    def failures(self, sent: Sequence[Sent] | None = None) -> int:
        """How many did not get a complete answer."""
        counted = self.sent if sent is None else sent
        return sum(each.outcome != "ok" for each in counted)

    def posts(self, name: str = "") -> int:
        """How many questions reached one backend, or all."""
        return sum(
            request.method == "POST"
            for each, up in self.ups.items()
            if name in ("", each)
            for request in up.requests
        )

    def ledger_micro_usd(self) -> int | None:
        """What plb's own ledger holds against the upstreams' books.

        Settled, unknown and reserved money; None while the balancer keeps no ledger.
        """
        ledger = getattr(self.balancer, "ledger", None)
        if ledger is None:
            return None
        spent, reserved, _ = ledger.totals()[Scope()]
        return int(spent + reserved)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ledger = None if error else self.ledger_micro_usd()
        growth = peak_mib() - self._rss_mib
        await self._stack.aclose()
        if error is not None:
            return
        files, tasks = await self._settled()
        line = self._line(ledger, growth, files, tasks)
        self._check_always(line, ledger)
        failed = [name for name, each in self.figures.items() if not each.passes]
        line["passed"] = not failed
        line["figures"] = {
            name: attrs.asdict(each) for name, each in self.figures.items()
        }
        record(line)
        assert not failed, {name: self.figures[name] for name in failed} | {
            "troubles": sorted({each.trouble for each in self.sent if each.trouble})
        }

    async def _settled(self) -> tuple[int, int]:
        """Return how many files and tasks are left over, given some time to go."""
        end_s = asyncio.get_running_loop().time() + SETTLE_S
        while True:
            gc.collect()
            files = open_files() - self._files
            tasks = len(asyncio.all_tasks()) - self._tasks
            over = asyncio.get_running_loop().time() > end_s
            if (files <= 0 and tasks <= 0) or over:
                return files, tasks
            await asyncio.sleep(0.02)

    def _line(
        self, ledger: int | None, growth: float, files: int, tasks: int
    ) -> dict[str, object]:
        outcomes = [each.outcome for each in self.sent]
        latencies = [each.latency_s for each in self.sent]
        return {
            "case": self.name,
            "title": self.title,
            "seed": SEED,
            "full": FULL,
            "requests": len(self.sent),
            "ok": outcomes.count("ok"),
            "shed": outcomes.count("shed"),
            "documented_errors": outcomes.count("documented"),
            "undocumented": outcomes.count("undocumented"),
            "lost": outcomes.count("lost"),
            "upstream_calls": sum(len(up.book) for up in self.ups.values()),
            "ledger_usd_micro": ledger,
            "upstream_usd_micro": sum(up.billed_micro_usd for up in self.ups.values()),
            "p50_ms": round(percentile_ms(latencies, 0.5), 1),
            "p99_ms": round(percentile_ms(latencies, 0.99), 1),
            "max_ms": round(1000 * max(latencies, default=0.0), 1),
            "rss_mib": round(growth, 1),
            "fds_delta": files,
            "tasks_delta": tasks,
            "lag_ms": round(1000 * self._lag.worst_s, 1),
        }

    def _check_always(self, line: Mapping[str, object], ledger: int | None) -> None:
        """Hold what must hold in every case, besides its own figures."""
        for name in ("lost", "undocumented"):
            self.exactly(name, float(str(line[name])), 0)
        for name in ("fds_delta", "tasks_delta"):
            self.figure(name, float(str(line[name])), at_most=0)
        self.figure("lag_ms", float(str(line["lag_ms"])), at_most=self.most_lag_ms)
        shown = [*self._logged, *(each.text for each in self.sent)]
        self.exactly("secrets_shown", sum(CANARY in each for each in shown), 0)
        if self.most_rss_mib is not None:
            growth = float(str(line["rss_mib"]))
            self.figure("rss_growth_mib", growth, at_most=self.most_rss_mib)
        if ledger is not None:
            billed = float(str(line["upstream_usd_micro"]))
            self.figure("ledger_usd_micro", ledger, at_least=billed)


def record(line: Mapping[str, object]) -> None:
    """Print a case's line, and append it to the record."""
    written = json.dumps(line, allow_nan=False)
    print(written)
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    with RECORD.open("a") as file:
        file.write(f"{written}\n")


def record_plain(
    name: str, title: str, requests: int, ok: int, figures: Mapping[str, Figure]
) -> None:
    """Record a case that needed no gateway."""
    line = {
        "case": name,
        "title": title,
        "seed": SEED,
        "full": FULL,
        "requests": requests,
        "ok": ok,
        "shed": 0,
        "documented_errors": 0,
        "undocumented": 0,
        "lost": requests - ok,
        "p99_ms": 0.0,
        "passed": requests == ok and all(each.passes for each in figures.values()),
        "figures": {name: attrs.asdict(each) for name, each in figures.items()},
    }
    record(line)
