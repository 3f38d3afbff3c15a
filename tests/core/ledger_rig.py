"""A ledger over a store that fails, hangs and forgets when told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta, tzinfo

from plb_core.errors import LedgerUnavailable
from plb_core.ledger import Ledger
from plb_core.ledger_records import LedgerRow, LedgerState, Scope
from plb_core.reservation import Reservation
from plb_core.spending import Caps
from plb_core.store import MemoryStore
from plb_core.types import Event


class WallClock:
    """A wall clock that is set by hand."""

    def __init__(self, at: datetime = datetime(2026, 11, 25, 12, tzinfo=UTC)) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def move(self, **by: float) -> None:
        self.at += timedelta(**by)


class ScriptedStore:
    """A store in memory that can be down, and can keep writers waiting.

    `rows` are all rows it took, in order; `down` is the error it raises meanwhile.
    """

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.rows: list[LedgerRow] = []
        self.down: Exception | None = None
        self.hold = False
        self.held: list[tuple[LedgerRow, asyncio.Future[None]]] = []
        self.started = 0
        self.closed = 0

    async def start(self) -> None:
        self.started += 1

    async def close(self) -> None:
        self.go_on()
        self.closed += 1

    async def load(self, day: date) -> LedgerState:
        return await self.inner.load(day)

    def write(self, row: LedgerRow) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.hold:
            self.held.append((row, future))
        else:
            self._take(row, future)
        return future

    async def until_held(self, rows: int = 1) -> None:
        """Wait until so many rows are kept waiting."""
        while len(self.held) < rows:
            await asyncio.sleep(0)

    def go_on(self) -> None:
        """Serve who waits; rows are taken even when nobody waits any more."""
        self.hold = False
        held, self.held = self.held, []
        for row, future in held:
            self._take(row, future)

    def states(self, attempt_id: str) -> list[str]:
        return [row.state for row in self.rows if row.attempt_id == attempt_id]

    def _take(self, row: LedgerRow, future: asyncio.Future[None]) -> None:
        error: BaseException | None = self.down
        if error is None:
            error = self.inner.write(row).exception()
        if error is None:
            self.rows.append(row)
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


class Rig:
    """A ledger, its store, clock and events."""

    def __init__(
        self,
        limits: Mapping[Scope, int] | int | None = None,
        *,
        zone: tzinfo = UTC,
        alert_share: float = 0.8,
        store: ScriptedStore | None = None,
        wall: WallClock | None = None,
    ) -> None:
        if isinstance(limits, int):
            limits = {Scope(): limits}
        self.wall = wall or WallClock()
        self.store = store or ScriptedStore()
        self.events: list[Event] = []
        self.ledger = Ledger(
            Caps(limits or {}, alert_share),
            zone,
            self.wall,
            self.store,
            self.events.append,
        )
        self._number = len(self.store.rows)  # ids are never used again

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Rig]:
        faults: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: faults.append(context))
        await self.ledger.open()
        yield self
        await self.ledger.close()
        await asyncio.sleep(0)
        assert not faults

    async def reserve(
        self,
        ceiling: int = 100,
        *,
        attempt: str = "",
        backend: str = "web",
        track: str = "main",
        client: str = "",
    ) -> Reservation:
        self._number += 1
        attempt = attempt or f"a{self._number}"
        return await self.ledger.reserve(
            attempt, "req_1", backend, track, client, ceiling
        )

    def total(self, kind: str = "all", name: str = "") -> tuple[int, int]:
        spent, reserved, _ = self.ledger.totals()[Scope(kind, name)]  # type: ignore[arg-type]  # a word
        return spent, reserved

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]


def unavailable(message: str = "the disk is full") -> LedgerUnavailable:
    return LedgerUnavailable(message)
