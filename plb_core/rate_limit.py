"""How often each client may ask: a bucket of tokens for every one of them."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

from plb_core.errors import RateLimited

if TYPE_CHECKING:
    from collections.abc import Callable

    from plb_core.sections import RateLimitSettings

CLIENTS_KEPT: Final = 16_384
"""Clients remembered at once: some 3 MiB, and more than ask within a minute."""


class RateLimiter:
    """Admits each client's requests at a steady rate, with bursts.

    A client has `burst` tokens, a request takes one, and they come back at
    `requests_per_minute`. So any stretch of time has at most rate x time + burst of
    its requests. Clients share nothing but the memory, which is bounded: a client is
    forgotten only when its bucket is full, which changes nothing for it. While none
    of the remembered ones is, clients not seen before are refused.

    Kept per client: the moment when its bucket will be full (the generic cell rate
    algorithm of ATM Forum TM 4.0, which counts the same without a clock per bucket).
    """

    __slots__ = ("_by_time", "_full_at_s", "_interval_s", "_kept", "_now", "_slack_s")

    def __init__(
        self,
        settings: RateLimitSettings,
        now: Callable[[], float],
        kept: int = CLIENTS_KEPT,
    ) -> None:
        self._now = now
        self._kept = kept
        self._interval_s = 60.0 / settings.requests_per_minute
        self._slack_s = (settings.burst - 1) * self._interval_s
        self._full_at_s: dict[str, float] = {}
        # One entry a client; its time was true once and has only moved on since.
        self._by_time: list[tuple[float, str]] = []

    def __len__(self) -> int:
        """Return how many clients are remembered."""
        return len(self._full_at_s)

    def admit(self, client: str) -> None:
        """Take one token of `client`; raises `RateLimited` when it has none."""
        now_s = self._now()
        full_at_s = self._full_at_s.get(client)
        if full_at_s is None:
            self._make_room(now_s)
            self._full_at_s[client] = now_s + self._interval_s
            heapq.heappush(self._by_time, (now_s, client))
            return
        wait_s = full_at_s - self._slack_s - now_s
        if wait_s > 0.0:
            raise RateLimited(wait_s)
        self._full_at_s[client] = max(full_at_s, now_s) + self._interval_s

    def _make_room(self, now_s: float) -> None:
        """Forget the client whose bucket was full first, if there are too many."""
        by_time = self._by_time
        while len(self._full_at_s) >= self._kept:
            noted_s, client = by_time[0]
            full_at_s = self._full_at_s[client]
            if full_at_s > noted_s:
                heapq.heapreplace(by_time, (full_at_s, client))
            elif full_at_s > now_s:
                raise RateLimited(full_at_s - now_s)
            else:
                heapq.heappop(by_time)
                del self._full_at_s[client]
