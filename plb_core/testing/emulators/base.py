"""The part that all emulators share: serving, delaying, failing, keeping the book."""

from __future__ import annotations

import asyncio
import json
import os
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import attrs

from plb_core.testing.emulators.facts import token_count
from plb_core.testing.emulators.faults import Call, Fault, Plan
from plb_core.testing.emulators.wire import (
    MAX_HEAD_BYTES,
    NotHttp,
    Reply,
    Request,
    Wire,
)
from plb_core.types import Price

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

Latency = float | Callable[[random.Random], float]
Faults = list[Fault | None] | Plan


@attrs.frozen
class BilledCall:
    """One call in an emulator's book; `bytes` is the size of the answer's body."""

    call_id: str
    path: str
    micro_usd: int
    bytes: int


@attrs.frozen
class Tokens:
    """How many tokens a call used."""

    input: int
    output: int


@attrs.define(kw_only=True)
class Emulator(ABC):
    """A backend that listens on 127.0.0.1, answers from a few facts and can fail.

    All options may be changed while it runs. `latency_s` delays every POST: seconds,
    or a function of a seeded random source. `gap_s` lies between the pieces of a
    stream. `faults` is a list consumed from the front, one per request on any path, or
    a plan; `hidden` is a failure behind 200 that lasts. `price` and `usage` replace the
    emulator's own prices and token counts. Each billed call is appended to `book`, and
    as one JSON line to `book_file`, before the answer leaves.
    """

    hidden_failures: ClassVar[frozenset[str]] = frozenset()

    port: int = 0
    latency_s: Latency = 0.0
    gap_s: float = 0.0
    faults: Faults = attrs.field(factory=list)
    hidden: str = ""
    price: Price | None = None
    usage: Tokens | None = None
    book_file: Path | None = None
    seed: int = 0
    requests: list[Request] = attrs.field(factory=list, init=False)
    book: list[BilledCall] = attrs.field(factory=list, init=False)
    abandoned: int = attrs.field(default=0, init=False)
    _server: asyncio.Server | None = attrs.field(default=None, init=False)
    _tasks: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)
    _failures: list[Exception] = attrs.field(factory=list, init=False)
    _news: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _rng: random.Random = attrs.field(init=False)
    _started_s: float = attrs.field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    @abstractmethod
    def handle(self, request: Request, hidden: str) -> Reply:
        """Return the reply to a request, failing as `hidden` says ("": not at all)."""

    @abstractmethod
    def error(self, status: int) -> Reply:
        """Return an error in this backend's own form."""

    @property
    def url(self) -> str:
        """The address without a path; the port is known once it was started."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def billed_micro_usd(self) -> int:
        """The sum of the book."""
        return sum(call.micro_usd for call in self.book)

    async def start(self) -> None:
        """Begin to listen, on a free port unless `port` is set."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, limit=MAX_HEAD_BYTES
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._started_s = asyncio.get_running_loop().time()

    async def close(self) -> None:
        """Stop listening and drop every connection.

        Raises the first mistake of the emulator itself, such as an unknown hidden
        failure; a client saw it as a dropped connection.
        """
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._failures:
            raise self._failures[0]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on this emulator's records holds."""
        while not condition():
            self._news.clear()
            await self._news.wait()

    def charge(
        self, tokens: Tokens, searches: int = 0, price: Price | None = None
    ) -> int:
        """Return what a call costs in micro-USD, a fraction counted as one.

        `price` is the emulator's own; one that was set replaces it.
        """
        price = self.price or price or Price()
        parts = (
            tokens.input * price.input_micro_usd_per_mtok
            + tokens.output * price.output_micro_usd_per_mtok
        )
        whole = price.request_micro_usd + searches * price.search_micro_usd
        return whole - (-parts // 1_000_000)

    def tokens(self, prompt: str, completion: str) -> Tokens:
        """Return the set usage, or a count of both texts."""
        return self.usage or Tokens(token_count(prompt), token_count(completion))

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        wire = Wire(reader, writer)
        try:
            while (request := await wire.read()) is not None:
                if not await self._answer(wire, request):
                    break
        except (ConnectionError, NotHttp, asyncio.IncompleteReadError):
            self.abandoned += 1
        except asyncio.CancelledError:
            writer.transport.abort()
        except Exception as error:  # noqa: BLE001 - shown by `close`
            self._failures.append(error)
        finally:
            await wire.close()
            self._tasks.discard(task)
            self._news.set()

    async def _answer(self, wire: Wire, request: Request) -> bool:
        self.requests.append(request)
        number = len(self.requests)
        fault = self._fault(Call(number, self._age_s(), request))
        self._news.set()
        reply = self._reply(request, fault)
        if reply.micro_usd is not None and (fault is None or fault.bills):
            self._bill(f"call-{number}", request.path, reply)
        await asyncio.sleep(self._delay_s(request, reply))
        if wire.client_left:
            self.abandoned += 1
            return False
        if fault is None or fault.play is None:
            await wire.send(reply, gap_s=self.gap_s)
        else:
            await fault.play(wire, reply)
        if fault is not None and fault.drops:
            self.abandoned += wire.client_left
            return False
        return request.headers.get("connection", "").lower() != "close"

    def _reply(self, request: Request, fault: Fault | None) -> Reply:
        hidden = self.hidden
        if fault is not None and fault.hidden:
            hidden = fault.hidden
        if hidden and hidden not in self.hidden_failures:
            known = ", ".join(sorted(self.hidden_failures))
            raise ValueError(f"no hidden failure {hidden!r}; known: {known}")
        reply = self.handle(request, hidden)
        return reply if fault is None else fault.edit(self, reply)

    def _fault(self, call: Call) -> Fault | None:
        if callable(self.faults):
            return self.faults(call)
        return self.faults.pop(0) if self.faults else None

    def _delay_s(self, request: Request, reply: Reply) -> float:
        if request.method != "POST":
            return reply.delay_s
        latency = self.latency_s
        drawn_s = latency(self._rng) if callable(latency) else latency
        return drawn_s + reply.delay_s

    def _bill(self, call_id: str, path: str, reply: Reply) -> None:
        assert reply.micro_usd is not None
        call = BilledCall(call_id, path, reply.micro_usd, len(reply.content))
        self.book.append(call)
        if self.book_file is not None:
            line = json.dumps(attrs.asdict(call)).encode() + b"\n"
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            target = os.open(self.book_file, flags, 0o644)
            try:
                # One write to an appending descriptor: whole lines from any process.
                os.write(target, line)
            finally:
                os.close(target)

    def _age_s(self) -> float:
        return asyncio.get_running_loop().time() - self._started_s
