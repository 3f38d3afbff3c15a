"""A process that spends money until it is killed: `python ledger_child.py LEDGER BOOK`.

Each attempt is reserved, entered into the upstream's book (appended before the
"answer", as a provider bills), and then settled; some are left unknown (their id ends
in "u"), some released as if nothing had been sent ("r").
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from plb_core.ledger import Ledger
from plb_core.ledger_records import Scope
from plb_core.spending import Caps
from plb_core.types import Event
from plb_store_sqlite.store import SqliteStore

IN_FLIGHT: Final = 8
CEILING: Final = 1000
CAP: Final = 10**12
DAY: Final = datetime(2026, 11, 25, 12, tzinfo=UTC)


def nobody(event: Event) -> None:
    """Hear of events, and do nothing."""


def make(path: Path) -> Ledger:
    return Ledger(Caps({Scope(): CAP}), UTC, lambda: DAY, SqliteStore(path), nobody)


async def spend(ledger: Ledger, book: int, run: str, task: int) -> None:
    chance = random.Random(f"{run}.{task}")
    number = 0
    while True:
        number += 1
        end = chance.choices(("settle", "unknown", "release"), (8, 1, 1))[0]
        attempt = f"{run}.{task}.{number}{end[0]}"
        reservation = await ledger.reserve(attempt, run, "web", "main", "", CEILING)
        if end == "release":
            reservation.release()
            continue
        bill = chance.randrange(CEILING + 1)
        os.write(book, f"{attempt} {bill}\n".encode())
        await asyncio.sleep(0.001 * chance.random())
        if end == "unknown":
            reservation.unknown()
        else:
            reservation.settle(bill)


async def main(path: Path, book_path: Path, run: str) -> None:
    book = os.open(book_path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    ledger = make(path)
    await ledger.open()
    tasks = [spend(ledger, book, run, task) for task in range(IN_FLIGHT)]
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
