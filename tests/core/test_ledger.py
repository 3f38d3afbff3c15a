from __future__ import annotations

import asyncio
import math
from datetime import date, timedelta, timezone
from typing import Any

import pytest

from plb_core.errors import BudgetExhausted, LedgerUnavailable
from plb_core.ledger import UNKNOWN_KEPT
from plb_core.ledger_records import LedgerRow, Scope
from plb_core.spending import LARGEST_MICRO_USD, SCOPES_KEPT, Caps
from tests.core.ledger_rig import Rig, ScriptedStore, unavailable

ODD_BILLS: list[Any] = [
    -1,
    101,
    10**30,
    True,
    False,
    math.nan,
    math.inf,
    50.0,
    "5",
    None,
]


@pytest.mark.asyncio
async def test_money_is_held_then_charged() -> None:
    async with Rig(1000).opened() as rig:
        reservation = await rig.reserve(100)
        assert rig.total() == (0, 100)
        assert rig.ledger.fits("web", "main", "") == 900
        reservation.settle(30)
        assert rig.total() == (30, 0)
        assert rig.ledger.fits("web", "main", "") == 970
        assert rig.store.states("a1") == ["reserved", "settled"]
        assert rig.store.rows[-1].charged_micro_usd == 30


@pytest.mark.asyncio
async def test_the_row_says_everything() -> None:
    async with Rig(1000).opened() as rig:
        await rig.reserve(100, client="team")
        assert rig.store.rows == [
            LedgerRow(
                "a1",
                "req_1",
                date(2026, 11, 25),
                "web",
                "main",
                "team",
                100,
                100,
                "reserved",
                rig.wall.at,
            )
        ]


@pytest.mark.asyncio
async def test_the_row_is_durable_before_reserve_returns() -> None:
    async with Rig(1000).opened() as rig:
        rig.store.hold = True
        task = asyncio.create_task(rig.reserve())
        await rig.store.until_held()
        await asyncio.sleep(0)
        assert not task.done()
        rig.store.go_on()
        assert (await task).row.state == "reserved"


@pytest.mark.asyncio
async def test_unknown_is_charged_at_the_ceiling() -> None:
    async with Rig(1000).opened() as rig:
        (await rig.reserve(100)).unknown()
        assert rig.total() == (100, 0)
        assert rig.store.rows[-1].state == "unknown"
        assert rig.store.rows[-1].charged_micro_usd == 100


@pytest.mark.asyncio
async def test_released_is_charged_nothing() -> None:
    async with Rig(100).opened() as rig:
        (await rig.reserve(100)).release()
        assert rig.total() == (0, 0)
        assert rig.store.rows[-1].state == "released"
        assert rig.store.rows[-1].charged_micro_usd == 0
        await rig.reserve(100)


@pytest.mark.parametrize("first", ["settle", "unknown", "release"])
@pytest.mark.parametrize("second", ["settle", "unknown", "release"])
@pytest.mark.asyncio
async def test_the_first_end_wins(first: str, second: str) -> None:
    async with Rig(1000).opened() as rig:
        reservation = await rig.reserve(100)
        ends = {
            "settle": lambda: reservation.settle(40),
            "unknown": reservation.unknown,
            "release": reservation.release,
        }
        ends[first]()
        total, row, rows = rig.total(), reservation.row, len(rig.store.rows)
        ends[second]()
        assert (rig.total(), reservation.row, len(rig.store.rows)) == (total, row, rows)


@pytest.mark.asyncio
async def test_exactly_the_cap_fits_and_not_one_more() -> None:
    async with Rig(100).opened() as rig:
        with pytest.raises(BudgetExhausted):
            await rig.reserve(101)
        await rig.reserve(99)
        await rig.reserve(1)
        assert rig.ledger.fits("web", "main", "") == 0
        with pytest.raises(BudgetExhausted):
            await rig.reserve(1)
        await rig.reserve(0)


@pytest.mark.asyncio
async def test_a_refusal_has_no_effect_and_says_when_to_come_back() -> None:
    limits = {Scope(): 500, Scope("backend", "web"): 300, Scope("client", "c"): 200}
    async with Rig(limits).opened() as rig:
        await rig.reserve(150, client="c")
        before, rows = dict(rig.ledger.totals()), list(rig.store.rows)
        with pytest.raises(BudgetExhausted) as caught:
            await rig.reserve(151, client="c")
        assert dict(rig.ledger.totals()) == before
        assert rig.store.rows == rows
        assert caught.value.scope == Scope("client", "c")
        assert caught.value.left_micro_usd == 50
        assert caught.value.retry_after_s == 12 * 3600
        assert caught.value.code == "budget_exhausted"
        assert "client 'c'" in str(caught.value)
        assert "0.000050 US dollars" in str(caught.value)


