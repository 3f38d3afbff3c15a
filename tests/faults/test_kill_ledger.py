"""Kill the process that spends, at any moment, and compare its ledger with the book."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest

from plb_core.ledger_records import Scope
from tests.faults import ledger_child
from tests.faults.case import FULL, SEED, Figure, record_plain
from tests.faults.ledger_child import CEILING, IN_FLIGHT

KILLS = int(os.environ.get("PLB_KILLS", "200" if FULL else "12"))
PER_LEDGER = 20
"""Kills after which a new ledger begins, so that comparing stays quick."""
MOST_BYTES = 170_000 if FULL else 20_000
"""What one process bills at most before it is killed: a line has about 20 bytes."""
PATIENCE_S = 30.0


@attrs.define
class Tally:
    """What all kills together came to, in attempts and micro-USD."""

    calls: int = 0
    settled: int = 0
    missing: int = 0
    differing: int = 0
    undercount: int = 0
    unknown_by_kill: int = 0
    overcount: int = 0

    def __add__(self, other: Tally) -> Tally:
        pairs = zip(attrs.astuple(self), attrs.astuple(other), strict=True)
        return Tally(*map(sum, pairs))


def size(book: Path) -> int:
    return book.stat().st_size if book.exists() else 0


def lines(book: Path) -> list[str]:
    """Return the book's whole lines."""
    text = book.read_text() if book.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()


def kill_in_the_middle(
    ledger: Path, book: Path, run: str, chance: random.Random
) -> None:
    """Start a process, let it spend a random number of times, and kill it."""
    seen = size(book)
    command = [sys.executable, ledger_child.__file__, str(ledger), str(book), run]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    with process:
        try:
            if chance.random() < 0.2:  # while it starts, opens and takes over
                time.sleep(chance.uniform(0.0, 0.5))
            else:
                wanted = seen + chance.randrange(1, MOST_BYTES)
                end_s = time.monotonic() + PATIENCE_S
                while size(book) < wanted and process.poll() is None:
                    assert time.monotonic() < end_s, "it spends nothing"
                    time.sleep(chance.uniform(0.0, 0.004))
        finally:
            process.kill()
        assert process.stderr is not None
        complaint = process.stderr.read().decode()
    assert process.returncode == -signal.SIGKILL, complaint


async def stock(path: Path) -> tuple[int, dict[str, tuple[str, int]]]:
    """Open the ledger as a restart does; return what is spent, and its rows."""
    ledger = ledger_child.make(path)
    await ledger.open()
    spent, reserved, _ = ledger.totals()[Scope()]
    assert reserved == 0
    await ledger.close()
    shell = sqlite3.connect(path)
    rows = shell.execute("SELECT attempt_id, state, charged_micro_usd FROM attempt")
    found = {attempt: (state, charged) for attempt, state, charged in rows}
    shell.close()
    return spent, found


def compare(found: dict[str, tuple[str, int]], billed: dict[str, int]) -> Tally:
    """Judge every attempt by the book."""
    tally = Tally(calls=len(billed), missing=len(billed.keys() - found.keys()))
    for attempt in billed.keys() | found.keys():
        bill = billed.get(attempt, 0)
        state, charged = found.get(attempt, ("missing", 0))
        tally.settled += state == "settled"
        tally.differing += state in ("settled", "released") and charged != bill
        tally.undercount += max(0, bill - charged)
        if state == "unknown" and not attempt.endswith("u"):
            tally.unknown_by_kill += 1
            tally.overcount += charged - bill
    return tally


@pytest.mark.faults
@pytest.mark.asyncio
@pytest.mark.timeout(60 + 8 * KILLS)
async def test_f37_killed_at_random_moments(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    total = Tally()
    for first in range(0, KILLS, PER_LEDGER):
        ledger, book = tmp_path / f"{first}.sqlite", tmp_path / f"{first}.book"
        tally = Tally()
        for number in range(first, min(first + PER_LEDGER, KILLS)):
            kill_in_the_middle(ledger, book, f"run{number}", chance)
            if not ledger.exists():
                continue  # killed before it began
            spent, found = await stock(ledger)
            billed = {name: int(bill) for name, bill in map(str.split, lines(book))}
            tally = compare(found, billed)
            assert spent == sum(charged for _, charged in found.values())
            assert (tally.missing, tally.differing, tally.undercount) == (0, 0, 0)
        total += tally
    figures = {
        "kills": Figure(KILLS),
        "settled_rows": Figure(total.settled, at_least=KILLS),
        "missing_calls": Figure(total.missing, 0, 0),
        "differing_rows": Figure(total.differing, 0, 0),
        "undercount_micro_usd": Figure(total.undercount, 0, 0),
        "unknown_by_kill": Figure(total.unknown_by_kill, KILLS * IN_FLIGHT),
        "overcount_micro_usd": Figure(total.overcount, KILLS * IN_FLIGHT * CEILING),
    }
    record_plain(
        "F37", "kill -9 while money is spent", total.calls, total.calls, figures
    )
    assert all(figure.passes for figure in figures.values()), figures
