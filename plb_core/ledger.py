"""The money's ledger: reserve before a request is sent, settle when its bill is known.

Decisions are made in memory, synchronously, against all budgets at once; a
reservation is durable in the store before `reserve` returns.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import date, datetime, tzinfo
from functools import partial
from typing import TYPE_CHECKING, Final

from plb_core.day import DayClock
from plb_core.errors import BudgetExhausted, LedgerUnavailable
from plb_core.ledger_records import LedgerRow, Scope
from plb_core.reservation import Reservation
from plb_core.spending import LARGEST_MICRO_USD, UNLIMITED, Caps, Counter, Spending
from plb_core.types import Event

if TYPE_CHECKING:
    from plb_core.protocols import Store

UNKNOWN_KEPT: Final = 4096
"""Attempts of unknown outcome that can still be reconciled; older ones stay charged
at their ceiling."""


class Ledger:
    """Counts and limits what is spent a day.

    `caps` are the day's limits, `zone` says when a day begins, `wall_now` returns
    aware times, `announce` takes rare events. The ledger starts and closes `store`.
    Names of backends, tracks and clients are configured ones, "" for none.
    """

    def __init__(
        self,
        caps: Caps,
        zone: tzinfo,
        wall_now: Callable[[], datetime],
        store: Store,
        announce: Callable[[Event], None],
    ) -> None:
        self._caps = caps
        self._days = DayClock(zone, wall_now)
        self._wall_now = wall_now
        self._store = store
        self._announce = announce
        self._day = date.min
        self._spending = Spending(caps)
        # Ordered: a dict finds its oldest key ever more slowly as keys are deleted.
        self._unknown: OrderedDict[str, Reservation] = OrderedDict()
        self._unwritten: dict[str, LedgerRow] = {}
        self._available = True
        self._freed: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Start the store and take over the day's sums.

        What earlier runs left reserved becomes unknown, charged at its ceiling.
        Raises `ConfigError` when the store cannot be trusted, `LedgerUnavailable`
        when it cannot be written.
        """
        await self._store.start()
        try:
            await self._take_over()
        except BaseException:
            await self._store.close()
            raise

    async def close(self) -> None:
        """Make everything durable and close the store; open reservations stay open."""
        self._write_again()
        await self._store.close()

    def limit(self, caps: Caps) -> None:
        """Replace the caps from now on; what is spent and reserved stays."""
        self._caps = caps
        self._spending.limit(caps)
        self._wake()

    def fits(self, backend: str, track: str, client: str) -> int | None:
        """Return the micro-USD that such an attempt may reserve now.

        That is what the tightest of its budgets has left today; None: no budget.
        """
        room = self._today().room(backend, track, client)
        if room == UNLIMITED:
            return None
        return max(room, 0)

    async def reserve(  # noqa: PLR0917 - the columns of a row, in its order
        self,
        attempt_id: str,
        request_id: str,
        backend: str,
        track: str,
        client: str,
        ceiling_micro_usd: int,
    ) -> Reservation:
        """Hold an attempt's highest possible cost; durable when this returns.

        Raises `BudgetExhausted` or `LedgerUnavailable`, and then holds nothing;
        `ValueError` for a ceiling that is not an amount. Cancelling gives it back.
        """
        if type(ceiling_micro_usd) is not int or not (
            0 <= ceiling_micro_usd <= LARGEST_MICRO_USD
        ):
            message = f"a ceiling cannot be {ceiling_micro_usd!r} micro-dollars"
            raise ValueError(message)
        counters = self._today().counters(backend, track, client)
        tightest = min(counters, key=_room)
        if tightest.room < ceiling_micro_usd:
            raise self._refused(tightest)
        row = LedgerRow(
            attempt_id,
            request_id,
            self._day,
            backend,
            track,
            client,
            ceiling_micro_usd,
            ceiling_micro_usd,
            "reserved",
            self._wall_now(),
        )
        reservation = Reservation(row, counters, self._moved, self._announce)
        reservation.hold()
        self._write_again()
        try:
            await self._store.write(row)
        except Exception as error:
            reservation.undo()
            self._wake()
            self._failed(error)
            raise _unavailable(error) from error
        except BaseException:  # cancelled: nothing was sent, and the row may stand
            reservation.release()
            raise
        self._works()
        return reservation

    def reconcile(self, attempt_id: str, actual_micro_usd: int) -> bool:
        """Settle an attempt of unknown outcome by the bill that came later.

        Returns whether such an attempt was known.
        """
        reservation = self._unknown.pop(attempt_id, None)
        if reservation is None:
            return False
        reservation.reconcile(actual_micro_usd)
        return True

    async def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until money is given back; False when none was within `timeout_s`.

        Returns False at once when nothing is reserved that could be given back.
        """
        if not self._today().reserved:
            return False
        if self._freed is None:
            self._freed = asyncio.get_running_loop().create_future()
        # Not `wait_for`: the future is shared by all who wait.
        done, _ = await asyncio.wait([self._freed], timeout=timeout_s)
        return bool(done)

    def totals(self) -> Mapping[Scope, tuple[int, int, int | None]]:
        """Return today's (spent, reserved, cap) in micro-USD by scope."""
        return {
            counter.scope: (counter.spent, counter.reserved, counter.cap)
            for counter in self._today()
        }

    def _today(self) -> Spending:
        day = self._days.today()
        if day is not self._day:
            self._day = day
            self._spending = Spending(self._caps)
        return self._spending

    async def _take_over(self) -> None:
        state = await self._store.load(self._days.today())
        self._days.not_before(state.day)
        spending = self._today()
        for scope, spent in state.spent.items():
            counter = spending.counter(scope)
            if counter is not None:
                counter.add(spent, 0)
                counter.alert_is_due()  # it was announced when it was reached
        nowhere = Spending(Caps())
        for row in state.reserved:
            day = spending if row.day == self._day else nowhere
            counters = day.counters(row.backend, row.track, row.client)
            left = Reservation(row, counters, self._moved, self._announce)
            left.hold()
            left.unknown()
        if state.reserved:
            # One more write of the last row: rows become durable in order.
            await self._store.write(left.row)

    def _refused(self, counter: Counter) -> BudgetExhausted:
        if not counter.refused:
            counter.refused = True
            self._announce(self._budget_event("budget_exhausted", counter, self._day))
        return BudgetExhausted(counter.scope, max(counter.room, 0), self._days.left_s())

    def _moved(self, reservation: Reservation, freed_micro_usd: int) -> None:
        row = reservation.row
        if row.state == "unknown":
            self._unknown[row.attempt_id] = reservation
            if len(self._unknown) > UNKNOWN_KEPT:
                self._unknown.popitem(last=False)
        self._write(row)
        if freed_micro_usd:
            self._wake()
        for counter in reservation.counters:
            if counter.alert_is_due():
                self._announce(self._budget_event("budget_alert", counter, row.day))

    def _budget_event(self, name: str, counter: Counter, day: date) -> Event:
        return Event(
            name,
            {
                "scope": counter.scope.kind,
                "name": counter.scope.name,
                "day": day.isoformat(),
                "spent_micro_usd": counter.spent,
                "reserved_micro_usd": counter.reserved,
                "cap_micro_usd": counter.cap,
            },
        )

    def _wake(self) -> None:
        if self._freed is not None and not self._freed.done():
            self._freed.set_result(None)
        self._freed = None

    def _write(self, row: LedgerRow) -> None:
        self._store.write(row).add_done_callback(partial(self._written, row))

    def _write_again(self) -> None:
        """Write what a failing store did not take; it is few, as nothing is sent."""
        if self._unwritten:
            rows, self._unwritten = self._unwritten, {}
            for row in rows.values():
                self._write(row)

    def _written(self, row: LedgerRow, done: asyncio.Future[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is None:
            self._unwritten.pop(row.attempt_id, None)
        elif isinstance(error, LedgerUnavailable):
            self._unwritten[row.attempt_id] = row
            self._failed(error)
        elif row.state != "released":  # cancelled before its reservation was stored
            data = {"attempt_id": row.attempt_id, "state": row.state}
            self._announce(Event("ledger_row_refused", data))

    def _failed(self, error: BaseException) -> None:
        if self._available:
            self._available = False
            self._announce(Event("ledger_unavailable", {"reason": str(error)[:200]}))

    def _works(self) -> None:
        if not self._available:
            self._available = True
            self._announce(Event("ledger_available"))


def _room(counter: Counter) -> int:
    return counter.room


def _unavailable(error: Exception) -> LedgerUnavailable:
    if isinstance(error, LedgerUnavailable):
        return LedgerUnavailable(str(error))
    return LedgerUnavailable(f"the ledger's store failed: {type(error).__name__}")
