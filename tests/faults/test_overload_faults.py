"""Ten times as much is asked as the backend can answer."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable

import aiohttp
import pytest

from plb_core.testing.emulators import OpenAIEmulator
from tests.faults.case import FULL, Case
from tests.faults.load import percentile_ms

pytestmark = [pytest.mark.faults, pytest.mark.asyncio, pytest.mark.timeout(600)]
WORKERS, WORK_S = (10, 0.1) if FULL else (3, 0.1)
CAPACITY = WORKERS / WORK_S
OVERLOAD_S = 60.0 if FULL else 3.0


def workers() -> Callable[[random.Random], float]:
    """Return a latency as of so many workers, each busy for the same time."""
    free_at_s = [0.0] * WORKERS

    def latency_s(_: random.Random) -> float:
        now_s = asyncio.get_running_loop().time()
        done_s = max(now_s, free_at_s[0]) + WORK_S
        heapq.heapreplace(free_at_s, done_s)
        return done_s - now_s

    return latency_s


async def watch_health(url: str, latencies_s: list[float]) -> None:
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession() as session:
        while True:
            begin_s = loop.time()
            async with session.get(f"{url}/healthz") as answer:
                assert answer.status == 200
            latencies_s.append(loop.time() - begin_s)
            await asyncio.sleep(0.1)


async def test_f36_ten_times_the_capacity() -> None:
    up = OpenAIEmulator(latency_s=workers())
    checks: list[float] = []
    async with Case(
        "F36",
        "overload 10 x capacity",
        {"a": up},
        options={"a": "max_in_flight = 1024"},
        more=f"[overload]\nmax_in_flight = {WORKERS}\n",
        rss_mib=200,
    ) as case:
        base = await case.load(rate=0.7 * CAPACITY, seconds=1.0, stream_every=0)
        watching = asyncio.create_task(watch_health(case.url, checks))
        sent = await case.load(
            rate=10 * CAPACITY, seconds=OVERLOAD_S, stream_every=0, patience_s=30.0
        )
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await asyncio.sleep(1.0)
        after = await case.load(rate=0.7 * CAPACITY, seconds=1.0, stream_every=0)
        good = [each for each in sent if each.outcome == "ok"]
        shed = [each.latency_s for each in sent if each.outcome == "shed"]
        took = [each.latency_s for each in good]
        goodput = len(good) / OVERLOAD_S / CAPACITY
        ratio = percentile_ms(took, 0.99) / percentile_ms(
            [each.latency_s for each in base], 0.5
        )
        without = sum(
            each.retry_after_ms is None for each in sent if each.outcome == "shed"
        )
        case.figure("goodput_share", goodput, at_least=0.9)
        # Those of the first moments, before the overload is noticed, waited in turn:
        # too few to count in a minute, but a good part of three seconds.
        case.figure("admitted_p99_of_base", ratio, at_most=2.0 if FULL else 10.0)
        case.figure(
            "shed_p99_ms", percentile_ms(shed, 0.99), at_most=20 if FULL else 200
        )
        case.exactly("shed_without_retry_after", without, 0)
        case.figure("healthz_p99_ms", percentile_ms(checks, 0.99), at_most=50)
        case.exactly("failures_after", case.failures(after), 0)
