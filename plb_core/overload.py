"""The gate all requests pass: so many run, a few wait, the rest is told at once."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Literal

import attrs

from plb_core.concurrency_limit import AdaptiveLimit
from plb_core.errors import BackendBusy, BackendTimeout, Overloaded

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable

    from plb_core.sections import OverloadSettings
    from plb_core.types import Result

Lane = Literal["data", "admin"]
Ended = Literal["success", "overload", "ignored"]
"""success: an answer, whose time tells how busy the backends are; overload: refused or
silent because of load; ignored: says nothing about load."""

FEW: Final = 4
"""Waiters kept under overload at least, so that a free place finds one."""

LATENCY_WEIGHT: Final = 0.05
"""The mean latency is one of the last twenty answers or so."""

LONGEST_S: Final = 86_400.0
"""A latency above a day, or not finite, is a fault of the clock and says nothing."""

_LOAD: Final = frozenset({BackendBusy.code, BackendTimeout.code})


def ended(result: Result, error: str) -> Ended:
    """Return what a request's end says of load, from its last attempt's outcome."""
    if result in ("answer", "no_answer"):
        return "success"
    return "overload" if error in _LOAD else "ignored"


# Not frozen: the holder sets `result`.
@attrs.define
class Pass:
    """A place inside the gate; set `result` when it ends otherwise than by answer."""

    result: Ended = "success"


class Gate:
    """Lets so many requests run at once, lets a few wait, and refuses the others.

    Use `ticket = gate.try_enter() or await gate.wait(deadline_s)`, then, exactly once,
    `gate.leave(ticket, latency_s, result)`; or `async with gate.enter()`.

    Waiters are served in turn, as many as can be within `queue_age_s`; who comes on
    top is refused. When refusals go on for longer than an answer takes, the queue is
    not a burst but a standing one: then (`overloaded`) the newest is served first, as
    its asker is the likeliest to be still there, and a newcomer pushes the oldest
    out, until few wait; each waits milliseconds or is told so. It ends when the queue
    is empty and nobody was refused for as long as an answer takes. No one waits
    longer than `queue_age_s`, whoever overtakes.
    Source: adaptive LIFO with CoDel (Facebook, "Fail at Scale", 2015), with the time
    of an answer in place of CoDel's fixed interval, since answers take 0.1 to 100 s.

    `limit` is fixed by `max_in_flight`, or adaptive. The admin lane has places of its
    own and no queue. One event loop uses a gate. While anyone waits, no place is free.
    """

    __slots__ = (
        "_adaptive",
        "_last_refusal_s",
        "_mean_s",
        "_now",
        "_queue",
        "_rng",
        "_settings",
        "_standing_since_s",
        "admin_in_flight",
        "in_flight",
        "limit",
        "overloaded",
    )

    def __init__(
        self,
        settings: OverloadSettings,
        now: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._settings = settings
        self._now = now
        self._rng = rng
        self._adaptive: AdaptiveLimit | None = None
        if settings.max_in_flight is None:
            self._adaptive = AdaptiveLimit(settings, now())
        self.limit = settings.max_in_flight or settings.initial_limit
        self.in_flight = 0
        self.admin_in_flight = 0
        self.overloaded = False
        self._mean_s = 0.0
        self._standing_since_s = 0.0
        self._last_refusal_s = -math.inf
        # Futures of tickets, the oldest first; 0 refuses.
        self._queue: OrderedDict[asyncio.Future[int], None] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    def try_enter(self, lane: Lane = "data") -> int:
        """Return a ticket if there is a place now, else 0."""
        if lane == "data":
            if self.in_flight < self.limit:
                self.in_flight += 1
                return self.in_flight
            return 0
        if self.admin_in_flight < self._settings.admin_lane:
            self.admin_in_flight += 1
            return -1
        return 0

    async def wait(self, deadline_s: float) -> int:
        """Return a ticket of the data lane once there is a place.

        `deadline_s` is how long the caller could wait from now. Raises `Overloaded`,
        at once when waiting has no prospect.
        """
        ticket = self.try_enter()
        if ticket:
            return ticket
        if not deadline_s > 0.0:  # so that NaN allows nothing
            raise self._refusal()
        longest_s = min(self._settings.queue_age_s, deadline_s)
        self._make_room()
        loop = asyncio.get_running_loop()
        place: asyncio.Future[int] = loop.create_future()
        self._queue[place] = None
        timer = loop.call_later(longest_s, self._give_up, place)
        try:
            ticket = await place
        except asyncio.CancelledError:
            self._queue.pop(place, None)
            if place.done() and not place.cancelled() and place.result():
                self.leave(place.result(), 0.0, "ignored")
            raise
        finally:
            timer.cancel()
        if not ticket:
            raise self._refusal()
        return ticket

    def leave(self, ticket: int, latency_s: float, result: Ended) -> None:
        """Give a place back; `latency_s` is what the backends took, without waits."""
        if ticket < 0:
            self.admin_in_flight -= 1
            return
        self.in_flight -= 1
        if result != "ignored" and 0.0 <= latency_s <= LONGEST_S:
            self._learn(ticket, latency_s, result)
        if self._queue or self.overloaded:
            self._admit()

    @asynccontextmanager
    async def enter(
        self, lane: Lane = "data", deadline_s: float = math.inf
    ) -> AsyncIterator[Pass]:
        """Hold a place for a block; raises `Overloaded` when there is none in time.

        A block that raises says nothing of load unless it set `result` itself.
        """
        ticket = self.try_enter(lane)
        if not ticket:
            if lane == "admin":
                raise self._refusal()
            ticket = await self.wait(deadline_s)
        held = Pass()
        started_s = self._now()
        try:
            yield held
        except BaseException:
            if held.result == "success":
                held.result = "ignored"
            raise
        finally:
            self.leave(ticket, self._now() - started_s, held.result)

    def _learn(self, ticket: int, latency_s: float, result: Ended) -> None:
        adaptive = self._adaptive
        if result == "success":
            if self._mean_s:
                self._mean_s += LATENCY_WEIGHT * (latency_s - self._mean_s)
            else:
                self._mean_s = latency_s
            if adaptive is not None:
                adaptive.answered(latency_s, ticket, self._now())
        elif adaptive is not None:
            adaptive.failed_by_load(self._now())
        if adaptive is not None:
            self.limit = adaptive.limit

    def _admit(self) -> None:
        queue = self._queue
        while queue and self.in_flight < self.limit:
            place, _ = queue.popitem(last=self.overloaded)
            if not place.done():  # cancelled just now
                self.in_flight += 1
                place.set_result(self.in_flight)
        if not queue and self._now() - self._last_refusal_s > self._turnover_s():
            self.overloaded = False

    def _make_room(self) -> None:
        """Let one more wait: under overload instead of the oldest; else refuse it."""
        now_s = self._now()
        waiting = len(self._queue)
        if not waiting:
            self._standing_since_s = now_s
        if waiting < self._room():
            return
        self._note_refusal(now_s)
        room = self._room()
        if not self.overloaded or not room:
            raise self._refusal()
        # Two for one: the queue of before the overload melts away, not at one blow.
        for _ in range(min(2, waiting - room + 1)):
            place, _ = self._queue.popitem(last=False)
            if not place.done():
                place.set_result(0)

    def _room(self) -> int:
        """Return how many may wait."""
        longest = self._settings.queue_length
        if self.overloaded:
            return min(longest, max(FEW, self.limit // 4))
        in_time = self._settings.queue_age_s * self.limit
        if in_time >= longest * self._mean_s:
            return longest
        return min(longest, max(FEW, int(in_time / self._mean_s)))

    def _give_up(self, place: asyncio.Future[int]) -> None:
        """Refuse a waiter whose time is up."""
        if place in self._queue and not place.done():
            del self._queue[place]
            place.set_result(0)
            self._note_refusal(self._now())

    def _note_refusal(self, now_s: float) -> None:
        self._last_refusal_s = now_s
        if now_s - self._standing_since_s >= self._turnover_s():
            self.overloaded = True

    def _turnover_s(self) -> float:
        """Return the time in which all places are free once."""
        longest_s = self._settings.queue_age_s
        return min(self._mean_s, longest_s) if self._mean_s else longest_s

    def _refusal(self) -> Overloaded:
        wait_s = max(
            self._settings.queue_age_s, len(self._queue) * self._mean_s / self.limit
        )
        return Overloaded(
            "more is asked than can be answered in time; nothing was sent",
            wait_s * self._rng.uniform(0.5, 1.5),
        )
