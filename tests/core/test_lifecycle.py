"""Start, reload and close, at odd moments and at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from plb_core import (
    BadAnswer,
    Choice,
    Chunk,
    ConfigError,
    NoBackendAvailable,
    Provider,
    Query,
    hookimpl,
)
from plb_core.balancer import Balancer
from plb_core.config import Config, read_text
from plb_core.testing.fakes import FakeBackend, FakePlugin
from plb_core.types import Answer, Rating

from .conftest import First, Rig

pytestmark = pytest.mark.asyncio
MakeRig = Callable[..., Rig]

TRACK = '[track.main]\nalgorithm = "first"\n'


def config(*names: str, extra: str = "") -> Config:
    sections = "".join(f"[backend.{name}]\n" for name in names)
    return read_text(sections + TRACK + extra, file="c.toml")


class Gate(FakeBackend):
    """Waits in `start`, `ask` or both until it is let through."""

    def __init__(self, text: str = "gate", *, slow_start: bool = False) -> None:
        super().__init__(text)
        self.slow_start = slow_start
        self.entered, self.go = asyncio.Event(), asyncio.Event()
        self.asked_closed = False

    async def start(self) -> None:
        self.started += 1
        if self.slow_start:
            self.entered.set()
            await self.go.wait()

    async def ask(self, query: Query, timeout_s: float) -> Answer:
        self.asked_closed = bool(self.closed)
        self.entered.set()
        await self.go.wait()
        return await super().ask(query, timeout_s)


async def settled(balancer: Balancer) -> None:
    await balancer._leaving.settled()


async def test_a_failover_finds_the_old_plans_backends_open(rig: MakeRig) -> None:
    """A removed backend was closed while a question could still fail over to it."""
    gate, spare = Gate(), Gate()
    gate.failures = [BadAnswer("x")]
    spare.go.set()
    r = rig("[backend.g]\n[backend.s]\n", extra=[FakePlugin(g=gate, s=spare)])
    async with r.balancer as balancer:
        task = asyncio.create_task(balancer.ask("q"))
        await gate.entered.wait()
        await balancer.apply(config("a", "g"))
        await balancer.apply(config("a"))
        await asyncio.sleep(0.12)  # more than two looks at whether it is idle
        gate.go.set()
        reply = await task
        assert (reply.backend, spare.asked_closed) == ("s", False)
        await settled(balancer)
        assert (gate.closed, spare.closed) == (1, 1)


async def test_two_reloads_at_once_come_one_after_the_other(rig: MakeRig) -> None:
    """Each closed the first plan's backends; the loser's were never closed."""
    slow = Gate(slow_start=True)
    r = rig("[backend.a]\n", extra=[FakePlugin(s=slow)])
    async with r.balancer as balancer:
        first = asyncio.create_task(balancer.apply(config("s")))
        await slow.entered.wait()
        second = asyncio.create_task(balancer.apply(config("b")))
        await asyncio.sleep(0)
        slow.go.set()
        await asyncio.gather(first, second)
        assert list(balancer.plan.backends) == ["b"]
        await settled(balancer)
        assert (r.a.closed, slow.closed, r.b.closed) == (1, 1, 0)
    assert (slow.started, r.b.started, r.b.closed) == (1, 1, 1)


async def test_closing_during_a_reload_closes_what_the_reload_opened(
    rig: MakeRig,
) -> None:
    slow = Gate(slow_start=True)
    r = rig("[backend.a]\n", extra=[FakePlugin(s=slow)])
    await r.balancer.start()
    reload = asyncio.create_task(r.balancer.apply(config("s")))
    await slow.entered.wait()
    closing = asyncio.create_task(r.balancer.close())
    await asyncio.sleep(0)
    slow.go.set()
    await asyncio.gather(reload, closing)
    assert (r.a.closed, slow.started, slow.closed) == (1, 1, 1)


async def test_a_closed_balancer_takes_no_configuration_and_no_question(
    rig: MakeRig,
) -> None:
    r = rig("[backend.a]\n")
    async with r.balancer as balancer:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        await balancer.apply(config("b"))
    with pytest.raises(RuntimeError, match="closed"):
        await balancer.start()
    with pytest.raises(NoBackendAvailable, match="closed"):
        await balancer.ask("q")
    assert not balancer.ready()
    assert (r.a.started, r.a.closed, r.b.started) == (1, 1, 0)


async def test_closing_twice_closes_once(rig: MakeRig) -> None:
    r = rig("[backend.a]\n")
    await r.balancer.start()
    await asyncio.gather(r.balancer.close(), r.balancer.close())
    await r.balancer.close()
    assert r.a.closed == 1


async def test_starting_twice_starts_once(rig: MakeRig) -> None:
    r = rig("[backend.a]\n")
    await r.balancer.start()
    async with r.balancer:
        assert r.a.started == 1
    assert r.a.closed == 1


async def test_what_never_started_is_not_closed(rig: MakeRig) -> None:
    r = rig("[backend.a]\n")
    await r.balancer.close()
    assert r.a.closed == 0


async def test_a_configuration_before_the_start_starts_nothing_twice(
    rig: MakeRig,
) -> None:
    r = rig("[backend.a]\n[backend.b]\n")
    await r.balancer.apply(config("b", "c"))
    assert (r.b.started, r.c.started) == (0, 0)
    async with r.balancer:
        assert (r.a.started, r.b.started, r.c.started) == (0, 1, 1)
    assert (r.a.closed, r.b.closed, r.c.closed) == (0, 1, 1)


async def test_closing_lets_running_requests_end(rig: MakeRig) -> None:
    """`close` pulled the backends away from under running requests."""
    gate = Gate("late")
    r = rig("[backend.g]\n", extra=[FakePlugin(g=gate)])
    await r.balancer.start()
    task = asyncio.create_task(r.balancer.ask("q"))
    await gate.entered.wait()
    closing = asyncio.create_task(r.balancer.close())
    await asyncio.sleep(0)
    assert gate.closed == 0
    gate.go.set()
    assert (await task).text == "late"
    await closing
    assert gate.closed == 1


async def test_closing_waits_no_longer_than_the_deadline(rig: MakeRig) -> None:
    r = rig("[routing]\ndeadline_s = 0.05\n[backend.a]\n")
    await r.balancer.start()
    lease = r.balancer.lease("q")
    with lease:  # held for longer than any question may take
        await r.balancer.close()
    assert r.a.closed == 1
    assert r.candidate("a").in_flight == 0


async def test_a_cancelled_reload_leaves_one_plan_whole(rig: MakeRig) -> None:
    slow = Gate(slow_start=True)
    r = rig("[backend.a]\n", extra=[FakePlugin(s=slow)])
    async with r.balancer as balancer:
        reload = asyncio.create_task(balancer.apply(config("b", "s")))
        await slow.entered.wait()
        reload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reload
        assert (r.b.started, r.b.closed) == (1, 1)
        assert (await balancer.ask("q")).backend == "a"
        await balancer.apply(config("c"))
        assert (await balancer.ask("q")).backend == "c"
    assert (r.a.closed, r.c.closed) == (1, 1)


async def test_a_failing_close_is_logged_and_stops_no_other(rig: MakeRig) -> None:
    class Stuck(FakeBackend):
        async def close(self) -> None:
            await super().close()
            raise OSError("socket")

    stuck = Stuck()
    r = rig("[backend.s]\n[backend.a]\n", extra=[FakePlugin(s=stuck)])
    async with r.balancer:
        pass
    assert (stuck.closed, r.a.closed) == (1, 1)


async def test_a_changed_backend_is_replaced_and_the_old_one_closed(
    rig: MakeRig,
) -> None:
    made: list[FakeBackend] = []

    class Fresh:
        @hookimpl
        def plb_register_backend(self) -> Provider[FakeBackend]:
            def build(settings: object, context: object) -> FakeBackend:
                made.append(FakeBackend())
                return made[-1]

            return Provider("fresh", build)

    r = rig("[backend.fresh]\n", extra=[Fresh()])
    async with r.balancer as balancer:
        await balancer.ask("q")
        text = "[backend.fresh]\nweight = 2.0\n" + TRACK
        await balancer.apply(read_text(text))
        assert r.candidate("fresh").served == 0
        await settled(balancer)
        assert [(b.started, b.closed) for b in made] == [(1, 1), (1, 0)]
    assert [b.closed for b in made] == [1, 1]


class Ears:
    """A listener plugin that makes a new listener each time it is asked to."""

    def __init__(self) -> None:
        self.made: list[list[Any]] = []

    @hookimpl
    def plb_register_listener(self) -> Provider[Any]:
        def build(settings: object, context: object) -> Any:
            heard: list[Any] = []
            self.made.append(heard)

            class Ear:
                observe = staticmethod(heard.append)

            return Ear()

        return Provider("ears", build)


async def test_an_unchanged_listener_goes_on_counting_after_a_reload(
    rig: MakeRig,
) -> None:
    """A metrics listener began at zero again at every reload."""
    ears = Ears()
    r = rig("[backend.a]\n[listener.ears]\n", extra=[ears])
    await r.balancer.ask("q")
    await r.balancer.apply(config("a", "b", extra="[listener.ears]\n"))
    await r.balancer.ask("q")
    assert [len(heard) for heard in ears.made] == [2]


async def test_a_changed_service_is_said_to_need_a_restart(
    rig: MakeRig, logged: list[str]
) -> None:
    """A changed service section was accepted and then ignored in silence."""

    class Services:
        @hookimpl
        def plb_register_service(self) -> Provider[Any]:
            class Shop:
                async def start(self, balancer: object) -> list[str]:
                    return []

                async def close(self) -> None:
                    pass

            return Provider("shop", lambda _s, _c: Shop())

    r = rig("[backend.a]\n[service.shop]\n", extra=[Services()])
    before = r.balancer.plan.services["shop"]
    await r.balancer.apply(config("a", extra="[service.shop]\n"))
    assert r.balancer.plan.services["shop"] is before
    assert not logged
    text = '[service.shop]\n[service.other]\nplugin = "shop"\n'
    await r.balancer.apply(config("a", extra=text))
    assert ["restart" in line for line in logged] == [True]


async def test_which_plugins_are_allowed_cannot_change_while_running(
    rig: MakeRig,
) -> None:
    """A stricter [plugins] allow was accepted and then not obeyed."""
    r = rig("[backend.a]\n")
    stricter = config("a", extra='[plugins]\nallow = ["other"]\n')
    with pytest.raises(ConfigError, match=r"plugins: .*restart"):
        await r.balancer.apply(stricter)


async def test_a_rating_after_a_reload_reaches_the_algorithm_in_use(
    rig: MakeRig,
) -> None:
    """It reached the old plan's algorithm, which nothing asks any more."""

    class Fresh:
        def __init__(self) -> None:
            self.made: list[First] = []

        @hookimpl
        def plb_register_algorithm(self) -> Provider[First]:
            def build(settings: object, context: object) -> First:
                self.made.append(First())
                return self.made[-1]

            return Provider("fresh", build)

    fresh = Fresh()
    toml = '[backend.a]\n[track.main]\nalgorithm = "fresh"\n'
    r = rig(toml, extra=[fresh])
    reply = await r.balancer.ask("q")
    await r.balancer.apply(read_text("[backend.b]\n" + toml))
    r.balancer.rate(reply.request_id, {"content": 0.5})
    assert [[type(x) for x in each.ratings] for each in fresh.made] == [[], [Rating]]