@pytest.mark.parametrize("kind", ["all", "backend", "track", "client"])
@pytest.mark.asyncio
async def test_every_scope_limits_by_itself(kind: Any) -> None:
    names = {"all": "", "backend": "web", "track": "main", "client": "team"}
    limits = {Scope(each, name): 10_000 for each, name in names.items()}  # type: ignore[arg-type]  # words
    limits[Scope(kind, names[kind])] = 100
    async with Rig(limits).opened() as rig:
        assert rig.ledger.fits("web", "main", "team") == 100
        await rig.reserve(100, client="team")
        with pytest.raises(BudgetExhausted) as caught:
            await rig.reserve(1, client="team")
        assert caught.value.scope == Scope(kind, names[kind])
        if kind != "all":
            other = {kind: "other"} if kind != "client" else {"client": ""}
            await rig.reserve(100, **other)


@pytest.mark.asyncio
async def test_without_caps_all_is_counted_and_nothing_refused() -> None:
    async with Rig().opened() as rig:
        assert rig.ledger.fits("web", "main", "") is None
        (await rig.reserve(LARGEST_MICRO_USD)).settle(5)
        await rig.reserve(7, backend="free", client="team")
        assert rig.ledger.totals() == {
            Scope(): (5, 7, None),
            Scope("backend", "web"): (5, 0, None),
            Scope("backend", "free"): (0, 7, None),
            Scope("track", "main"): (5, 7, None),
            Scope("client", "team"): (0, 7, None),
        }
        assert not rig.events


@pytest.mark.asyncio
async def test_a_cap_of_nothing_refuses_all_but_free_attempts() -> None:
    async with Rig(0).opened() as rig:
        (await rig.reserve(0)).settle(0)
        assert not rig.named("budget_alert")
        with pytest.raises(BudgetExhausted):
            await rig.reserve(1)


@pytest.mark.parametrize("cap", [0, LARGEST_MICRO_USD])
@pytest.mark.asyncio
async def test_caps_of_names_are_reported_before_they_are_used(cap: int) -> None:
    async with Rig({Scope("backend", "web"): cap}).opened() as rig:
        assert rig.ledger.totals()[Scope("backend", "web")] == (0, 0, cap)
        assert rig.ledger.fits("web", "main", "") == cap
        assert rig.ledger.fits("other", "main", "") is None


@pytest.mark.parametrize(
    "ceiling", [-1, True, 1.0, math.nan, "5", None, LARGEST_MICRO_USD + 1], ids=repr
)
@pytest.mark.asyncio
async def test_a_ceiling_that_is_no_amount_is_refused(ceiling: Any) -> None:
    async with Rig(1000).opened() as rig:
        with pytest.raises(ValueError, match="ceiling"):
            await rig.reserve(ceiling)
        assert rig.total() == (0, 0)
        assert not rig.store.rows


@pytest.mark.parametrize("bill", ODD_BILLS, ids=repr)
@pytest.mark.asyncio
async def test_an_absurd_bill_costs_the_ceiling_and_is_announced(bill: Any) -> None:
    async with Rig(1000).opened() as rig:
        (await rig.reserve(100)).settle(bill)
        assert rig.total() == (100, 0)
        assert rig.store.rows[-1].state == "settled"
        assert rig.store.rows[-1].charged_micro_usd == 100
        (event,) = rig.named("bill_above_ceiling")
        assert event.data == {
            "backend": "web",
            "attempt_id": "a1",
            "ceiling_micro_usd": 100,
            "reported": str(bill)[:40],
        }


@pytest.mark.parametrize("bill", [0, 1, 99, 100])
@pytest.mark.asyncio
async def test_a_bill_up_to_the_ceiling_is_charged_as_it_is(bill: int) -> None:
    async with Rig(1000).opened() as rig:
        (await rig.reserve(100)).settle(bill)
        assert rig.total() == (bill, 0)
        assert not rig.events


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.asyncio
async def test_a_cap_of_one_micro_dollar_alerts_when_it_is_spent(share: float) -> None:
    async with Rig(1, alert_share=share).opened() as rig:
        (await rig.reserve(1)).settle(0)
        assert not rig.events
        (await rig.reserve(1)).settle(1)
        assert len(rig.named("budget_alert")) == 1


