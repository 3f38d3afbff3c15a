"""The ledger against a model of forty lines, in any order of steps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from datetime import date, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from plb_core.errors import BudgetExhausted, LedgerUnavailable
from plb_core.ledger_records import Scope, scopes
from plb_core.reservation import Reservation
from plb_core.spending import Caps
from tests.core.ledger_rig import Rig, unavailable

LIMITS = {
    Scope(): 1000,
    Scope("backend", "a"): 600,
    Scope("backend", "b"): 0,
    Scope("track", "t"): 700,
    Scope("client", "c"): 300,
}
NAMES = st.tuples(
    st.sampled_from(["a", "b", "free"]),
    st.sampled_from(["t", "u"]),
    st.sampled_from(["", "c"]),
)
CEILINGS = st.sampled_from([0, 1, 50, 100, 299, 300, 301, 600, 1001])
BILLS = st.one_of(st.integers(-5, 1100), st.just(True), st.floats(), st.none())


@attrs.define(eq=False)
class Entry:
    """One attempt of the model."""

    day: date
    names: tuple[str, str, str]
    ceiling: int
    charged: int
    state: str = "reserved"


class Model:
    """What the ledger should know: a list of attempts, and sums over it."""

    def __init__(self) -> None:
        self.day = date.min
        self.limits = dict(LIMITS)
        self.entries: dict[str, Entry] = {}

    def sums(self, scope: Scope, day: date) -> tuple[int, int]:
        index = {"backend": 0, "track": 1, "client": 2}
        spent = reserved = 0
        for entry in self.entries.values():
            if entry.day != day:
                continue
            if scope.kind != "all" and entry.names[index[scope.kind]] != scope.name:
                continue
            if entry.state == "reserved":
                reserved += entry.ceiling
            else:
                spent += entry.charged
        return spent, reserved

    def room(self, names: tuple[str, str, str]) -> int | None:
        left = [
            self.limits[scope] - sum(self.sums(scope, self.day))
            for scope in scopes(*names)
            if scope in self.limits
        ]
        return min(left) if left else None

    def settle(self, attempt_id: str, state: str, bill: Any = None) -> None:
        entry = self.entries[attempt_id]
        if state == "settled":
            fair = type(bill) is int and 0 <= bill <= entry.ceiling
            entry.charged = bill if fair else entry.ceiling
        else:
            entry.charged = entry.ceiling if state == "unknown" else 0
        entry.state = state


class LedgerMachine(RuleBasedStateMachine):
    """Reserves, ends, restarts, moves the clock and breaks the disk."""

    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.rig = Rig(LIMITS)
        self.model = Model()
        self.open: dict[str, Reservation] = {}
        self.number = 0

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def settled() -> Any:
            try:
                return await work
            finally:
                await asyncio.sleep(0)  # let rows that nobody awaits arrive

        return self.loop.run_until_complete(settled())

    def call(self, function: Any, *arguments: Any) -> Any:
        async def work() -> Any:
            return function(*arguments)

        return self.run(work())

    @initialize()
    def begin(self) -> None:
        self.run(self.rig.ledger.open())
        self.look()

    def look(self) -> None:
        self.model.day = max(self.model.day, self.rig.wall().date())

    @rule(target=attempts, names=NAMES, ceiling=CEILINGS)
    def reserve(self, names: tuple[str, str, str], ceiling: int) -> Any:
        self.look()
        self.number += 1
        attempt_id = f"a{self.number}"
        room = self.model.room(names)
        work = self.rig.ledger.reserve(attempt_id, "r", *names, ceiling)
        if room is not None and room < ceiling:
            with pytest.raises(BudgetExhausted) as caught:
                self.run(work)
            assert caught.value.left_micro_usd == max(room, 0)
            return multiple()
        if self.rig.store.down is not None:
            with pytest.raises(LedgerUnavailable):
                self.run(work)
            return multiple()
        self.open[attempt_id] = self.run(work)
        self.model.entries[attempt_id] = Entry(self.model.day, names, ceiling, ceiling)
        return attempt_id

    @rule(attempt_id=attempts, bill=BILLS)
    def settle(self, attempt_id: str, bill: Any) -> None:
        if attempt_id in self.open:
            if self.model.entries[attempt_id].state == "reserved":
                self.model.settle(attempt_id, "settled", bill)
            self.call(self.open[attempt_id].settle, bill)

    @rule(attempt_id=attempts, state=st.sampled_from(["unknown", "released"]))
    def end(self, attempt_id: str, state: str) -> None:
        if attempt_id in self.open:
            if self.model.entries[attempt_id].state == "reserved":
                self.model.settle(attempt_id, state)
            reservation = self.open[attempt_id]
            ends = {"unknown": reservation.unknown, "released": reservation.release}
            self.call(ends[state])

    @rule(attempt_id=attempts, bill=BILLS)
    def reconcile(self, attempt_id: str, bill: Any) -> None:
        was_unknown = self.model.entries[attempt_id].state == "unknown"
        assert self.call(self.rig.ledger.reconcile, attempt_id, bill) == was_unknown
        if was_unknown:
            self.model.settle(attempt_id, "settled", bill)

    @rule(attempt_id=consumes(attempts))
    def forget(self, attempt_id: str) -> None:
        self.open.pop(attempt_id, None)

    @rule(hours=st.sampled_from([1, 12, 24, 49, -1, -12, -26, -49]))
    def move_the_clock(self, hours: int) -> None:
        self.rig.wall.at += timedelta(hours=hours)
        self.look()

    @rule(cap=st.sampled_from([None, 0, 500, 2000]))
    def change_the_caps(self, cap: int | None) -> None:
        limits = {scope: each for scope, each in LIMITS.items() if scope.name}
        if cap is not None:
            limits[Scope()] = cap
        self.model.limits = limits
        self.call(self.rig.ledger.limit, Caps(limits))

    @rule()
    def break_the_disk(self) -> None:
        self.rig.store.down = unavailable()

    @rule()
    def mend_the_disk(self) -> None:
        self.rig.store.down = None

    @rule(orderly=st.booleans())
    def restart(self, orderly: bool) -> None:
        """Start again from what is stored; without order, everything else is lost."""
        self.rig.store.down = None
        if orderly:
            self.run(self.rig.ledger.close())
        old = self.rig
        stored = {row.attempt_id: row for row in old.store.rows}
        self.rig = Rig(self.model.limits, store=old.store, wall=old.wall)
        days = [row.day for row in stored.values()]
        self.model.day = max([old.wall().date(), *days])
        for attempt_id, entry in self.model.entries.items():
            row = stored[attempt_id]
            # What was not durable counts at its ceiling: never less than the truth.
            assert row.charged_micro_usd >= entry.charged
            if orderly:
                assert entry.state.startswith(row.state)
            entry.state, entry.charged = row.state, row.charged_micro_usd
            if row.state == "reserved":
                self.model.settle(attempt_id, "unknown")
            elif row.state == "unknown":
                entry.state = "unknown before"  # only its own run reconciles it
        self.open.clear()
        self.run(self.rig.ledger.open())

    @invariant()
    def sums_are_those_of_the_model(self) -> None:
        totals = self.call(self.rig.ledger.totals)
        for scope, (spent, reserved, cap) in totals.items():
            assert (spent, reserved) == self.model.sums(scope, self.model.day), scope
            assert cap == self.model.limits.get(scope)

    @invariant()
    def what_fits_is_what_the_model_has_room_for(self) -> None:
        for names in (("a", "t", ""), ("b", "u", "c"), ("free", "u", "")):
            room = self.model.room(names)
            fits = self.call(self.rig.ledger.fits, *names)
            assert fits == (None if room is None else max(room, 0))

    def teardown(self) -> None:
        self.rig.store.down = None
        with contextlib.suppress(LedgerUnavailable):
            self.run(self.rig.ledger.close())
        self.loop.close()


LedgerMachine.TestCase.settings = settings(
    max_examples=2000,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestLedgerMachine = pytest.mark.timeout(240)(LedgerMachine.TestCase)
