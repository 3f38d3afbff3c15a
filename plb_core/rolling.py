"""Counts over the last seconds in bounded memory."""

from __future__ import annotations

from collections import deque


class RollingCounts:
    """Counts events of several kinds and forgets them when they are old.

    Time is cut into `buckets` pieces of `width_s` seconds, from `now_s` on. An event
    is forgotten with its bucket: when it is between `(buckets - 1) * width_s` and
    `buckets * width_s` seconds old. `counts[kind]` is what is remembered as of the
    last call; a time before that call's counts as the same moment.
    """

    __slots__ = ("_buckets", "_end_s", "_newest", "_width_s", "counts")

    def __init__(self, kinds: int, buckets: int, width_s: float, now_s: float) -> None:
        self._width_s = width_s
        self.counts = [0] * kinds
        self._buckets = deque([[0] * kinds for _ in range(buckets)])
        self._newest = self._buckets[-1]
        self._end_s = now_s + width_s

    def add(self, kind: int, now_s: float) -> None:
        """Count one event of `kind`."""
        if now_s >= self._end_s:
            self.forget(now_s)
        self._newest[kind] += 1
        self.counts[kind] += 1

    def forget(self, now_s: float) -> None:
        """Bring `counts` up to `now_s`."""
        if now_s < self._end_s:
            return
        passed = int((now_s - self._end_s) / self._width_s) + 1
        for _ in range(min(passed, len(self._buckets))):
            oldest = self._buckets.popleft()
            for kind, count in enumerate(oldest):
                self.counts[kind] -= count
                oldest[kind] = 0
            self._buckets.append(oldest)
        self._newest = self._buckets[-1]
        self._end_s += passed * self._width_s