@pytest.mark.asyncio
async def test_a_million_tiny_bills_add_up_exactly() -> None:
    async with Rig(10**6).opened() as rig:
        for _ in range(10_000):
            (await rig.reserve(7)).settle(3)
        assert rig.total() == (30_000, 0)


@pytest.mark.asyncio
async def test_an_alert_comes_once_per_scope_at_its_share() -> None:
    limits = {Scope(): 1000, Scope("backend", "web"): 500}
    async with Rig(limits).opened() as rig:
        (await rig.reserve(399)).settle(399)
        assert not rig.events
        held = await rig.reserve(1)
        assert not rig.events  # what is only held may come back
        held.settle(1)
        (event,) = rig.events
        assert event.name == "budget_alert"
        assert event.data == {
            "scope": "backend",
            "name": "web",
            "day": "2026-11-25",
            "spent_micro_usd": 400,
            "reserved_micro_usd": 0,
            "cap_micro_usd": 500,
        }
        (await rig.reserve(100)).unknown()
        assert len(rig.events) == 1
        (await rig.reserve(300, backend="other")).settle(300)
        assert [event.data["scope"] for event in rig.events] == ["backend", "all"]


@pytest.mark.asyncio
async def test_exhaustion_is_announced_once_a_day() -> None:
    async with Rig(100).opened() as rig:
        held = await rig.reserve(60)
        for _ in range(3):
            with pytest.raises(BudgetExhausted):
                await rig.reserve(50)
        (event,) = rig.named("budget_exhausted")
        assert event.data["reserved_micro_usd"] == 60
        assert event.data["day"] == "2026-11-25"
        held.settle(60)
        rig.wall.move(days=1)
        with pytest.raises(BudgetExhausted):
            await rig.reserve(101)
        assert len(rig.named("budget_exhausted")) == 2
        assert rig.named("budget_exhausted")[1].data["day"] == "2026-11-26"


@pytest.mark.asyncio
async def test_a_new_day_brings_a_new_budget_and_old_bills_stay_with_theirs() -> None:
    async with Rig(100).opened() as rig:
        late = await rig.reserve(80)
        rig.wall.move(hours=11, minutes=59, seconds=59)
        with pytest.raises(BudgetExhausted) as caught:
            await rig.reserve(80)
        assert caught.value.retry_after_s == 1
        rig.wall.move(seconds=1)
        assert rig.ledger.fits("web", "main", "") == 100
        today = await rig.reserve(80)
        late.settle(80)
        assert rig.total() == (0, 80)
        assert late.row.day == date(2026, 11, 25)
        assert today.row.day == date(2026, 11, 26)
        assert rig.store.rows[-1].day == date(2026, 11, 25)
        (event,) = rig.named("budget_alert")
        assert event.data["day"] == "2026-11-25"


@pytest.mark.asyncio
async def test_the_day_begins_in_the_zone_of_the_budget() -> None:
    tokyo = timezone(timedelta(hours=9))
    async with Rig(100, zone=tokyo).opened() as rig:
        with pytest.raises(BudgetExhausted) as caught:
            await rig.reserve(101)
        assert caught.value.retry_after_s == 3 * 3600
        rig.wall.move(hours=3)
        assert (await rig.reserve(1)).row.day == date(2026, 11, 26)


@pytest.mark.parametrize("back", [timedelta(hours=26), timedelta(days=400)])
@pytest.mark.asyncio
async def test_a_clock_set_back_opens_no_past_day(back: timedelta) -> None:
    rig = Rig(100)
    async with rig.opened():
        rig.wall.move(days=1)
        (await rig.reserve(90)).settle(90)
        rig.wall.at -= back
        assert rig.ledger.fits("web", "main", "") == 10
        assert (await rig.reserve(10)).row.day == date(2026, 11, 26)
        with pytest.raises(BudgetExhausted) as caught:
            await rig.reserve(1)
        assert (
            caught.value.retry_after_s == (back + timedelta(hours=12)).total_seconds()
        )


