"""What every store of the ledger must do, as a test class to subclass."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, Final

import attrs
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from plb_core.ledger_records import LedgerRow, RowState, Scope
from plb_core.testing import fakes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from plb_core.hookspecs import Provider
    from plb_core.protocols import Store

# Derandomised: the contract gives the same verdict on every machine.
_examples = hypothesis_settings(
    max_examples=100, deadline=None, database=None, derandomize=True
)
DAY: Final = date(2026, 11, 25)
_NOON: Final = datetime(2026, 11, 25, 12, tzinfo=UTC)
_ROWS_AT_ONCE: Final = 1000
_NAMES: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_STEPS: Final[dict[RowState, frozenset[RowState]]] = {
    "reserved": frozenset({"reserved", "settled", "unknown", "released"}),
    "unknown": frozenset({"unknown", "settled"}),
    "settled": frozenset({"settled"}),
    "released": frozenset({"released"}),
}


def row(attempt_id: str = "a1", **facts: object) -> LedgerRow:
    """Return a reserved row of 1,000 micro-USD; keywords change its fields."""
    plain = LedgerRow(
        attempt_id, "req_1", DAY, "web", "main", "", 1000, 1000, "reserved", _NOON
    )
    return attrs.evolve(plain, **facts)  # type: ignore[arg-type]  # test shorthand


def after(before: LedgerRow, state: RowState, micro_usd: int = 400) -> LedgerRow:
    """Return the row in a later state; `micro_usd` is the bill of a settled one."""
    charged = {"settled": micro_usd, "released": 0}.get(state, 1000)
    return attrs.evolve(before, state=state, charged_micro_usd=charged)


class StoreContract:
    """Subclass as `class TestMine(StoreContract)`.

    Set `provider`, and `survives` to whether rows outlive the process. `settings` are
    the settings to build with, None for the defaults; relative paths in them start
    from a fresh folder.
    """

    provider: ClassVar[Provider[Store]]
    survives: ClassVar[bool]
    settings: ClassVar[object] = None

    def make(self, folder: Path) -> Store:
        """Build the store under test."""
        settings = self.settings
        if settings is None:
            settings = self.provider.settings()
        context = attrs.evolve(fakes.context(), folder=folder)
        return self.provider.build(settings, context)

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[Store]:
        """Run a store."""
        store = self.make(folder)
        await store.start()
        try:
            yield store
        finally:
            await store.close()

    @pytest.mark.asyncio
    async def test_begins_empty(self, tmp_path: Path) -> None:
        """A first start knows nothing."""
        async with self.opened(tmp_path) as store:
            state = await store.load(DAY)
        assert state.day == DAY
        assert dict(state.spent) == {}
        assert state.reserved == ()

    @pytest.mark.asyncio
    async def test_returns_what_was_reserved(self, tmp_path: Path) -> None:
        """An open row comes back whole, whatever its day, and is not spent."""
        old = row("old", day=DAY - timedelta(days=40))
        new = row("new", client="team", track="other", at_utc=_NOON.replace(second=1))
        async with self.opened(tmp_path) as store:
            await store.write(old)
            await store.write(new)
            state = await store.load(DAY)
        assert set(state.reserved) == {old, new}
        assert dict(state.spent) == {}

    @pytest.mark.parametrize(
        ("state", "spent"), [("settled", 400), ("unknown", 1000), ("released", 0)]
    )
    @pytest.mark.asyncio
    async def test_counts_what_was_spent(
        self, state: RowState, spent: int, tmp_path: Path
    ) -> None:
        """A closed row counts in each of its scopes, and is open no more."""
        async with self.opened(tmp_path) as store:
            await store.write(row(client="team"))
            await store.write(after(row(client="team"), state))
            loaded = await store.load(DAY)
        assert loaded.reserved == ()
        scopes = (
            Scope(),
            Scope("backend", "web"),
            Scope("track", "main"),
            Scope("client", "team"),
        )
        assert {scope: loaded.spent.get(scope, 0) for scope in scopes} == (
            dict.fromkeys(scopes, spent)
        )
        assert all(scope in scopes for scope in loaded.spent)

    @pytest.mark.asyncio
    async def test_sums_by_scope_and_day(self, tmp_path: Path) -> None:
        """Sums are those of one day; a row without a client has no such scope."""
        rows = [
            row("a", backend="x", client="c"),
            row("b", backend="y"),
            row("c", backend="x", track="t"),
            row("d", backend="x", day=DAY - timedelta(days=1)),
        ]
        async with self.opened(tmp_path) as store:
            for number, each in enumerate(rows):
                await store.write(each)
                await store.write(after(each, "settled", 10**number))
            loaded = await store.load(DAY)
        assert dict(loaded.spent) == {
            Scope(): 111,
            Scope("backend", "x"): 101,
            Scope("backend", "y"): 10,
            Scope("track", "main"): 11,
            Scope("track", "t"): 100,
            Scope("client", "c"): 1,
        }

    @pytest.mark.asyncio
    async def test_loads_the_newest_day(self, tmp_path: Path) -> None:
        """A clock that was set back does not open a past day again."""
        tomorrow = row("later", day=DAY + timedelta(days=1))
        async with self.opened(tmp_path) as store:
            for each in (row("today"), tomorrow):
                await store.write(each)
                await store.write(after(each, "settled", 7 if each is tomorrow else 1))
            back = await store.load(DAY)
            ahead = await store.load(DAY + timedelta(days=2))
        assert back.day == tomorrow.day
        assert back.spent[Scope()] == 7
        assert ahead.day == DAY + timedelta(days=2)
        assert not ahead.spent

    @pytest.mark.parametrize("first", _STEPS)
    @pytest.mark.parametrize("second", _STEPS)
    @pytest.mark.asyncio
    async def test_rows_only_move_forward(
        self, first: RowState, second: RowState, tmp_path: Path
    ) -> None:
        """Each step is taken or refused, and a refused one changes nothing."""
        async with self.opened(tmp_path) as store:
            await store.write(row())
            await store.write(after(row(), first))
            before = await store.load(DAY)
            if second in _STEPS[first]:
                await store.write(after(row(), second))
                return
            with pytest.raises(ValueError, match="a1"):
                await store.write(after(row(), second))
            assert await store.load(DAY) == before

    @pytest.mark.asyncio
    async def test_a_bill_is_written_once(self, tmp_path: Path) -> None:
        """A second bill for the same attempt is refused; the same one is not."""
        bill = after(row(), "settled", 400)
        async with self.opened(tmp_path) as store:
            await store.write(row())
            await store.write(bill)
            await store.write(bill)
            with pytest.raises(ValueError, match="a1"):
                await store.write(after(row(), "settled", 399))
            assert (await store.load(DAY)).spent[Scope()] == 400

    @pytest.mark.asyncio
    async def test_an_unknown_bill_is_reconciled(self, tmp_path: Path) -> None:
        """The bill replaces the ceiling; it is not added to it."""
        async with self.opened(tmp_path) as store:
            await store.write(row())
            await store.write(after(row(), "unknown"))
            await store.write(after(row(), "settled", 1))
            assert (await store.load(DAY)).spent[Scope()] == 1

    @pytest.mark.parametrize("state", ["settled", "unknown", "released"])
    @pytest.mark.asyncio
    async def test_an_attempt_begins_reserved(
        self, state: RowState, tmp_path: Path
    ) -> None:
        """Money that was never held cannot be spent."""
        async with self.opened(tmp_path) as store:
            with pytest.raises(ValueError, match="a1"):
                await store.write(after(row(), state))
            assert not (await store.load(DAY)).spent

    @pytest.mark.parametrize(
        "change",
        [
            {"day": DAY - timedelta(days=1)},
            {"backend": "other"},
            {"track": "other"},
            {"client": "other"},
            {"request_id": "other"},
            {"ceiling_micro_usd": 999},
            {"at_utc": _NOON + timedelta(seconds=1)},
        ],
        ids=lambda change: next(iter(change)),
    )
    @pytest.mark.asyncio
    async def test_facts_of_an_attempt_never_change(
        self, change: dict[str, object], tmp_path: Path
    ) -> None:
        """Neither when it closes nor when its id is used again."""
        closed = after(row(), "settled")
        again = attrs.evolve(row(), **change)  # type: ignore[arg-type]  # test shorthand
        async with self.opened(tmp_path) as store:
            await store.write(row())
            with pytest.raises(ValueError, match="a1"):
                await store.write(attrs.evolve(closed, **change))  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="a1"):
                await store.write(attrs.evolve(again, charged_micro_usd=1000))
            assert (await store.load(DAY)).reserved == (row(),)

    @pytest.mark.asyncio
    async def test_keeps_the_order_without_waiting(self, tmp_path: Path) -> None:
        """A thousand attempts at once, each closed before its row was awaited."""
        rows = [row(f"a{number}") for number in range(_ROWS_AT_ONCE)]
        async with self.opened(tmp_path) as store:
            pending = []
            for each in rows:
                pending.append(store.write(each))
                pending.append(store.write(after(each, "unknown")))
                pending.append(store.write(after(each, "settled", 3)))
            await asyncio.gather(*pending)
            loaded = await store.load(DAY)
        assert loaded.spent[Scope()] == 3 * _ROWS_AT_ONCE
        assert loaded.reserved == ()

    @pytest.mark.asyncio
    async def test_a_refused_row_hurts_no_other(self, tmp_path: Path) -> None:
        """Rows that share a commit with a wrong one are durable all the same."""
        async with self.opened(tmp_path) as store:
            results = await asyncio.gather(
                store.write(row("a")),
                store.write(after(row("never"), "settled")),
                store.write(row("b")),
                return_exceptions=True,
            )
            loaded = await store.load(DAY)
        assert [type(each) for each in results] == [type(None), ValueError, type(None)]
        assert set(loaded.reserved) == {row("a"), row("b")}

    @pytest.mark.asyncio
    async def test_a_cancelled_wait_changes_nothing(self, tmp_path: Path) -> None:
        """Who waits may go away; the row is written, and so are later ones."""
        async with self.opened(tmp_path) as store:
            store.write(row("a")).cancel()
            await store.write(row("b"))
            loaded = await store.load(DAY)
        assert set(loaded.reserved) == {row("a"), row("b")}

    @pytest.mark.asyncio
    async def test_closing_finishes_every_write(self, tmp_path: Path) -> None:
        """Nothing that was put in before the close is lost."""
        store = self.make(tmp_path)
        await store.start()
        pending = [store.write(row(f"a{number}")) for number in range(100)]
        await store.close()
        await asyncio.gather(*pending)
        if self.survives:
            async with self.opened(tmp_path) as again:
                assert len((await again.load(DAY)).reserved) == 100

    @pytest.mark.asyncio
    async def test_rows_survive_where_promised(self, tmp_path: Path) -> None:
        """What was stored comes back after a restart, and still moves forward only."""
        if not self.survives:
            pytest.skip("this store forgets on purpose")
        kept = row("kept", client="ü'\"; DROP TABLE x; --\n\x00")
        async with self.opened(tmp_path) as store:
            await store.write(row())
            await store.write(after(row(), "settled"))
            await store.write(kept)
            before = await store.load(DAY)
        async with self.opened(tmp_path) as store:
            assert await store.load(DAY) == before
            with pytest.raises(ValueError, match="a1"):
                await store.write(after(row(), "released"))
            await store.write(after(kept, "unknown"))
        async with self.opened(tmp_path) as store:
            assert (await store.load(DAY)).spent[Scope()] == 1400

    def test_takes_any_names(self, tmp_path: Path) -> None:
        """Names are data, never part of a statement, a path or a key."""
        folder = tmp_path / "names"
        folder.mkdir()
        numbers = iter(range(10_000))

        async def keep(names: list[str]) -> None:
            backend, track, client, attempt = names
            async with self.opened(folder) as store:
                each = row(
                    f"{attempt}{next(numbers)}",
                    backend=backend or "b",
                    track=track or "t",
                    client=client,
                )
                await store.write(each)
                assert each in (await store.load(DAY)).reserved
                await store.write(after(each, "released"))

        @_examples
        @given(st.lists(_NAMES, min_size=4, max_size=4))
        def check(names: list[str]) -> None:
            asyncio.run(keep(names))

        check()
