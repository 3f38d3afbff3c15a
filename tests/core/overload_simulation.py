"""A gate before a server of known capacity, simulated request by request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import attrs

from plb_core.errors import Overloaded
from plb_core.overload import Gate
from plb_core.sections import OverloadSettings
from tests.core.virtual_time import simulate


@attrs.define
class Server:
    """So many workers; what comes on top queues inside, or is refused (`busy_above`).

    `spread` 0 takes the same time for each answer, 1 an exponentially spread one.
    """

    workers: int = 10
    work_s: float = 0.1
    spread: float = 0.0
    busy_above: int | None = None
    inside: int = 0
    free: asyncio.Semaphore = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.free = asyncio.Semaphore(self.workers)

    async def answer(self, rng: random.Random) -> bool:
        if self.busy_above is not None and self.inside >= self.busy_above:
            await asyncio.sleep(0.005)
            return False
        self.inside += 1
        try:
            async with self.free:
                drawn_s = rng.expovariate(1.0) * self.work_s
                await asyncio.sleep(
                    self.spread * drawn_s + (1 - self.spread) * self.work_s
                )
            return True
        finally:
            self.inside -= 1


@attrs.frozen
class Done:
    """One request: when it came, how long it took, and how long it waited at the gate.

    `waited_s` is None for a request that was refused.
    """

    came_s: float
    took_s: float
    waited_s: float | None
    ok: bool


@attrs.define
class Run:
    """What happened in one simulation."""

    gate: Gate
    done: list[Done] = attrs.field(factory=list)
    limits: list[int] = attrs.field(factory=list)
    most_in_flight: int = 0
    most_waiting: int = 0

    def within(self, start_s: float, end_s: float) -> list[Done]:
        return [each for each in self.done if start_s <= each.came_s < end_s]

    def goodput(self, start_s: float, end_s: float) -> float:
        """Answers a second, by the time at which they were given."""
        good = (each.came_s + each.took_s for each in self.done if each.ok)
        return sum(start_s <= at_s < end_s for at_s in good) / (end_s - start_s)


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


Rates = Sequence[tuple[float, float]]
"""(seconds, requests a second) one after the other."""


def run(
    settings: OverloadSettings,
    rates: Rates,
    *,
    seed: int = 1,
    events: Sequence[tuple[float, Callable[[Server], None]]] = (),
    **server: float,
) -> Run:
    """Send requests by the clock, whatever becomes of those before."""
    return simulate(_run(settings, rates, seed, events, server))


async def _run(
    settings: OverloadSettings,
    rates: Rates,
    seed: int,
    events: Sequence[tuple[float, Callable[[Server], None]]],
    server_options: dict[str, float],
) -> Run:
    rng = random.Random(seed)
    loop = asyncio.get_running_loop()
    server = Server(**server_options)  # type: ignore[arg-type]
    gate = Gate(settings, loop.time, random.Random(seed))
    seen = Run(gate)
    for at_s, change in events:
        loop.call_at(at_s, change, server)

    async def ask() -> None:
        came_s = loop.time()
        try:
            ticket = gate.try_enter() or await gate.wait(30.0)
        except Overloaded:
            seen.done.append(Done(came_s, loop.time() - came_s, None, ok=False))
            return
        begun_s = loop.time()
        seen.most_in_flight = max(seen.most_in_flight, gate.in_flight)
        ok = await server.answer(rng)
        gate.leave(ticket, loop.time() - begun_s, "success" if ok else "overload")
        took_s = loop.time() - came_s
        seen.done.append(Done(came_s, took_s, begun_s - came_s, ok=ok))

    running: set[asyncio.Task[None]] = set()
    at_s = end_s = 0.0
    for length_s, rate in rates:
        end_s += length_s
        while at_s < end_s:
            task = asyncio.create_task(ask())
            running.add(task)
            task.add_done_callback(running.discard)
            seen.most_waiting = max(seen.most_waiting, gate.waiting)
            if len(seen.limits) < at_s:
                seen.limits.append(gate.limit)
            at_s += rng.expovariate(rate)
            await asyncio.sleep(at_s - loop.time())
    while running:
        await asyncio.wait(running)
    return seen