@pytest.mark.asyncio
async def test_a_restart_with_a_clock_set_back_opens_no_past_day() -> None:
    first = Rig(100)
    async with first.opened():
        (await first.reserve(90)).settle(90)
    first.wall.move(hours=-26)
    async with Rig(100, store=first.store, wall=first.wall).opened() as second:
        assert second.total() == (90, 0)
        assert (await second.reserve(10)).row.day == date(2026, 11, 25)


@pytest.mark.asyncio
async def test_a_restart_goes_on_from_the_sums_of_the_day() -> None:
    limits = {Scope(): 1000, Scope("backend", "web"): 200, Scope("client", "c"): 300}
    first = Rig(limits)
    async with first.opened():
        (await first.reserve(100, client="c")).settle(70)
        (await first.reserve(50, backend="other")).unknown()
    async with Rig(limits, store=first.store).opened() as second:
        assert second.ledger.totals() == {
            **first.ledger.totals(),
            Scope(): (120, 0, 1000),
            Scope("backend", "web"): (70, 0, 200),
            Scope("client", "c"): (70, 0, 300),
        }
        assert second.ledger.fits("web", "main", "c") == 130


@pytest.mark.asyncio
async def test_what_an_earlier_run_left_open_becomes_unknown() -> None:
    first = Rig(1000)
    await first.ledger.open()
    await first.reserve(100, attempt="yesterday")
    first.wall.move(days=1)
    await first.reserve(30, attempt="today")
    async with Rig(1000, store=first.store, wall=first.wall).opened() as second:
        assert second.total() == (30, 0)
        assert second.total("backend", "web") == (30, 0)
        assert second.store.states("yesterday")[1] == "unknown"
        assert second.store.states("today")[1] == "unknown"
        assert second.ledger.reconcile("today", 10)
        assert second.ledger.reconcile("yesterday", 0)
        assert second.total() == (10, 0)
    assert (await first.store.load(date.min)).reserved == ()


@pytest.mark.asyncio
async def test_what_was_left_open_counts_in_each_of_its_scopes() -> None:
    scopes = (
        Scope(),
        Scope("backend", "web"),
        Scope("track", "main"),
        Scope("client", "c"),
    )
    first = Rig()
    await first.ledger.open()
    await first.reserve(100, client="c")
    async with Rig(store=first.store).opened() as second:
        assert second.ledger.totals() == dict.fromkeys(scopes, (100, 0, None))
        assert second.ledger.reconcile("a1", -1)
        assert len(second.named("bill_above_ceiling")) == 1


@pytest.mark.asyncio
async def test_an_alert_of_before_the_restart_is_not_repeated() -> None:
    first = Rig(100)
    async with first.opened():
        (await first.reserve(80)).settle(80)
        assert first.named("budget_alert")
    async with Rig(100, store=first.store).opened() as second:
        (await second.reserve(5)).settle(5)
        assert not second.events


@pytest.mark.asyncio
async def test_open_rows_that_reach_the_share_at_the_start_do_alert() -> None:
    first = Rig(100)
    await first.ledger.open()
    await first.reserve(80)
    async with Rig(100, store=first.store).opened() as second:
        assert len(second.named("budget_alert")) == 1


@pytest.mark.asyncio
async def test_reconciling_replaces_the_ceiling_by_the_bill() -> None:
    async with Rig(1000).opened() as rig:
        (await rig.reserve(100)).unknown()
        assert rig.ledger.reconcile("a1", 30)
        assert rig.total() == (30, 0)
        assert rig.store.states("a1") == ["reserved", "unknown", "settled"]
        assert not rig.ledger.reconcile("a1", 20)
        assert not rig.ledger.reconcile("never", 20)
        assert rig.total() == (30, 0)


@pytest.mark.parametrize("bill", ODD_BILLS, ids=repr)
@pytest.mark.asyncio
async def test_reconciling_with_an_absurd_bill_keeps_the_ceiling(bill: Any) -> None:
    async with Rig(1000).opened() as rig:
        (await rig.reserve(100)).unknown()
        assert rig.ledger.reconcile("a1", bill)
        assert rig.total() == (100, 0)
        assert len(rig.named("bill_above_ceiling")) == 1


