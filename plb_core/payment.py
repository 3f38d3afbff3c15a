"""One request's money: what each attempt is held for, and what it is charged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from plb_core.errors import BudgetExhausted, LedgerUnavailable
from plb_core.ledger_records import Scope
from plb_core.spending import UNLIMITED
from plb_core.trust import cost_ceiling

if TYPE_CHECKING:
    from plb_core.budget import Budget
    from plb_core.history import Attempt
    from plb_core.ledger import Ledger
    from plb_core.protocols import CostScorer
    from plb_core.types import BackendInfo, Query

DEAREST: Final = 2
"""All attempts of one request together are charged at most twice the highest ceiling
among them: a retry is fair, a chain of ever dearer fallbacks is not."""


class TooDear(Exception):
    """One more attempt would make the request cost more than it may."""


@attrs.frozen
class Till:
    """What payments of one plan share.

    `run` sets the attempts of one run of the program apart from those of every other:
    a seed makes request ids repeat, and a stored attempt's id is used once, for ever.
    """

    ledger: Ledger
    budget: Budget
    scorer: CostScorer
    run: str

    def payment(self, request_id: str, track: str, query: Query) -> Payment:
        """Return a new request's payment."""
        return Payment(self, request_id, track, query)


class Payment:
    """Holds money before each attempt is sent; charges it when the bill is known."""

    def __init__(self, till: Till, request_id: str, track: str, query: Query) -> None:
        self._till = till
        self._request_id = request_id
        self._track = track
        self._client = query.client
        self._attempts: list[Attempt] = []

    async def hold(self, attempt: Attempt, query: Query) -> Query:
        """Reserve the attempt's ceiling and return the query to send.

        The query always limits its output tokens; the limit is made smaller when the
        money left asks for it. Raises `BudgetExhausted` or `LedgerUnavailable`, and
        `TooDear` when the request has cost enough; then nothing is held.
        """
        info = attempt.candidate.info
        if info.traits.price is not None and info.traits.price.free:
            return query
        if query.max_output_tokens is None:
            limit = self._till.budget.max_output_tokens
            query = attrs.evolve(query, max_output_tokens=limit)
        query, ceiling = await self._affordable(query, info)
        self._refuse_a_third_price(ceiling)
        attempt.reservation = await self._till.ledger.reserve(
            f"{self._till.run}.{self._request_id}.{attempt.number}",
            self._request_id,
            info.name,
            self._track,
            self._client,
            ceiling,
        )
        self._attempts.append(attempt)
        return query

    async def _affordable(self, query: Query, info: BackendInfo) -> tuple[Query, int]:
        """Return the query, cut to the money left if it must be, and its ceiling."""
        till = self._till
        ceiling = self._ceiling(query, info)
        may_wait = True
        while ceiling > (room := self._room(query, info)):
            shorter = self._cut(query, info, room)
            if shorter is not None:
                return shorter, self._ceiling(shorter, info)
            # Others hold their ceilings; most of it comes back when they end.
            if may_wait and await till.ledger.wait_for_room(till.budget.wait_s):
                may_wait = False
                continue
            if room == self._own_room(query):
                raise BudgetExhausted(Scope("question"), max(room, 0), 0.0)
            break  # the ledger refuses it, and says which budget is used up
        return query, ceiling

    def _cut(self, query: Query, info: BackendInfo, room: int) -> Query | None:
        """Return the query with as many output tokens as fit; None: too few do."""
        low, high = self._till.budget.min_output_tokens, query.max_output_tokens or 0
        best: Query | None = None
        while low <= high:
            middle = (low + high) // 2
            shorter = attrs.evolve(query, max_output_tokens=middle)
            if self._ceiling(shorter, info) <= room:
                best, low = shorter, middle + 1
            else:
                high = middle - 1
        return best

    def _room(self, query: Query, info: BackendInfo) -> int:
        """Return micro-USD that this attempt may hold now."""
        room = self._till.ledger.fits(info.name, self._track, self._client)
        own = self._own_room(query)
        return own if room is None else min(room, own)

    def _own_room(self, query: Query) -> int:
        if query.budget_micro_usd is None:
            return UNLIMITED
        return query.budget_micro_usd - self._charged()

    def _ceiling(self, query: Query, info: BackendInfo) -> int:
        ceiling = cost_ceiling(self._till.scorer, query, info)
        if ceiling is None:
            raise LedgerUnavailable(
                f"backend {info.name!r} has no price, so nothing can be held for it"
            )
        return ceiling

    def _charged(self) -> int:
        """Return micro-USD that earlier attempts hold or were charged."""
        rows = [each.reservation.row for each in self._attempts if each.reservation]
        return sum(row.charged_micro_usd for row in rows)

    def _refuse_a_third_price(self, ceiling: int) -> None:
        held = [each.reservation.row for each in self._attempts if each.reservation]
        highest = max([ceiling, *(row.ceiling_micro_usd for row in held)])
        if self._charged() + ceiling > DEAREST * highest:
            raise TooDear("another attempt would cost more than twice the price")


def charge(attempt: Attempt, bill_micro_usd: int | None) -> None:
    """End an attempt's reservation; a bill of None is not known.

    Nothing was sent: nothing is charged. It was, and nobody knows what it cost: the
    ceiling is.
    """
    reservation = attempt.reservation
    if reservation is None:
        return
    if not attempt.sent:
        reservation.release()
    elif bill_micro_usd is None:
        reservation.unknown()
    else:
        reservation.settle(bill_micro_usd)
