"""The ledger's store in memory: nothing survives the process."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from datetime import date
from typing import Final

from plb_core.ledger_records import LedgerRow, LedgerState, Scope, scopes

CLOSED_KEPT: Final = 10_000
"""Closed rows remembered, so that late and double steps are still refused."""

DAYS_KEPT: Final = 3
"""Days whose sums are remembered: rows of yesterday may still be open."""


class MemoryStore:
    """Keeps sums by day and the newest rows; its writes never fail and never wait."""

    def __init__(self) -> None:
        self._open: dict[str, LedgerRow] = {}
        self._closed: OrderedDict[str, LedgerRow] = OrderedDict()
        self._spent: dict[date, dict[Scope, int]] = {}

    async def start(self) -> None:
        """Do nothing: there is nothing to open."""

    async def close(self) -> None:
        """Do nothing: what is stored stays until the object goes."""

    async def load(self, day: date) -> LedgerState:
        """Return the sums of `day`, or of the newest day if that is later."""
        days = [*self._spent, *(row.day for row in self._open.values())]
        day = max(day, *days) if days else day
        spent = dict(self._spent.get(day, {}))
        return LedgerState(day, spent, tuple(self._open.values()))

    def write(self, row: LedgerRow) -> asyncio.Future[None]:
        """Take a row in."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        known = self._open.get(row.attempt_id) or self._closed.get(row.attempt_id)
        follows = known.becomes(row) if known else row.state == "reserved"
        if follows:
            self._take(row, known)
            future.set_result(None)
        else:
            before = known.state if known else "nothing"
            message = f"attempt {row.attempt_id!r} cannot be {row.state} after {before}"
            future.set_exception(ValueError(message))
        return future

    def _take(self, row: LedgerRow, known: LedgerRow | None) -> None:
        if row.state == "reserved":
            self._open[row.attempt_id] = row
            return
        self._open.pop(row.attempt_id, None)
        self._closed[row.attempt_id] = row
        if len(self._closed) > CLOSED_KEPT:
            self._closed.popitem(last=False)
        before = 0
        if known is not None and known.state != "reserved":
            before = known.charged_micro_usd
        spent = self._spent.setdefault(row.day, defaultdict(int))
        for scope in scopes(row.backend, row.track, row.client):
            spent[scope] += row.charged_micro_usd - before
        if len(self._spent) > DAYS_KEPT:
            del self._spent[min(self._spent)]