@pytest.mark.asyncio
async def test_only_attempts_of_unknown_outcome_are_reconciled() -> None:
    async with Rig(1000).opened() as rig:
        first, second, third = [await rig.reserve(100) for _ in range(3)]
        first.settle(1)
        second.release()
        for attempt in ("a1", "a2", "a3"):
            assert not rig.ledger.reconcile(attempt, 50)
        first.reconcile(50)
        third.reconcile(50)
        assert rig.total() == (1, 100)


@pytest.mark.asyncio
async def test_old_unknown_outcomes_are_forgotten_and_stay_charged() -> None:
    async with Rig().opened() as rig:
        for _ in range(UNKNOWN_KEPT + 1):
            (await rig.reserve(1)).unknown()
        assert not rig.ledger.reconcile("a1", 0)
        assert rig.ledger.reconcile("a2", 0)
        assert rig.total() == (UNKNOWN_KEPT, 0)


@pytest.mark.asyncio
async def test_a_reservation_that_cannot_be_written_holds_nothing() -> None:
    async with Rig(100).opened() as rig:
        rig.store.down = unavailable()
        for _ in range(3):
            with pytest.raises(LedgerUnavailable, match="full") as caught:
                await rig.reserve(60)
            assert caught.value is not rig.store.down
        assert rig.total() == (0, 0)
        assert [event.name for event in rig.events] == ["ledger_unavailable"]
        assert rig.events[0].data == {"reason": "the disk is full"}
        rig.store.down = None
        await rig.reserve(100)
        await rig.reserve(0)
        assert [event.name for event in rig.events[1:]] == ["ledger_available"]
        rig.store.down = unavailable()
        with pytest.raises(LedgerUnavailable):
            await rig.reserve(0)
        assert rig.events[-1].name == "ledger_unavailable"


@pytest.mark.asyncio
async def test_a_broken_store_plugin_never_fails_open() -> None:
    async with Rig(100).opened() as rig:
        rig.store.down = TypeError("a secret of the plugin")
        with pytest.raises(LedgerUnavailable, match="TypeError") as caught:
            await rig.reserve(60)
        assert "secret" not in str(caught.value)
        assert rig.total() == (0, 0)
        rig.store.down = None


@pytest.mark.asyncio
async def test_a_failed_reservation_wakes_who_waits_for_room() -> None:
    async with Rig(100).opened() as rig:
        rig.store.hold = True
        first = asyncio.create_task(rig.reserve(60))
        await rig.store.until_held()
        waiter = asyncio.create_task(rig.ledger.wait_for_room(20))
        await asyncio.sleep(0)
        rig.store.down = unavailable()
        rig.store.go_on()
        assert await waiter
        with pytest.raises(LedgerUnavailable):
            await first
        rig.store.down = None


@pytest.mark.parametrize("end", ["settle", "unknown", "release"])
@pytest.mark.asyncio
async def test_an_end_that_cannot_be_written_is_written_when_it_can(end: str) -> None:
    async with Rig(1000).opened() as rig:
        reservation = await rig.reserve(100)
        rig.store.down = unavailable()
        if end == "settle":
            reservation.settle(40)
        else:
            getattr(reservation, end)()
        await asyncio.sleep(0)
        total = rig.total()
        assert rig.store.states("a1") == ["reserved"]
        assert [event.data for event in rig.events] == [{"reason": "the disk is full"}]
        with pytest.raises(LedgerUnavailable):
            await rig.reserve(1)
        await asyncio.sleep(0)
        assert rig.total() == total
        rig.store.down = None
        await rig.reserve(1)
        assert rig.store.rows[1] == reservation.row
        await rig.reserve(1)
        assert len(rig.store.states("a1")) == 2


@pytest.mark.asyncio
async def test_closing_writes_what_could_not_be_written() -> None:
    rig = Rig(1000)
    async with rig.opened():
        reservation = await rig.reserve(100)
        rig.store.down = unavailable()
        reservation.settle(40)
        await asyncio.sleep(0)
        rig.store.down = None
    assert rig.store.states("a1") == ["reserved", "settled"]
    assert rig.store.closed == 1


@pytest.mark.asyncio
async def test_a_later_step_replaces_one_that_could_not_be_written() -> None:
    async with Rig(1000).opened() as rig:
        reservation = await rig.reserve(100)
        rig.store.down = unavailable()
        reservation.unknown()
        await asyncio.sleep(0)
        rig.store.down = None
        rig.ledger.reconcile("a1", 5)
        await asyncio.sleep(0)
        await rig.reserve(1)
        await asyncio.sleep(0)
        assert rig.store.states("a1") == ["reserved", "settled"]
        assert not rig.named("ledger_row_refused")


