from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from plb_core.rolling import RollingCounts


def test_an_event_is_forgotten_with_its_bucket() -> None:
    counts = RollingCounts(1, buckets=3, width_s=1.0, now_s=10.0)
    counts.add(0, 10.9)
    counts.add(0, 11.0)
    counts.forget(12.9)
    assert counts.counts == [2]
    counts.forget(13.0)
    assert counts.counts == [1]
    counts.forget(13.9)
    assert counts.counts == [1]
    counts.forget(14.0)
    assert counts.counts == [0]


def test_an_event_on_the_edge_belongs_to_the_later_bucket() -> None:
    counts = RollingCounts(1, buckets=2, width_s=1.0, now_s=0.0)
    counts.add(0, 1.0)
    counts.forget(2.5)
    assert counts.counts == [1]


def test_kinds_are_counted_apart() -> None:
    counts = RollingCounts(3, buckets=2, width_s=1.0, now_s=0.0)
    counts.add(0, 0.0)
    counts.add(2, 0.0)
    counts.add(2, 1.0)
    assert counts.counts == [1, 0, 2]
    counts.forget(2.0)
    assert counts.counts == [0, 0, 1]


def test_a_long_silence_forgets_all_at_once() -> None:
    counts = RollingCounts(1, buckets=3, width_s=1e-3, now_s=0.0)
    counts.add(0, 0.0)
    counts.add(0, 1e12)
    assert counts.counts == [1]


def test_a_time_before_the_last_one_counts_as_the_same_moment() -> None:
    counts = RollingCounts(1, buckets=2, width_s=1.0, now_s=0.0)
    counts.add(0, 5.0)
    counts.add(0, 1.0)
    counts.forget(-1e9)
    assert counts.counts == [2]
    counts.forget(7.0)
    assert counts.counts == [0]


@given(
    gaps=st.lists(st.integers(0, 40), min_size=1, max_size=40),
    buckets=st.integers(1, 6),
)
def test_counts_what_lies_in_the_last_buckets(gaps: list[int], buckets: int) -> None:
    counts = RollingCounts(1, buckets, width_s=0.5, now_s=0.0)
    now_s, seen = 0.0, []
    for gap in gaps:
        now_s += gap / 8
        counts.add(0, now_s)
        seen.append(math.floor(now_s / 0.5))
        assert counts.counts == [sum(seen[-1] - each < buckets for each in seen)]
