from __future__ import annotations

from collections import Counter
from types import MappingProxyType

import attrs
import pytest
from plb_core import Candidate, Query
from plb_core.testing import fakes
from plb_core.testing.contracts import AlgorithmContract

from plb_sticky_tenant import Settings, StickyTenant, _hash, plb_register_algorithm


class TestStickyTenant(AlgorithmContract):
    """Everything that plb asks of an algorithm."""

    provider = plb_register_algorithm()
    worse_state = MappingProxyType({"in_flight": 64})


def make(settings: Settings | None = None) -> StickyTenant:
    return StickyTenant(settings or Settings(), fakes.context("sticky_tenant"))


def of(tenant: str, session: str = "") -> Query:
    return Query("x", session=session, attributes={"tenant": tenant})


def names(*each: str, **facts: object) -> list[Candidate]:
    return [fakes.candidate(name, **facts) for name in each]


def taken(algorithm: StickyTenant, query: Query, candidates: list[Candidate]) -> str:
    return algorithm.choose(query, candidates).candidate.name


def test_a_tenant_stays_on_one_backend_in_any_order():
    candidates = names("a", "b", "c")
    first = taken(make(), of("acme"), candidates)
    for _ in range(20):
        candidates.append(candidates.pop(0))
        assert taken(make(), of("acme"), candidates) == first


@pytest.mark.parametrize(("tenant", "place"), [("acme", 0.691452), ("émile", 0.413962)])
def test_the_hash_is_the_same_in_every_process(tenant: str, place: float):
    assert _hash(tenant, "a") == pytest.approx(place, abs=1e-6)


def test_a_tenant_and_a_backend_cannot_be_confused():
    assert _hash("ab", "c") != _hash("a", "bc")


def test_tenants_spread_over_the_backends_by_weight():
    light, heavy = fakes.candidate("light"), fakes.candidate("heavy", weight=3.0)
    algorithm = make()
    counts = Counter(
        taken(algorithm, of(f"tenant {number}"), [light, heavy])
        for number in range(4000)
    )
    assert 860 < counts["light"] < 1140  # 1,000 ± 5 standard deviations


def test_only_the_tenants_of_a_lost_backend_move():
    algorithm = make()
    candidates = names("a", "b", "c", "d")
    for number in range(300):
        query = of(f"tenant {number}")
        before = taken(algorithm, query, candidates)
        after = taken(algorithm, query, candidates[:3])
        assert after == before or before == "d"


def test_a_full_backend_sends_its_tenants_to_their_next():
    algorithm = make(Settings(full_share=0.5))
    candidates = names("a", "b", "c", max_in_flight=10)
    chosen = taken(algorithm, of("acme"), candidates)
    full = next(each for each in candidates if each.name == chosen)
    full.in_flight = 4
    assert taken(algorithm, of("acme"), candidates) == chosen
    full.in_flight = 5
    rest = [each for each in candidates if each is not full]
    second = taken(algorithm, of("acme"), rest)
    assert taken(algorithm, of("acme"), candidates) == second
    for each in rest:
        each.in_flight = 5
    assert taken(algorithm, of("acme"), candidates) == chosen


def test_goes_by_the_session_when_there_is_no_tenant():
    candidates = names("a", "b", "c", "d")
    algorithm = make()
    for number in range(50):
        session = f"session {number}"
        by_session = taken(algorithm, of("", session), candidates)
        assert by_session == taken(algorithm, of(session), candidates)


def test_the_attribute_and_the_session_are_a_matter_of_settings():
    candidates = names("a", "b", "c", "d")
    algorithm = make(Settings(attribute="lab", use_session=False))
    query = Query("x", session="s", attributes={"lab": "acme", "tenant": "other"})
    assert taken(algorithm, query, candidates) == taken(make(), of("acme"), candidates)
    anonymous = attrs.evolve(query, attributes={})
    spread = {taken(algorithm, anonymous, candidates) for _ in range(200)}
    assert spread == {"a", "b", "c", "d"}


def test_a_weightless_backend_gets_no_tenant_while_there_is_another():
    candidates = [fakes.candidate("none", weight=0.0), fakes.candidate("a")]
    algorithm = make()
    for number in range(100):
        assert taken(algorithm, of(f"tenant {number}"), candidates) == "a"
    assert taken(algorithm, of("acme"), candidates[:1]) == "none"


@pytest.mark.parametrize("tenant", ["\ud800", "\x00", "x" * 100_000, "🧬"])
def test_odd_tenants_are_tenants_too(tenant: str):
    candidates = names("a", "b", "c")
    algorithm = make()
    assert len({taken(algorithm, of(tenant), candidates) for _ in range(20)}) == 1


@pytest.mark.parametrize("value", [0.0, -1.0, 1.5])
def test_an_impossible_share_is_refused(value: float):
    with pytest.raises(ValueError, match="expected a number"):
        Settings(full_share=value)