async def test_an_algorithm_that_cannot_adopt_refuses_the_reload(rig: MakeRig) -> None:
    """The plugin's own exception came out of `apply`."""

    class Stubborn(First):
        def adopt(self, previous: object) -> None:
            raise KeyError("nothing in common")

    class Plugin:
        @hookimpl
        def plb_register_algorithm(self) -> Provider[Stubborn]:
            return Provider("stubborn", lambda _s, _c: Stubborn())

    toml = '[backend.a]\n[track.main]\nalgorithm = "stubborn"\n'
    r = rig(toml, extra=[Plugin()])
    plan = r.balancer.plan
    with pytest.raises(ConfigError, match=r"stubborn.*adopt.*KeyError"):
        await r.balancer.apply(read_text(toml + "[backend.b]\n"))
    assert r.balancer.plan is plan


async def test_what_an_algorithm_learned_survives_a_reload(rig: MakeRig) -> None:
    class Learns(First):
        def adopt(self, previous: Learns) -> None:
            self.outcomes = list(previous.outcomes)

    made: list[Learns] = []

    class Plugin:
        @hookimpl
        def plb_register_algorithm(self) -> Provider[Learns]:
            def build(settings: object, context: object) -> Learns:
                made.append(Learns())
                return made[-1]

            return Provider("learns", build)

    toml = '[backend.a]\n[track.main]\nalgorithm = "learns"\n'
    r = rig(toml, extra=[Plugin()])
    await r.balancer.ask("q")
    await r.balancer.apply(read_text(toml + "[backend.b]\n"))
    await r.balancer.ask("q")
    assert [len(each.outcomes) for each in made] == [1, 2]


