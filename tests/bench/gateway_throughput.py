"""Compare the gateway with a bare aiohttp pass-through before one instant upstream.

`python -m tests.bench.gateway_throughput [pairs [window_s]]` prints throughput and
CPU per request as ratios to the pass-through, window by window in turn, and beside
them the ratio of a second pass-through to the first: what that differs from 1 is
noise. Servers run on one core, load and upstream on another, where the system lets
a program choose.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar, cast

import aiohttp
import attrs
from aiohttp import web

Returned = TypeVar("Returned")
CONNECTIONS: Final = 64
TEXT: Final = "Cells turn nutrients into energy along metabolic pathways. " * 30
COMPLETION: Final = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": 400, "total_tokens": 412},
    }
).encode()
QUESTION: Final = json.dumps(
    {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Answer briefly. " * 20},
            {"role": "user", "content": "What are metabolic pathways? " * 10},
        ],
        "temperature": 0.2,
    }
).encode()
CONFIG: Final = """
[track.main]
algorithm = "least_connections"
[backend.up]
plugin = "openai"
base_url = "{url}/v1"
allow_private = true
max_in_flight = 1000
[backend.up.models]
m = "m"
[service.gateway]
port = 0
"""


class Upstream(asyncio.Protocol):
    """Answers every request at once with the same completion."""

    ANSWER = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(COMPLETION)
    ) + COMPLETION

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods but not the base class.
        self.transport = cast("asyncio.Transport", transport)
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while True:
            head, found, rest = self.received.partition(b"\r\n\r\n")
            if not found:
                return
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            if len(rest) < length:
                return
            self.received = rest[length:]
            self.transport.write(self.ANSWER)


async def serve_upstream() -> str:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def serve_reference(upstream: str) -> str:
    session = aiohttp.ClientSession()
    target = f"{upstream}/v1/chat/completions"
    kind = {"Content-Type": "application/json"}

    async def forward(request: web.Request) -> web.Response:
        body = await request.read()
        async with session.post(target, data=body, headers=kind) as answer:
            return web.Response(
                body=await answer.read(), status=answer.status, headers=kind
            )

    app = web.Application()
    app.router.add_post("/v1/chat/completions", forward)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}"


async def serve_plb(upstream: str) -> str:
    from plb_core.balancer import Balancer
    from plb_core.config import read_text

    balancer = Balancer(read_text(CONFIG.format(url=upstream)))
    await balancer.start()
    (service,) = balancer.plan.services.values()
    (address,) = await service.start(balancer)
    return address


def serve(role: str, upstream: str) -> None:
    """Run one server until stdin closes; print its address first."""

    async def run() -> None:
        match role:
            case "upstream":
                address = await serve_upstream()
            case "plb":
                address = await serve_plb(upstream)
            case _:
                address = await serve_reference(upstream)
        print(address, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        os._exit(0)

    pin(1 if role == "upstream" else 0)
    run_fast(run())


def pin(core: int) -> None:
    with suppress(AttributeError, OSError, IndexError):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[core]})


def run_fast(main: Coroutine[None, None, Returned]) -> Returned:
    """Run on uvloop where the extra `speed` is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


@attrs.frozen
class Server:
    """A server process under test."""

    port: int
    pid: int

    def cpu_s(self) -> float:
        """Return the CPU seconds it has used, NaN where /proc is missing."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return float("nan")
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def started(role: str, upstream: str = "") -> AsyncIterator[tuple[str, Server]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.gateway_throughput",
        role,
        upstream,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = (await process.stdout.readline()).decode().strip()
        yield address, Server(int(address.rpartition(":")[2]), process.pid)
    finally:
        process.stdin.close()
        await process.wait()


class Client(asyncio.Protocol):
    """Sends one request after another and counts whole answers."""

    def __init__(self, count: list[int], port: int) -> None:
        self.count = count
        self.request = REQUEST % (port, len(QUESTION), QUESTION)
        self.missing = 0
        self.running = True
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods but not the base class.
        self.transport = cast("asyncio.Transport", transport)
        self.ask()

    def ask(self) -> None:
        self.received = b""
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        if len(body) < length:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(head.decode() + body.decode()[:500])
        self.count[0] += 1
        if self.running:
            self.ask()
        else:
            self.transport.close()
            self.done.set_result(None)


REQUEST: Final = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
)


async def measure(server: Server, window_s: float, connections: int) -> list[float]:
    """Return requests per second, and CPU microseconds per request."""
    loop = asyncio.get_running_loop()
    count = [0]
    clients = []
    for _ in range(connections):
        _, client = await loop.create_connection(
            lambda: Client(count, server.port), "127.0.0.1", server.port
        )
        clients.append(client)
    await asyncio.sleep(window_s / 5)
    count[0] = 0
    cpu_s, begun_s = server.cpu_s(), loop.time()
    await asyncio.sleep(window_s)
    answered, taken_s = count[0], loop.time() - begun_s
    cpu_us = (server.cpu_s() - cpu_s) / answered * 1e6
    for client in clients:
        client.running = False
    await asyncio.gather(*(client.done for client in clients))
    return [answered / taken_s, cpu_us]


def summary(values: list[float]) -> str:
    low, _, high = statistics.quantiles(values, n=4)
    return f"{statistics.median(values):6.2f}  (middle half {low:.2f} to {high:.2f})"


async def compare(pairs: int, window_s: float) -> list[str]:
    """Measure in turn; return the lines to print."""
    async with AsyncExitStack() as stack:
        upstream, _ = await stack.enter_async_context(started("upstream"))
        servers = [
            (await stack.enter_async_context(started(role, upstream)))[1]
            for role in ("reference", "plb", "reference")
        ]
        pin(1)
        rows = [
            [await measure(server, window_s, CONNECTIONS) for server in servers]
            for _ in range(pairs)
        ]
        single = [
            [1e6 / (await measure(server, window_s / 2, 1))[0] for server in servers]
            for _ in range(pairs // 2)
        ]
    ratios = (
        ("gateway / pass-through, requests per s", [b[0] / a[0] for a, b, _ in rows]),
        ("gateway / pass-through, CPU per request", [b[1] / a[1] for a, b, _ in rows]),
        ("null test: pass-through / pass-through", [c[0] / a[0] for a, _, c in rows]),
        ("one connection: gateway / pass-through, time", [b / a for a, b, _ in single]),
        ("one connection: null test, time", [c / a for a, _, c in single]),
    )
    lines = [f"{title:46} {summary(values)}" for title, values in ratios]
    for index, name in enumerate(("pass-through", "gateway", "pass-through again")):
        rate = statistics.median(row[index][0] for row in rows)
        cpu_us = statistics.median(row[index][1] for row in rows)
        lines.append(f"{name:46} {rate:6.0f} /s {cpu_us:5.0f} µs CPU")
    return lines


def report(pairs: int = 20, window_s: float = 0.5) -> Iterator[str]:
    """Run the comparison and yield its lines."""
    yield f"gateway: {CONNECTIONS} connections, {pairs} pairs of {window_s} s"
    yield from run_fast(compare(pairs, window_s))


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].isdecimal():
        serve(sys.argv[1], sys.argv[2])
    else:
        for line in report(*map(int, sys.argv[1:2]), *map(float, sys.argv[2:3])):
            print(line)
