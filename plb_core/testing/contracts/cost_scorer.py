"""What every cost scorer must do, as a test class to subclass."""

# ruff: noqa: D102 - a test's name is its documentation
from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, ClassVar, Final

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from plb_core.testing import fakes
from plb_core.types import BackendInfo, BackendTraits, Price, Query, Usage

if TYPE_CHECKING:
    from plb_core.hookspecs import Provider
    from plb_core.protocols import CostScorer

# Derandomised: the contract gives the same verdict on every machine.
_examples = hypothesis_settings(
    max_examples=150, deadline=None, database=None, derandomize=True
)
_amounts = st.integers(0, 100_000_000)
prices = st.builds(
    Price,
    input_micro_usd_per_mtok=_amounts,
    output_micro_usd_per_mtok=_amounts,
    request_micro_usd=st.integers(0, 1_000_000),
    search_micro_usd=st.integers(0, 100_000),
)
_HOSTILE: Final = (
    Usage(-1, 0),
    Usage(0, -1),
    Usage(0, 0, searches=-1),
    Usage(10**30, 10**30, 10**30),
    Usage(-(10**30), 10**30),
)


def backend(price: Price | None) -> BackendInfo:
    """Return a backend with this price."""
    return BackendInfo("b", "fake", BackendTraits(price=price))


class CostScorerContract:
    """Subclass as `class TestMine(CostScorerContract)` and set `provider`.

    `settings` are the settings to build with, None for the defaults. `searches_bound`
    is how many searches a question may make within the ceiling.
    """

    provider: ClassVar[Provider[CostScorer]]
    settings: ClassVar[object | None] = None
    searches_bound: ClassVar[int] = 1

    def make(self) -> CostScorer:
        """Return a new scorer."""
        provider = type(self).provider
        settings = self.settings
        if settings is None:
            settings = provider.settings()
        return provider.build(settings, fakes.context("costs"))

    def test_is_synchronous(self) -> None:
        scorer = self.make()
        for method in (scorer.ceiling, scorer.estimate, scorer.actual):
            assert not inspect.iscoroutinefunction(method), f"{method} is async"

    def test_an_unknown_price_gives_none(self) -> None:
        scorer = self.make()
        assert scorer.ceiling(Query("q"), backend(None)) is None
        assert scorer.estimate(Query("q"), backend(None)) is None
        assert scorer.actual(Usage(1, 1, 1), backend(None)) is None

    def test_a_free_backend_costs_nothing(self) -> None:
        scorer = self.make()
        assert scorer.ceiling(Query("q"), backend(Price())) == 0
        assert scorer.estimate(Query("q"), backend(Price())) == 0
        assert scorer.actual(Usage(10, 10, 10), backend(Price())) == 0

    def test_the_bill_of_a_bounded_answer_is_within_the_ceiling(self) -> None:
        scorer = self.make()

        @_examples
        @given(prices, st.text(max_size=300), st.integers(1, 10_000), st.data())
        def check(price: Price, text: str, longest: int, data: st.DataObject) -> None:
            info = backend(price)
            query = Query(text, max_output_tokens=longest)
            usage = Usage(
                input_tokens=data.draw(st.integers(0, len(text.encode()))),
                output_tokens=data.draw(st.integers(0, longest)),
                searches=data.draw(st.integers(0, self.searches_bound)),
            )
            actual = _whole(scorer.actual(usage, info))
            ceiling = _whole(scorer.ceiling(query, info))
            assert actual <= ceiling, f"{usage} costs more than the ceiling"
            estimate = _whole(scorer.estimate(query, info))
            assert estimate <= ceiling, "the estimate is above the ceiling"

        check()

    def test_using_more_never_costs_less(self) -> None:
        scorer = self.make()
        counts = st.integers(0, 1_000_000)

        @_examples
        @given(prices, counts, counts, st.integers(0, 100), counts, counts)
        def check(  # noqa: PLR0917 - one argument per drawn number
            price: Price, used: int, made: int, searches: int, more: int, longer: int
        ) -> None:
            info = backend(price)
            less = _whole(scorer.actual(Usage(used, made, searches), info))
            bigger = Usage(used + more, made + longer, searches + 1)
            assert _whole(scorer.actual(bigger, info)) >= less

        check()

    def test_a_longer_question_never_has_a_lower_ceiling(self) -> None:
        scorer = self.make()

        @_examples
        @given(
            prices, st.text(max_size=100), st.text(max_size=100), st.integers(1, 999)
        )
        def check(price: Price, text: str, more: str, longest: int) -> None:
            info = backend(price)
            short = Query(text, max_output_tokens=longest)
            long = Query(text + more, max_output_tokens=longest + len(more))
            low, high = scorer.ceiling(short, info), scorer.ceiling(long, info)
            assert _whole(low) <= _whole(high)

        check()

    @pytest.mark.parametrize("usage", _HOSTILE, ids=repr)
    def test_an_impossible_usage_is_no_bill(self, usage: Usage) -> None:
        cost = self.make().actual(usage, backend(Price(1, 1, 1, 1)))
        assert cost is None or _whole(cost) >= 0


def _whole(cost: int | None) -> int:
    assert type(cost) is int, f"a cost must be a whole number, got {cost!r}"
    assert cost >= 0, f"a cost must not be negative, got {cost}"
    return cost


__all__ = ["CostScorerContract", "backend", "prices"]