@pytest.mark.asyncio
async def test_a_row_that_the_store_refuses_is_announced() -> None:
    async with Rig(1000).opened() as rig:
        reservation = await rig.reserve(100)
        rig.store.down = ValueError("contradiction")
        reservation.settle(5)
        await asyncio.sleep(0)
        rig.store.down = None
        (event,) = rig.events
        assert event.name == "ledger_row_refused"
        assert event.data == {"attempt_id": "a1", "state": "settled"}


@pytest.mark.asyncio
async def test_an_attempt_id_is_used_once() -> None:
    async with Rig(1000).opened() as rig:
        (await rig.reserve(100, attempt="same")).settle(10)
        with pytest.raises(LedgerUnavailable):
            await rig.reserve(100, attempt="same")
        assert rig.total() == (10, 0)


@pytest.mark.asyncio
async def test_a_cancelled_reservation_gives_its_money_back() -> None:
    async with Rig(100).opened() as rig:
        rig.store.hold = True
        task = asyncio.create_task(rig.reserve(100))
        await rig.store.until_held()
        assert rig.total() == (0, 100)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert rig.total() == (0, 0)
        rig.store.go_on()
        assert rig.store.states("a1") == ["reserved", "released"]
        await rig.reserve(100)


@pytest.mark.asyncio
async def test_a_reservation_cancelled_while_the_store_fails_leaves_no_trace() -> None:
    async with Rig(100).opened() as rig:
        rig.store.hold = True
        task = asyncio.create_task(rig.reserve(100))
        await rig.store.until_held()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        rig.store.down = unavailable()
        (_, first), *rest = rig.store.held
        rig.store.held = [(rig.store.held[0][0], first)]
        rig.store.go_on()
        rig.store.down = None
        rig.store.held = rest
        rig.store.go_on()  # the release of a row that was never stored
        await asyncio.sleep(0)
        assert not rig.events
        assert rig.total() == (0, 0)


@pytest.mark.asyncio
async def test_a_store_that_cannot_start_stops_the_ledger() -> None:
    class Broken(ScriptedStore):
        async def load(self, day: date) -> Any:
            raise unavailable("no such folder")

    rig = Rig(100, store=Broken())
    with pytest.raises(LedgerUnavailable, match="folder"):
        await rig.ledger.open()
    assert rig.store.closed == 1


@pytest.mark.asyncio
async def test_open_rows_that_cannot_be_written_stop_the_start() -> None:
    first = Rig(100)
    await first.ledger.open()
    await first.reserve(60)
    first.store.down = unavailable()
    with pytest.raises(LedgerUnavailable):
        await Rig(100, store=first.store).ledger.open()
    assert first.store.closed == 1


