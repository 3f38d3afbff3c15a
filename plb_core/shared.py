"""What all requests of one balancer share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

import attrs

if TYPE_CHECKING:
    import random

    from plb_core.overload import Gate
    from plb_core.payment import Till
    from plb_core.protocols import Backend
    from plb_core.retry_budget import RetryBudget
    from plb_core.types import Query

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
