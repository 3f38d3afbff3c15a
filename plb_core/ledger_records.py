"""The records of the money's ledger that cross to its store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Literal, NamedTuple

import attrs

ScopeKind = Literal["all", "backend", "track", "client", "question"]
RowState = Literal["reserved", "settled", "unknown", "released"]


class Scope(NamedTuple):
    """What a daily budget covers: everything, or one backend, track or client."""

    kind: ScopeKind = "all"
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}" if self.name else self.kind


def scopes(backend: str, track: str, client: str) -> tuple[Scope, ...]:
    """Return every scope that such an attempt's money counts in; "" names none."""
    kinds: tuple[ScopeKind, ...] = ("backend", "track", "client")
    named = zip(kinds, (backend, track, client), strict=True)
    return (Scope(), *(Scope(kind, name) for kind, name in named if name))


@attrs.frozen
class LedgerRow:
    """One attempt's money; `attempt_id` is used once, for ever.

    `day` is that of the reservation, in the budget's time zone, and `at_utc` its
    moment. `charged_micro_usd` is what counts against the budgets: the ceiling while
    "reserved" and when "unknown", the bill when "settled", nothing when "released".
    A row moves from reserved to one of the others, from unknown to settled, and never
    in any other way. `client` is "" when there is none.
    """

    attempt_id: str
    request_id: str
    day: date
    backend: str
    track: str
    client: str
    ceiling_micro_usd: int
    charged_micro_usd: int
    state: RowState
    at_utc: datetime

    def becomes(self, other: LedgerRow) -> bool:
        """Whether `other` may follow this row: a permitted step, or the same again."""
        if self == other:
            return True
        if other.state == "reserved" or self.facts != other.facts:
            return False
        return self.state == "reserved" or (self.state, other.state) == (
            "unknown",
            "settled",
        )

    @property
    def facts(self) -> tuple[object, ...]:
        """Everything that stays the same for ever."""
        return (
            self.attempt_id,
            self.request_id,
            self.day,
            self.backend,
            self.track,
            self.client,
            self.ceiling_micro_usd,
            self.at_utc,
        )


@attrs.frozen
class LedgerState:
    """What a store holds when a ledger is opened.

    `day` is the one asked for, or the newest one with a row if that is later. `spent`
    are the charges of its settled and unknown rows in micro-USD. `reserved` are the
    rows, of any day, that nobody closed.
    """

    day: date
    spent: Mapping[Scope, int]
    reserved: tuple[LedgerRow, ...] = ()