@pytest.mark.parametrize("end", ["settle", "release", "reconcile"])
@pytest.mark.asyncio
async def test_waiting_for_room_ends_when_money_comes_back(end: str) -> None:
    async with Rig(200).opened() as rig:
        (await rig.reserve(100)).unknown()
        reservation = await rig.reserve(100)
        waiters = [asyncio.create_task(rig.ledger.wait_for_room(20)) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not any(each.done() for each in waiters)
        if end == "settle":
            reservation.settle(99)
        elif end == "release":
            reservation.release()
        else:
            rig.ledger.reconcile("a1", 99)
        assert await asyncio.gather(*waiters) == [True] * 5


@pytest.mark.parametrize("end", ["settle", "unknown"])
@pytest.mark.asyncio
async def test_a_bill_at_the_ceiling_gives_nothing_back(end: str) -> None:
    async with Rig(200).opened() as rig:
        reservation, other = await rig.reserve(100), await rig.reserve(100)
        waiter = asyncio.create_task(rig.ledger.wait_for_room(20))
        await asyncio.sleep(0)
        if end == "settle":
            reservation.settle(100)
        else:
            reservation.unknown()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiter.done()
        other.settle(0)
        assert await waiter


@pytest.mark.asyncio
async def test_waiting_ends_with_its_time_or_at_once_when_nothing_is_held() -> None:
    async with Rig(100).opened() as rig:
        assert not await rig.ledger.wait_for_room(1e9)
        reservation = await rig.reserve(100)
        assert not await rig.ledger.wait_for_room(0.001)
        assert not await rig.ledger.wait_for_room(0)
        reservation.unknown()
        assert not await rig.ledger.wait_for_room(1e9)


@pytest.mark.asyncio
async def test_a_cancelled_wait_leaves_the_others_waiting() -> None:
    async with Rig(100).opened() as rig:
        reservation = await rig.reserve(100)
        first, second = [
            asyncio.create_task(rig.ledger.wait_for_room(20)) for _ in range(2)
        ]
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        assert first.cancelled()
        reservation.release()
        assert await second


@pytest.mark.asyncio
async def test_caps_can_change_while_money_is_held() -> None:
    async with Rig(1000).opened() as rig:
        (await rig.reserve(300)).settle(300)
        held = await rig.reserve(100)
        web = Scope("backend", "web")
        rig.ledger.limit(Caps({Scope(): 350, web: 1000}, 0.5))
        assert rig.ledger.fits("web", "main", "") == 0
        with pytest.raises(BudgetExhausted) as caught:
            await rig.reserve(0)
        assert caught.value.left_micro_usd == 0
        assert rig.ledger.totals()[web] == (300, 100, 1000)
        waiter = asyncio.create_task(rig.ledger.wait_for_room(20))
        await asyncio.sleep(0)
        rig.ledger.limit(Caps({web: 1000}, 0.5))
        assert await waiter
        assert rig.ledger.totals()[Scope()] == (300, 100, None)
        assert rig.ledger.fits("other", "main", "") is None
        assert rig.ledger.fits("web", "main", "") == 600
        rig.ledger.limit(Caps())
        assert rig.ledger.fits("web", "main", "") is None
        held.settle(0)
        rig.wall.move(days=1)
        assert rig.ledger.fits("web", "main", "") is None
        assert rig.ledger.totals() == {Scope(): (0, 0, None)}


@pytest.mark.asyncio
async def test_a_share_that_was_lowered_alerts_with_the_next_bill() -> None:
    async with Rig(1000).opened() as rig:
        (await rig.reserve(300)).settle(300)
        rig.ledger.limit(Caps({Scope(): 1000}, 0.3))
        assert not rig.events
        (await rig.reserve(1)).settle(0)
        assert len(rig.named("budget_alert")) == 1


@pytest.mark.asyncio
async def test_a_new_day_keeps_changed_caps() -> None:
    async with Rig(1000).opened() as rig:
        rig.ledger.limit(Caps({Scope(): 50}))
        rig.wall.move(days=1)
        assert rig.ledger.fits("web", "main", "") == 50


@pytest.mark.asyncio
async def test_names_beyond_the_bound_are_counted_together_but_caps_always_hold() -> (
    None
):
    capped = Scope("client", "capped")
    async with Rig().opened() as rig:
        for number in range(SCOPES_KEPT + 10):
            (await rig.reserve(1, client=f"c{number}")).settle(1)
        totals = rig.ledger.totals()
        assert len([scope for scope in totals if scope.kind == "client"]) == SCOPES_KEPT
        assert totals[Scope()][0] == SCOPES_KEPT + 10
        rig.ledger.limit(Caps({capped: 5}))
        with pytest.raises(BudgetExhausted):
            await rig.reserve(6, client="capped")
        first = rig.store
    async with Rig({capped: 5}, store=first).opened() as again:
        assert again.total()[0] == SCOPES_KEPT + 10
        with pytest.raises(BudgetExhausted):
            await again.reserve(6, client="capped")


@pytest.mark.asyncio
async def test_a_listener_hears_of_sums_that_are_already_right() -> None:
    async with Rig(100).opened() as rig:
        seen: list[tuple[int, int]] = []
        rig.ledger._announce = lambda _event: seen.append(rig.total())
        (await rig.reserve(90)).settle(91)
        assert seen == [(90, 0), (90, 0)]


@pytest.mark.asyncio
async def test_two_hundred_at_once_share_a_cap_for_ten() -> None:
    async with Rig(1000).opened() as rig:
        rig.store.hold = True
        tasks = [asyncio.create_task(rig.reserve(100)) for _ in range(200)]
        await rig.store.until_held(10)
        rig.store.go_on()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [each for each in results if isinstance(each, BudgetExhausted)]
        assert len(refused) == 190
        assert rig.total() == (0, 1000)
        assert len(rig.store.rows) == 10
