from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plb_core.day import DayClock
from tests.core.ledger_rig import WallClock

# Days whose midnight does not exist, or exists twice: how long each lasts, in hours.
ODD_DAYS = [
    ("Africa/Cairo", date(2027, 4, 30), 23),
    ("Asia/Beirut", date(2027, 3, 28), 23),
    ("America/Santiago", date(2027, 9, 5), 23),
    ("America/Havana", date(2027, 3, 14), 23),
    ("America/Havana", date(2027, 11, 7), 25),
    ("Asia/Beirut", date(2027, 10, 30), 25),
    ("Europe/Berlin", date(2027, 3, 28), 23),
    ("Europe/Berlin", date(2027, 10, 31), 25),
    ("Australia/Lord_Howe", date(2027, 4, 4), 24.5),
    ("UTC", date(2027, 3, 28), 24),
]


def days_by_minute(zone: str, start: datetime, minutes: int) -> list[date]:
    wall = WallClock(start)
    clock = DayClock(ZoneInfo(zone), wall)
    seen = []
    for _ in range(minutes):
        seen.append(clock.today())
        wall.move(minutes=1)
    return seen


@pytest.mark.parametrize(("zone", "day", "hours"), ODD_DAYS)
def test_an_odd_day_is_one_day_of_its_own_length(
    zone: str, day: date, hours: float
) -> None:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=30)
    seen = days_by_minute(zone, start, 90 * 60)
    assert seen == sorted(seen)
    assert seen.count(day) == hours * 60


@pytest.mark.parametrize(("zone", "day", "hours"), ODD_DAYS)
def test_the_time_left_leads_exactly_to_the_next_day(
    zone: str, day: date, hours: float
) -> None:
    wall = WallClock(datetime(day.year, day.month, day.day, 12, tzinfo=UTC))
    clock = DayClock(ZoneInfo(zone), wall)
    before = clock.today()
    wall.move(seconds=clock.left_s() - 1e-6)
    assert clock.today() == before
    wall.move(seconds=clock.left_s())
    assert clock.today() > before
    assert 23 * 3600 <= clock.left_s() <= 25 * 3600


def test_a_day_that_a_country_left_out_is_left_out() -> None:
    # Samoa crossed the date line: 29 December 2011 was followed by the 31st.
    seen = days_by_minute("Pacific/Apia", datetime(2011, 12, 29, 12, tzinfo=UTC), 2880)
    assert sorted(set(seen)) == [date(2011, 12, day) for day in (29, 31)] + [
        date(2012, 1, 1)
    ]
    assert seen == sorted(seen)


def test_a_day_stays_the_same_object_until_it_ends() -> None:
    wall = WallClock()
    clock = DayClock(UTC, wall)
    assert clock.today() is clock.today()


def test_moving_on_never_goes_back() -> None:
    wall = WallClock()
    clock = DayClock(UTC, wall)
    clock.not_before(date(2027, 1, 1))
    assert clock.today() == date(2027, 1, 1)
    clock.not_before(date(2026, 12, 31))
    assert clock.today() == date(2027, 1, 1)
    assert (
        clock.left_s() == (datetime(2027, 1, 2, tzinfo=UTC) - wall.at).total_seconds()
    )


def test_no_time_is_left_once_the_day_is_over() -> None:
    wall = WallClock()
    clock = DayClock(UTC, wall)
    clock.today()
    wall.move(days=3)
    assert clock.left_s() == 0.0


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from([zone for zone, _, _ in ODD_DAYS]),
    st.lists(st.floats(-40 * 3600, 40 * 3600), max_size=30),
)
def test_days_only_move_forward_whatever_the_clock_does(
    zone: str, moves: list[float]
) -> None:
    wall = WallClock(datetime(2027, 3, 13, 20, tzinfo=UTC))
    clock = DayClock(ZoneInfo(zone), wall)
    latest = wall.at
    last = clock.today()
    for seconds in moves:
        wall.move(seconds=seconds)
        latest = max(latest, wall.at)
        today = clock.today()
        assert today >= last
        assert today == latest.astimezone(ZoneInfo(zone)).date()
        last = today
