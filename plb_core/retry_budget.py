"""How many attempts beyond the first all requests together may make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plb_core.rolling import RollingCounts

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

LIFE_S: Final = 10
"""A request earns extra attempts for ten seconds: a quiet hour saves up nothing."""

# A product such as 0.29 x 100 falls just short of the whole tokens it stands for.
_ROUNDING: Final = 1e-9


class RetryBudget:
    """A token bucket that keeps extra attempts a small share of the requests.

    Each request earns `ratio` tokens, which expire after ten seconds; a retry, a
    failover after a failure or a hedge costs one. Few requests do not go without:
    `floor_per_s` tokens a second are there at least, and the first `reserve`
    withdrawals are granted whatever was earned, so that a breaker can open.

    Whenever one is granted, the withdrawals of the ten seconds up to it are at most
    the largest of `ratio` x the deposits in the same time, `floor_per_s` x 10, and
    `reserve`; it is not their sum, so that load never grows by more than `ratio`.
    After Finagle's RetryBudget and tower's TpsBudget.
    """

    __slots__ = (
        "_deposits",
        "_floor",
        "_now",
        "_ratio",
        "_reserve",
        "_withdrawals",
        "_withdrawn",
    )

    def __init__(
        self,
        now: Callable[[], float],
        ratio: float = 0.1,
        floor_per_s: float = 1.0,
        reserve: float = 10.0,
    ) -> None:
        self._now = now
        self._ratio = ratio
        self._floor = floor_per_s * LIFE_S
        self._reserve = reserve
        self._withdrawn = 0
        now_s = now()
        self._deposits = RollingCounts(1, LIFE_S, 1.0, now_s)
        # One bucket more: a withdrawal must never be forgotten within its ten seconds.
        self._withdrawals = RollingCounts(1, LIFE_S + 1, 1.0, now_s)

    def deposit(self) -> None:
        """Count one request, whatever comes of it."""
        self._deposits.add(0, self._now())

    def withdraw(self) -> bool:
        """Take a token for one extra attempt; False: there must not be one."""
        now_s = self._now()
        self._deposits.forget(now_s)
        self._withdrawals.forget(now_s)
        earned = max(self._ratio * self._deposits.counts[0], self._floor)
        after = self._withdrawals.counts[0] + 1
        if after > earned + _ROUNDING and self._withdrawn + 1 > self._reserve:
            return False
        self._withdrawals.add(0, now_s)
        self._withdrawn += 1
        return True


def full_jitter(attempt: int, base_s: float, cap_s: float, rng: random.Random) -> float:
    """Return the seconds to wait before trying again: anything from 0 to a ceiling.

    The ceiling is `base_s` after the first failed attempt (`attempt` = 1), twice as
    much after each further one, and never above `cap_s`.
    """
    # 2.0 ** 1024 would overflow; no cap is reached later than by 2 ** 63.
    ceiling_s = min(cap_s, base_s * 2.0 ** min(attempt - 1, 63))
    return rng.uniform(0.0, ceiling_s)
