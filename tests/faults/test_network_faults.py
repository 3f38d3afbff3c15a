"""Connections close at random, the network is thin, clients leave or do not read."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import attrs
import pytest

from plb_core.testing.emulators import (
    Call,
    Emulator,
    Fault,
    OpenAIEmulator,
    share_of_calls,
)
from plb_core.testing.emulators.faults import KnowsErrors
from plb_core.testing.emulators.wire import Reply
from tests.faults.case import FULL, SEED, Case, base_latency_s, three_backends
from tests.faults.load import QUESTION, percentile_ms
from tests.faults.proxy import FaultProxy

pytestmark = [pytest.mark.faults, pytest.mark.asyncio, pytest.mark.timeout(600)]


async def test_f15_idle_connections_close_at_random() -> None:
    ups = three_backends()
    for number, up in enumerate(ups.values()):
        up.faults = share_of_calls(Fault.close_after(), 0.3, SEED + number)
    async with Case("F15", "keep-alive race", ups) as case:
        await case.load()
        attempts = sum(each.attempts for each in case.sent)
        case.exactly("duplicates", case.posts() - attempts, 0)
        failed = case.failures() / len(case.sent)
        case.figure("failed_share", failed, at_most=0.0001)


async def test_f17_a_thin_network() -> None:
    ups = three_backends()
    async with AsyncExitStack() as stack:
        for up in ups.values():
            await up.start()  # the ports are needed first; starting again moves them
            await up.close()
        proxies = {
            name: await stack.enter_async_context(FaultProxy(up.port))
            for name, up in ups.items()
        }
        proxies["graph1"].answers.bandwidth_bytes_per_s = 8 * 1024
        proxies["graph2"].answers.slice_bytes = 1
        proxies["live"].answers.slow_close_s = 0.2
        proxies["live"].answers.latency_s = 0.02
        via = {name: proxy.port for name, proxy in proxies.items()}
        async with Case(
            "F17", "8 KiB/s, 1-byte segments, slow close", ups, via=via
        ) as case:
            await case.load(rate=12.0)
            case.exactly("user_failures", case.failures(), 0)


def asking(port: int, *, stream: bool, model: str = "auto") -> bytes:
    message = {"role": "user", "content": QUESTION}
    body = json.dumps({"model": model, "messages": [message], "stream": stream})
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


async def test_f19_clients_leave_at_each_stage() -> None:
    hanging = Fault.hang()
    stalling = Fault.stall(after_bytes=1200)

    def plan(call: Call) -> Fault | None:
        streamed = call.request.fields.get("stream")
        return stalling if streamed else hanging

    up = OpenAIEmulator(faults=plan)
    count = 1000 if FULL else 150
    slowest_s = 0.0
    loop = asyncio.get_running_loop()
    async with Case("F19", "client leaves at each stage", {"a": up}) as case:
        port = urlsplit(case.url).port
        assert port is not None
        for number in range(count):
            stage = number % 3
            seen, left = len(up.requests), up.abandoned
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            data = asking(port, stream=stage == 2)
            writer.write(data[:-20] if stage == 0 else data)
            await writer.drain()
            if stage == 1:
                await up.until(lambda seen=seen: len(up.requests) > seen)  # type: ignore[misc]
            if stage == 2:
                await reader.readuntil(b"content")
            writer.transport.abort()
            begin_s = loop.time()
            if stage:
                await up.until(lambda left=left: up.abandoned > left)  # type: ignore[misc]
                slowest_s = max(slowest_s, loop.time() - begin_s)
        await asyncio.sleep(0.1)
        case.figure("disconnects", count, at_least=150)
        case.figure("upstream_cancelled_ms", 1000 * slowest_s, at_most=100)
        case.exactly("in_flight_after", case.in_flight, 0)
        case.exactly("asked_without_a_body", len(up.requests) - 2 * count // 3, 0)


SLOW_CLIENTS = 10
LONG_BYTES = 8 * 1024 * 1024


def long_answer() -> Fault:
    """Return a fault that streams some 8 MiB of text in pieces of 16 KiB."""

    def edit(_: KnowsErrors, reply: Reply) -> Reply:
        assert reply.pieces is not None
        chunk = json.loads(reply.pieces[1].removeprefix(b"data: "))
        chunk["choices"][0]["delta"]["content"] = "ATP " * 4096
        piece = b"data: %b\n\n" % json.dumps(chunk).encode()
        middle = (piece,) * (LONG_BYTES // len(piece))
        pieces = reply.pieces[:1] + middle + reply.pieces[2:]
        return attrs.evolve(reply, pieces=pieces)

    return Fault("long", edit, bills=True)


async def test_f20_clients_that_hardly_read() -> None:
    long = long_answer()
    ups: dict[str, Emulator] = {
        "slow": OpenAIEmulator(
            faults=lambda call: long if call.request.method == "POST" else None
        ),
        "quick": OpenAIEmulator(latency_s=base_latency_s),
    }
    count, limit_s = SLOW_CLIENTS, 1.5
    async with Case(
        "F20",
        "client reads 0.5 KiB/s",
        ups,
        gateway=f"write_stall_timeout_s = {limit_s}",
        # Each stream's text so far is kept for its scorers, and the kernel takes some
        # MiB before back-pressure holds; the emulator copies the whole answer twice.
        rss_mib=4.0 * SLOW_CLIENTS + 2 * LONG_BYTES / 2**20,
    ) as case:
        port = urlsplit(case.url).port
        assert port is not None
        loop = asyncio.get_running_loop()
        sockets = []
        for _ in range(count):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", port))
            await loop.sock_sendall(client, asking(port, stream=True, model="slow"))
            sockets.append(client)

        async def sip(client: socket.socket) -> None:
            try:
                while await loop.sock_recv(client, 256):
                    await asyncio.sleep(0.5)
            except OSError:
                return

        await asyncio.sleep(0.5)  # until every buffer on the way is full
        sips = [asyncio.create_task(sip(client)) for client in sockets]
        body = {"model": "quick"}
        sent = await case.load(rate=50.0, seconds=3.5, body=body)
        latencies = [each.latency_s for each in sent]
        await asyncio.wait_for(
            ups["slow"].until(lambda: ups["slow"].abandoned == count), 3.0
        )
        for task in sips:
            task.cancel()
        await asyncio.gather(*sips, return_exceptions=True)
        for client in sockets:
            client.close()
        case.exactly("user_failures", case.failures(sent), 0)
        case.figure("others_p99_ms", percentile_ms(latencies, 0.99), at_most=100)
        case.exactly("stalled_closed", ups["slow"].abandoned, count)
        case.exactly("in_flight_after", case.in_flight, 0)
