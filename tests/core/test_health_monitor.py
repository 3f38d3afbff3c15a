from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from plb_core import Event, HealthRecord, ProbeResult, Provider, hookimpl
from plb_core.types import Health

from .conftest import Rig

pytestmark = pytest.mark.asyncio
MakeRig = Callable[..., Rig]


class Check:
    """Judges by the last probe; lets the test wait for a number of probes."""

    interval_s = 0.01

    def __init__(self) -> None:
        self.records: list[HealthRecord] = []
        self.seen = asyncio.Condition()
        self.fail_with: Exception | None = None

    async def probe(self, backend: object) -> ProbeResult:
        if self.fail_with is not None:
            raise self.fail_with
        return await backend.ping(1.0)  # type: ignore[attr-defined,no-any-return]

    def judge(self, record: HealthRecord) -> Health:
        self.records.append(record)
        return "healthy" if record.probe.ok else "unhealthy"

    @hookimpl
    def plb_register_health_check(self) -> Provider[Check]:
        return Provider("check", lambda _s, _c: self)


class Ears:
    def __init__(self) -> None:
        self.events: list[Event] = []

    @hookimpl
    def plb_event(self, event: Event) -> None:
        self.events.append(event)


class Deaf:
    @hookimpl
    def plb_event(self, event: Event) -> None:
        raise RuntimeError("deaf")


TOML = '[routing]\nhealth_check = "check"\n[backend.a]\n'


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def test_probes_set_health_and_announce_each_change(rig: MakeRig) -> None:
    check, ears = Check(), Ears()
    r = rig(TOML, extra=[check, Deaf(), ears])
    async with r.balancer:
        await until(lambda: r.candidate("a").health == "healthy")
        r.candidate("a").served = 50
        r.a.healthy = False
        await until(lambda: r.candidate("a").health == "unhealthy")
        assert not r.balancer.ready()
        r.a.healthy = True
        await until(lambda: r.candidate("a").health == "healthy")
    assert r.candidate("a").served == 0  # slow start counts from recovery
    assert [event.data["to"] for event in ears.events] == [
        "healthy",
        "unhealthy",
        "healthy",
    ]
    assert {event.name for event in ears.events} == {"health_changed"}


async def test_probes_in_a_row_are_counted(rig: MakeRig) -> None:
    check = Check()
    r = rig(TOML, extra=[check])
    async with r.balancer:
        await until(lambda: len(check.records) >= 3)
        assert [x.successes_in_a_row for x in check.records[:3]] == [1, 2, 3]
        r.a.healthy = False
        await until(lambda: check.records[-1].failures_in_a_row >= 2)
        assert check.records[-1].successes_in_a_row == 0


async def test_real_traffic_is_part_of_the_record(rig: MakeRig) -> None:
    check = Check()
    r = rig(TOML, extra=[check])
    async with r.balancer as balancer:
        await until(lambda: bool(check.records))
        assert check.records[0].success_rate is None
        await balancer.ask("q")
        await until(lambda: check.records[-1].success_rate == 1.0)


async def test_a_broken_check_keeps_the_last_health_and_goes_on(rig: MakeRig) -> None:
    check = Check()
    r = rig(TOML, extra=[check])
    async with r.balancer:
        await until(lambda: r.candidate("a").health == "healthy")
        check.fail_with = RuntimeError("broken")
        count = len(check.records)
        await asyncio.sleep(0.03)
        assert r.candidate("a").health == "healthy"
        check.fail_with = None
        await until(lambda: len(check.records) > count)


async def test_closing_ends_every_probe(rig: MakeRig) -> None:
    r = rig(TOML, extra=[Check()])
    async with r.balancer:
        pass
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("plb")]


@pytest.mark.parametrize("health", [None, "fine", ["healthy"]])
async def test_an_impossible_judgement_keeps_the_last_health(
    rig: MakeRig, health: object
) -> None:
    """A check that judged None opened an unhealthy backend."""
    check = Check()
    r = rig(TOML, extra=[check])
    async with r.balancer:
        r.a.healthy = False
        await until(lambda: r.candidate("a").health == "unhealthy")
        judged = asyncio.Event()

        def judge(record: HealthRecord) -> Health:
            judged.set()
            return health  # type: ignore[return-value]  # on purpose

        check.judge = judge  # type: ignore[method-assign]
        await judged.wait()
        await asyncio.sleep(0)
        assert r.candidate("a").health == "unhealthy"


async def test_good_checks_end_an_open_time_early_but_not_at_once(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from plb_core import health

    monkeypatch.setattr(health, "RECOVERY_LOOK_S", 0.05)
    r = rig("[breaker]\ntimeout_s = 250\n" + TOML, extra=[Check()])
    breaker = r.candidate("a").breaker
    for _ in range(5):
        breaker.finish(breaker.start(0.0), "failure", 0.1, r.balancer._now())
    async with r.balancer as balancer:
        assert breaker.state == "open"
        await until(lambda: breaker.state == "half_open")
        assert (await balancer.ask("q")).backend == "a"