async def test_a_stream_left_early_is_closed_before_its_slot_is_free(
    rig: MakeRig,
) -> None:
    """Its backend could be closed while the stream's clean-up still ran."""
    in_flight: list[int] = []

    class Slow(FakeBackend):
        async def stream(self, query: Query, timeout_s: float) -> AsyncIterator[Chunk]:
            try:
                yield Chunk("one")
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                in_flight.append(r.candidate("s").in_flight)

    r = rig("[backend.s]\n", extra=[FakePlugin(s=Slow())])
    async with r.balancer.stream("q"):
        pass
    assert in_flight == [1]
    assert r.idle()


async def test_a_choice_is_explained_while_the_request_runs(rig: MakeRig) -> None:
    r = rig()
    with r.balancer.lease("q") as lease:
        attempts = r.balancer.explain(lease.request_id)["attempts"]
    assert attempts[0]["result"] == "running"  # type: ignore[index]
    assert Choice(r.candidate("a")).probability == 1.0


async def test_a_question_that_waits_for_a_place_finds_its_backends_open(
    rig: MakeRig,
) -> None:
    """While it waited, a reload closed the backends that it was about to ask."""
    gate, spare = Gate(), Gate()
    spare.go.set()
    overload = "[overload]\nmax_in_flight = 1\n"
    r = rig("[backend.g]\n" + overload, extra=[FakePlugin(g=gate, s=spare)])
    async with r.balancer as balancer:
        first = asyncio.create_task(balancer.ask("q"))
        await gate.entered.wait()
        second = asyncio.create_task(balancer.ask("q"))
        await asyncio.sleep(0)
        first.cancel()  # the place is free as soon as it has ended
        await balancer.apply(config("s", extra=overload))
        gate.go.set()
        assert (await second).backend == "g"
        assert not gate.asked_closed
        await settled(balancer)
    assert (gate.closed, spare.closed) == (1, 1)


async def test_closing_lets_those_that_wait_for_a_place_end(rig: MakeRig) -> None:
    gate = Gate()
    toml = "[backend.g]\n[overload]\nmax_in_flight = 1\n"
    r = rig(toml, extra=[FakePlugin(g=gate)])
    await r.balancer.start()
    tasks = [asyncio.create_task(r.balancer.ask("q")) for _ in range(2)]
    await gate.entered.wait()
    closing = asyncio.create_task(r.balancer.close())
    await asyncio.sleep(0)
    gate.go.set()
    assert [(await task).backend for task in tasks] == ["g", "g"]
    await closing
    assert (gate.closed, gate.asked_closed) == (1, False)
