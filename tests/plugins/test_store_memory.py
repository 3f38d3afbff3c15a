from __future__ import annotations

from datetime import timedelta

import pytest

import plb_store_memory
from plb_core.ledger_records import Scope
from plb_core.store import CLOSED_KEPT, DAYS_KEPT, MemoryStore
from plb_core.testing.contracts.store import DAY, StoreContract, after, row


class TestMemory(StoreContract):
    provider = plb_store_memory.plb_register_store()
    survives = False


def test_is_registered_under_its_entry_point_name() -> None:
    assert plb_store_memory.plb_register_store().name == "memory"


@pytest.mark.asyncio
async def test_memory_is_bounded_and_sums_stay_right() -> None:
    store = MemoryStore()
    for number in range(CLOSED_KEPT + 5):
        each = row(f"a{number}")
        store.write(each)
        store.write(after(each, "settled", 1))
    assert len(store._closed) == CLOSED_KEPT
    assert not store._open
    assert (await store.load(DAY)).spent[Scope()] == CLOSED_KEPT + 5


@pytest.mark.asyncio
async def test_sums_of_the_newest_days_are_kept() -> None:
    store = MemoryStore()
    for number in range(DAYS_KEPT + 2):
        each = row(f"a{number}", day=DAY + timedelta(days=number))
        store.write(each)
        store.write(after(each, "settled", 1))
    assert min(store._spent) == DAY + timedelta(days=2)
    assert (await store.load(DAY)).day == DAY + timedelta(days=DAYS_KEPT + 1)
