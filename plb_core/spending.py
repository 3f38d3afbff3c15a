"""One day's money: what is spent and held, against every cap at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from plb_core.ledger_records import Scope, ScopeKind, scopes

LARGEST_MICRO_USD: Final = 1_000_000_000 * 1_000_000
"""A thousand million dollars: no real amount is larger, and sums of thousands of them
still fit into the 64-bit integers of a store."""

UNLIMITED: Final = 1 << 62
"""Room of a scope without a cap; larger than any amount."""

SCOPES_KEPT: Final = 1000
"""Scopes of one kind that are counted without a cap; names beyond are counted under
"all" alone, so that a report stays small whatever clients call themselves."""


@attrs.frozen
class Caps:
    """What may be spent a day, in micro-USD by scope; a scope not listed has no cap.

    `alert_share` is the share of a cap, 0..1, at which its alert is due.
    """

    limits: Mapping[Scope, int] = attrs.field(factory=dict)
    alert_share: float = 0.8


# Not frozen: `Spending` and the reservations of its day write to it, synchronously.
@attrs.define(eq=False)
class Counter:
    """One scope's day: all amounts in micro-USD.

    `room` is what may still be reserved; below zero after a cap was lowered.
    """

    scope: Scope
    cap: int | None = None
    spent: int = 0
    reserved: int = 0
    room: int = UNLIMITED
    alert_at: int = UNLIMITED
    alerted: bool = False
    refused: bool = False

    def limit(self, caps: Caps) -> None:
        """Take the cap of these caps over, or none."""
        self.cap = caps.limits.get(self.scope)
        self.alert_at = UNLIMITED
        if self.cap is not None:
            # At least one: a cap of nothing is not nearly used up by nothing.
            self.alert_at = max(1, math.ceil(self.cap * caps.alert_share))
        self.add(0, 0)

    def add(self, spent: int, reserved: int) -> None:
        """Move the sums by so much."""
        self.spent += spent
        self.reserved += reserved
        if self.cap is None:
            self.room = UNLIMITED
        else:
            self.room = self.cap - self.spent - self.reserved

    def alert_is_due(self) -> bool:
        """Whether the alert's share is spent; True once."""
        if self.alerted or self.spent < self.alert_at:
            return False
        self.alerted = True
        return True


class Spending:
    """The counters of one day.

    Names of backends, tracks and clients are configured ones; "" means none.
    """

    def __init__(self, caps: Caps) -> None:
        self._all = Counter(Scope())
        self._named: dict[ScopeKind, dict[str, Counter]] = {
            "backend": {},
            "track": {},
            "client": {},
        }
        self._backends = self._named["backend"]
        self._tracks = self._named["track"]
        self._clients = self._named["client"]
        self.limit(caps)

    def limit(self, caps: Caps) -> None:
        """Replace the caps; what is spent and reserved stays."""
        self._caps = caps
        for scope in caps.limits:
            self.counter(scope)
        for counter in self:
            counter.limit(caps)

    def room(self, backend: str, track: str, client: str) -> int:
        """Return the room in the tightest of these scopes, `UNLIMITED` without caps."""
        room = self._all.room
        counter = self._backends.get(backend)
        if counter is not None and counter.room < room:
            room = counter.room
        counter = self._tracks.get(track)
        if counter is not None and counter.room < room:
            room = counter.room
        counter = self._clients.get(client)
        if counter is not None and counter.room < room:
            room = counter.room
        return room

    def counters(self, backend: str, track: str, client: str) -> tuple[Counter, ...]:
        """Return every counter that money of such an attempt is counted in."""
        found = map(self.counter, scopes(backend, track, client))
        return tuple(counter for counter in found if counter is not None)

    def counter(self, scope: Scope) -> Counter | None:
        """Return a scope's counter; None when it is not counted by itself."""
        if scope.kind == "all":
            return self._all
        known = self._named[scope.kind]
        counter = known.get(scope.name)
        if counter is None:
            if len(known) >= SCOPES_KEPT and scope not in self._caps.limits:
                return None
            counter = known[scope.name] = Counter(scope)
            counter.limit(self._caps)
        return counter

    @property
    def reserved(self) -> int:
        """Micro-USD that is held for attempts of this day that have not ended."""
        return self._all.reserved

    def __iter__(self) -> Iterator[Counter]:
        yield self._all
        for named in self._named.values():
            yield from named.values()
