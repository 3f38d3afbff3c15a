"""Two hundred at once against a budget for ten, in a thousand seeded orders."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Coroutine
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import pytest

from plb_core.errors import BudgetExhausted
from plb_core.ledger import Ledger
from plb_core.ledger_records import LedgerRow, Scope
from plb_core.spending import Caps
from plb_core.store import MemoryStore
from plb_store_sqlite.store import SqliteStore
from tests.core.ledger_rig import WallClock
from tests.faults.case import Figure, record_plain
from tests.faults.ledger_child import nobody

pytestmark = [pytest.mark.faults, pytest.mark.asyncio, pytest.mark.timeout(600)]
RACES: Final = int(os.environ.get("PLB_RACES", "1000"))
DISK_RACES: Final = 20
AT_ONCE: Final = 200
CEILING: Final = 997
ROOM_FOR: Final = 10
CAP: Final = ROOM_FOR * CEILING + CEILING - 1
LARGE_CAP: Final = 50 * CEILING


class TardyStore(MemoryStore):
    """A store in memory that takes a random number of turns for each row."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance

    def write(self, row: LedgerRow) -> asyncio.Future[None]:
        done = super().write(row)
        if not self._chance.randrange(3):
            return done
        loop = asyncio.get_running_loop()
        late: asyncio.Future[None] = loop.create_future()

        def turn(left: int) -> None:
            if left:
                loop.call_soon(turn, left - 1)
            elif not late.done():
                late.set_result(done.result())

        turn(self._chance.randrange(6))
        return late


async def turns(chance: random.Random) -> None:
    for _ in range(chance.randrange(8)):
        await asyncio.sleep(0)


async def race(
    ledger: Ledger,
    work: Callable[[str, random.Random], Coroutine[Any, Any, int]],
    seed: str,
) -> list[int]:
    """Run all at once; return what each was billed, 0 for not sent."""
    await ledger.open()
    tasks = [
        asyncio.create_task(work(f"{seed}.{number}", random.Random(f"{seed}.{number}")))
        for number in range(AT_ONCE)
    ]
    billed = await asyncio.gather(*tasks)
    spent, reserved, _ = ledger.totals()[Scope()]
    assert reserved == 0
    assert spent == sum(billed)
    await ledger.close()
    return billed


def make(store: MemoryStore | SqliteStore, cap: int) -> Ledger:
    limits = {Scope(): cap, Scope("backend", "web"): cap + 5}
    return Ledger(Caps(limits), UTC, WallClock(), store, nobody)


async def all_or_nothing(ledger: Ledger, seed: str) -> list[int]:
    """Everyone asks once and is billed the ceiling."""

    async def work(attempt: str, chance: random.Random) -> int:
        await turns(chance)
        try:
            held = await ledger.reserve(attempt, "r", "web", "main", "", CEILING)
        except BudgetExhausted:
            return 0
        await turns(chance)
        if chance.random() < 0.5:
            held.settle(CEILING)
        else:
            held.unknown()
        return CEILING

    return await race(ledger, work, seed)


async def waiting(ledger: Ledger, seed: str) -> list[int]:
    """Everyone waits for others' change; bills are far below the ceilings."""

    async def work(attempt: str, chance: random.Random) -> int:
        await turns(chance)
        while True:
            try:
                held = await ledger.reserve(attempt, "r", "web", "main", "", CEILING)
            except BudgetExhausted:
                if not await ledger.wait_for_room(20):
                    return 0
            else:
                break
        await turns(chance)
        bill = chance.randrange(CEILING // 2, CEILING)
        held.settle(bill)
        return bill

    return await race(ledger, work, seed)


async def test_t22_exactly_ten_of_two_hundred_are_sent() -> None:
    over = 0
    for seed in range(RACES):
        store = TardyStore(random.Random(seed))
        billed = await all_or_nothing(make(store, CAP), str(seed))
        assert sum(map(bool, billed)) == ROOM_FOR, f"seed {seed}"
        over = max(over, sum(billed) - CAP)
    figures = {"races": Figure(RACES), "micro_usd_over": Figure(max(over, 0), 0, 0)}
    sent = RACES * AT_ONCE
    record_plain("T22", "200 at once, a budget for 10", sent, sent, figures)
    assert over <= 0


async def test_t22_on_disk(tmp_path: Path) -> None:
    for seed in range(DISK_RACES):
        store = SqliteStore(tmp_path / f"{seed}.sqlite")
        billed = await all_or_nothing(make(store, CAP), str(seed))
        assert sum(map(bool, billed)) == ROOM_FOR, f"seed {seed}"


async def test_g2_the_cap_is_used_and_never_passed() -> None:
    least, over = 1.0, 0
    for seed in range(RACES // 4):
        store = TardyStore(random.Random(seed))
        billed = await waiting(make(store, LARGE_CAP), str(seed))
        least = min(least, sum(billed) / LARGE_CAP)
        over = max(over, sum(billed) - LARGE_CAP)
    figures = {
        "least_share_used": Figure(round(least, 4), at_least=0.95),
        "micro_usd_over": Figure(over, 0, 0),
    }
    sent = RACES // 4 * AT_ONCE
    record_plain("G2", "bills below ceilings, all wait for room", sent, sent, figures)
    assert all(figure.passes for figure in figures.values()), figures
