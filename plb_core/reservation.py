"""The money held for one attempt, and the one way in which that ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from plb_core.ledger_records import LedgerRow, RowState
from plb_core.types import Event

if TYPE_CHECKING:
    from plb_core.spending import Counter


class Reservation:
    """One attempt's money in every budget it counts against.

    `settle`, `unknown` and `release` end it; the first wins, later ones do nothing.
    All are synchronous and nobody waits for the disk: until the end is durable, the
    stored row stands at the ceiling.
    """

    __slots__ = ("_announce", "_moved", "counters", "row")

    def __init__(
        self,
        row: LedgerRow,
        counters: tuple[Counter, ...],
        moved: Callable[[Reservation, int], None],
        announce: Callable[[Event], None],
    ) -> None:
        self.row = row
        self.counters = counters
        self._moved = moved
        self._announce = announce

    def settle(self, actual_micro_usd: int) -> None:
        """Charge the bill; one that is no amount up to the ceiling: the ceiling."""
        if self.row.state == "reserved":
            self._settle(actual_micro_usd)

    def unknown(self) -> None:
        """Charge the ceiling: it was sent, and nobody knows what it cost."""
        if self.row.state == "reserved":
            self._move("unknown", self.row.ceiling_micro_usd)

    def release(self) -> None:
        """Charge nothing: provably not one byte was sent."""
        if self.row.state == "reserved":
            self._move("released", 0)

    def reconcile(self, actual_micro_usd: int) -> None:
        """Charge the bill of an attempt of unknown outcome, when it comes after all."""
        if self.row.state == "unknown":
            self._settle(actual_micro_usd)

    def hold(self) -> None:
        """Count the ceiling as reserved; the ledger calls it once, before anything."""
        for counter in self.counters:
            counter.add(0, self.row.ceiling_micro_usd)

    def undo(self) -> None:
        """Undo `hold`; the ledger calls it when nothing was stored."""
        for counter in self.counters:
            counter.add(0, -self.row.ceiling_micro_usd)

    def _settle(self, actual_micro_usd: object) -> None:
        ceiling = self.row.ceiling_micro_usd
        # The type itself: True is an int, and a float may be NaN.
        if type(actual_micro_usd) is int and 0 <= actual_micro_usd <= ceiling:
            self._move("settled", actual_micro_usd)
            return
        self._move("settled", ceiling)
        data = {
            "backend": self.row.backend,
            "attempt_id": self.row.attempt_id,
            "ceiling_micro_usd": ceiling,
            "reported": str(actual_micro_usd)[:40],
        }
        self._announce(Event("bill_above_ceiling", data))

    def _move(self, state: RowState, charged_micro_usd: int) -> None:
        before = self.row
        self.row = after = LedgerRow(
            before.attempt_id,
            before.request_id,
            before.day,
            before.backend,
            before.track,
            before.client,
            before.ceiling_micro_usd,
            charged_micro_usd,
            state,
            before.at_utc,
        )
        held = before.ceiling_micro_usd if before.state == "reserved" else 0
        counted = before.charged_micro_usd - held
        for counter in self.counters:
            counter.add(after.charged_micro_usd - counted, -held)
        self._moved(self, before.charged_micro_usd - charged_micro_usd)
