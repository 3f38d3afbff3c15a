"""Health checks flap, lie, hang, swell and point elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from plb_core import Event, hookimpl
from plb_core.testing.emulators import Call, Emulator, Fault, LightRAGEmulator
from tests.faults.case import SECONDS, Case, base_latency_s, three_backends
from tests.faults.watch import LISTENER, Watch

pytestmark = [pytest.mark.faults, pytest.mark.asyncio, pytest.mark.timeout(600)]
CHECK = "health_check = 'ping'"
INTERVAL_S = 0.1


def pinging(**settings: float) -> str:
    lines = "".join(f"{key} = {value}\n" for key, value in settings.items())
    return f"[health_check.ping]\ninterval_s = {INTERVAL_S}\n{lines}"


class Events:
    """Keeps what was announced."""

    def __init__(self) -> None:
        self.heard: list[Event] = []

    @hookimpl
    def plb_event(self, event: Event) -> None:
        self.heard.append(event)

    def changes(self, backend: str) -> int:
        return sum(
            event.name == "health_changed"
            and event.data["backend"] == backend
            and event.data["from"] != "unknown"
            for event in self.heard
        )


def on_checks(fault: Callable[[int], Fault | None]) -> Callable[[Call], Fault | None]:
    """Return a plan for the checks alone, which are no questions."""
    numbers = itertools.count()

    def plan(call: Call) -> Fault | None:
        return None if call.request.method == "POST" else fault(next(numbers))

    return plan


async def test_f21_a_health_check_flaps() -> None:
    ups = three_backends()
    down = Fault.status(503)
    # Two requests make one probe of a LightRAG server: each second probe fails.
    ups["graph1"].faults = on_checks(lambda number: down if number % 3 == 2 else None)
    events = Events()
    async with Case(
        "F21",
        "health check flaps",
        ups,
        routing=CHECK,
        more=pinging(),
        plugins=[events],
    ) as case:
        await case.load()
        case.exactly("user_failures", case.failures(), 0)
        case.figure(
            "checks", len(ups["graph1"].requests) - case.posts("graph1"), at_least=20
        )
        case.figure("transitions", events.changes("graph1"), at_most=2)


async def sound_check_failing_traffic(name: str) -> None:
    ups = three_backends()
    refusal = Fault.status(500)
    ups["graph1"].faults = lambda call: (
        refusal if call.request.method == "POST" else None
    )
    title = "health OK, traffic fails"
    watch = Watch()
    more = pinging() + LISTENER
    async with Case(
        name, title, ups, routing=CHECK, more=more, plugins=[watch]
    ) as case:
        await case.load()
        case.exactly("user_failures", case.failures(), 0)
        case.figure(
            "checks", len(ups["graph1"].requests) - case.posts("graph1"), at_least=20
        )
        if name == "F22 breaker":
            failures = watch.failures_until_open("graph1")
            case.figure("attempts_until_open", failures, at_most=5)
            case.exactly("begun_while_open", watch.begun_while_open("graph1"), 0)


async def test_f22_the_check_is_sound_and_traffic_fails() -> None:
    await sound_check_failing_traffic("F22")


async def test_f22_traffic_decides() -> None:
    await sound_check_failing_traffic("F22 breaker")


async def test_f22_the_check_fails_and_traffic_is_sound() -> None:
    ups = three_backends()
    down = Fault.status(503)
    ups["graph1"].faults = on_checks(lambda _: down)
    title = "health fails, traffic OK"
    async with Case("F22 reverse", title, ups, routing=CHECK, more=pinging()) as case:
        await case.load()
        health = case.balancer.plan.candidates["graph1"].health
        case.exactly("user_failures", case.failures(), 0)
        case.exactly("drained", health == "unhealthy", 1)
        served = sum(each.backend == "graph1" for each in case.sent)
        case.figure("served_before", served / len(case.sent), at_most=0.34)


async def test_f23_health_endpoints_hang_swell_and_redirect() -> None:
    times: list[float] = []

    def note(call: Call) -> Fault | None:
        if call.request.path == "/health":
            times.append(call.at_s)
        return None

    async with LightRAGEmulator() as elsewhere:
        redirect = Fault.redirect(elsewhere.url)
        ups: dict[str, Emulator] = {
            name: LightRAGEmulator(latency_s=base_latency_s)
            for name in ("hangs", "swells", "redirects", "sound")
        }
        hang, swell = Fault.hang(), Fault.endless()
        ups["hangs"].faults = on_checks(lambda _: hang)
        ups["swells"].faults = on_checks(lambda _: swell)
        ups["redirects"].faults = on_checks(lambda _: redirect)
        ups["sound"].faults = note
        async with Case(
            "F23",
            "health endpoint hangs, huge, redirects",
            ups,
            routing=CHECK,
            more=pinging(timeout_s=0.3),
        ) as case:
            await case.load(seconds=max(SECONDS, 3.0))
            gaps = [after - before for before, after in itertools.pairwise(times)]
            late_ms = 1000 * (max(gaps) - 1.1 * INTERVAL_S)
            health = [each.health for each in case.balancer.plan.candidates.values()]
            case.exactly("user_failures", case.failures(), 0)
            case.figure("checks", len(times), at_least=15)
            case.figure("others_late_ms", late_ms, at_most=100)
            case.exactly("unhealthy", health.count("unhealthy"), 3)
            case.exactly("redirects_followed", len(elsewhere.requests), 0)
