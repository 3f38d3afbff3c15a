"""The rig itself: the proxy spoils what it is told to, the page says what happened."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.faults.load import Sent
from tests.faults.page import page
from tests.faults.proxy import FaultProxy

ANSWER = b"0123456789" * 100


@asynccontextmanager
async def proxied() -> AsyncIterator[FaultProxy]:
    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readline()
        writer.write(ANSWER)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, FaultProxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


async def exchange(proxy: FaultProxy, patience_s: float = 5.0) -> tuple[bytes, float]:
    """Return what comes back, and how long it took."""
    loop = asyncio.get_running_loop()
    begin_s = loop.time()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(b"question\n")
        data = await asyncio.wait_for(reader.read(), patience_s)
    finally:
        writer.close()
    return data, loop.time() - begin_s


@pytest.mark.asyncio
async def test_without_toxics_everything_passes() -> None:
    async with proxied() as proxy:
        assert (await exchange(proxy))[0] == ANSWER
        assert proxy.connections == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("spoil", "least_s"),
    [
        (lambda toxics: setattr(toxics, "latency_s", 0.1), 0.1),
        (lambda toxics: setattr(toxics, "bandwidth_bytes_per_s", 10_000), 0.09),
        (lambda toxics: setattr(toxics, "slow_close_s", 0.1), 0.1),
        (lambda toxics: toxics.__init__(slice_bytes=100, slice_gap_s=0.01), 0.1),
    ],
    ids=["latency", "bandwidth", "slow_close", "slicer"],
)
async def test_slow_toxics_pass_everything_later(
    spoil: Callable[[object], object], least_s: float
) -> None:
    async with proxied() as proxy:
        spoil(proxy.answers)
        data, took_s = await exchange(proxy)
        assert data == ANSWER
        assert took_s >= least_s


@pytest.mark.asyncio
async def test_limited_data_ends_early() -> None:
    async with proxied() as proxy:
        proxy.answers.limit_bytes = 15
        assert (await exchange(proxy))[0] == ANSWER[:15]


@pytest.mark.asyncio
async def test_a_timeout_passes_nothing_and_closes() -> None:
    async with proxied() as proxy:
        proxy.answers.timeout_s = 0.1
        data, took_s = await exchange(proxy)
        assert data == b""
        assert took_s >= 0.1


@pytest.mark.asyncio
async def test_a_timeout_of_zero_never_closes() -> None:
    async with proxied() as proxy:
        proxy.answers.timeout_s = 0.0
        with pytest.raises(TimeoutError):
            await exchange(proxy, 0.2)


@pytest.mark.asyncio
async def test_a_reset_is_a_reset() -> None:
    async with proxied() as proxy:
        proxy.answers.latency_s = 1.0
        proxy.answers.reset_s = 0.05
        with pytest.raises(ConnectionResetError):
            await exchange(proxy)


@pytest.mark.asyncio
async def test_down_refuses_until_it_is_up_again() -> None:
    async with proxied() as proxy:
        await proxy.set_down(True)
        assert proxy.down
        with pytest.raises(ConnectionRefusedError):
            await exchange(proxy)
        await proxy.set_down(False)
        await proxy.set_down(False)
        assert (await exchange(proxy))[0] == ANSWER


@pytest.mark.parametrize(
    ("facts", "outcome"),
    [
        ({}, "lost"),
        ({"status": 200, "complete": True}, "ok"),
        ({"status": 200}, "lost"),
        ({"status": 200, "marked": True}, "documented"),
        ({"status": 429, "code": "backends_busy", "complete": True}, "shed"),
        ({"status": 504, "code": "backend_timeout", "complete": True}, "documented"),
        ({"status": 500, "code": "backend_timeout", "complete": True}, "undocumented"),
        ({"status": 418, "code": "teapot", "complete": True}, "undocumented"),
        ({"status": 429, "code": "backends_busy"}, "undocumented"),
    ],
)
def test_what_a_client_makes_of_it(facts: dict[str, object], outcome: str) -> None:
    assert Sent(0, False, 0.0, **facts).outcome == outcome  # type: ignore[arg-type]


def test_the_page_shows_the_last_line_of_each_case_and_what_does_not_pass() -> None:
    line: dict[str, object] = {
        "case": "F01",
        "title": "refuses",
        "seed": 3,
        "full": False,
        "requests": 300,
        "ok": 299,
        "shed": 1,
        "documented_errors": 0,
        "lost": 0,
        "p99_ms": 12.5,
        "passed": True,
        "figures": {
            "failures": {"value": 0, "at_most": 0, "at_least": 0},
            "p99_ms": {"value": 9.0, "at_most": 50, "at_least": 1},
            "seen": {"value": 4, "at_most": None, "at_least": None},
            "lost": {"value": 0, "at_most": 0, "at_least": 0},
        },
    }
    late = {"value": 120.0, "at_most": 100, "at_least": None}
    failed = {**line, "case": "F02", "passed": False, "figures": {"lag_ms": late}}
    written = page([json.dumps(each) for each in (failed, {**line, "ok": 1}, line)])
    assert written.count("| F01 | refuses | 300 | 299 | 1 | 12.5 |") == 1
    assert "failures 0 (= 0); p99_ms 9 (≥ 1, ≤ 50); seen 4 |" in written
    assert "| F02 (does not pass) |" in written
    assert "lag_ms 120 (≤ 100)" in written
    assert "Lost requests: 0 of 600 (95 % bound 0.5 %)." in written
