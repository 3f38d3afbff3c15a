"""What all requests of one balancer share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

import attrs

from plb_core.ledger import Ledger
from plb_core.overload import Gate
from plb_core.payment import Till
from plb_core.rate_limit import RateLimiter

if TYPE_CHECKING:
    import random

    from plb_core.config import Config
    from plb_core.plan import Plan
    from plb_core.protocols import Backend
    from plb_core.retry_budget import RetryBudget
    from plb_core.types import Event, Query

Returned_co = TypeVar("Returned_co", covariant=True)


class Call(Protocol[Returned_co]):
    """Asks one backend; what it returns is the attempt's success."""

    def __call__(
        self, backend: Backend, query: Query, timeout_s: float
    ) -> Awaitable[Returned_co]:
        """Begin the call."""
        ...


@attrs.frozen(eq=False)
class Shared:
    """What all requests of one balancer share.

    `till` is None without `[budget]`, `gate` without `[overload]`.
    """

    now: Callable[[], float]
    rng: random.Random
    retries: RetryBudget
    till: Till | None = None
    gate: Gate | None = None


def make_gate(
    config: Config, now: Callable[[], float], rng: random.Random
) -> Gate | None:
    """Return the gate of `[overload]`."""
    return None if config.overload is None else Gate(config.overload, now, rng)


def make_limiter(config: Config, now: Callable[[], float]) -> RateLimiter | None:
    """Return the rate limiter of `[overload.rate_limit]`."""
    if config.overload is None or config.overload.rate_limit is None:
        return None
    return RateLimiter(config.overload.rate_limit, now)


def make_ledger(plan: Plan, announce: Callable[[Event], None]) -> Ledger | None:
    """Return the ledger of `[budget]`; it lives as long as the balancer."""
    budget, store = plan.config.budget, plan.store
    if budget is None or store is None:
        return None
    return Ledger(budget.caps(), budget.zone(), _utc_now, store, announce)


def make_till(plan: Plan, ledger: Ledger | None, run: str) -> Till | None:
    """Return what the payments of this plan's requests share."""
    budget, scorer = plan.config.budget, plan.cost_scorer
    if ledger is None or budget is None or scorer is None:
        return None
    return Till(ledger, budget, scorer, run)


def _utc_now() -> datetime:
    # The wall clock says only which day it is; every interval is monotonic.
    return datetime.now(UTC)
