from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plb_core.candidate import HALF_LIFE_S, Decayed
from plb_core.settings import EnvVar, Secret
from plb_core.testing.fakes import FakeClock, candidate, outcome
from plb_core.types import Query, Rating


def test_a_mean_forgets_by_half_lives() -> None:
    mean = Decayed(half_life_s=10.0)
    mean.add(1.0, 0.0)
    assert mean.mass_at(10.0) == pytest.approx(0.5)
    mean.add(0.0, 10.0)
    assert mean.value == pytest.approx(1 / 3)
    assert mean.mass == pytest.approx(1.5)


def test_nothing_known_is_the_prior() -> None:
    mean = Decayed()
    assert mean.mass_at(5.0) == 0.0
    assert mean.blended(0.7, 2.0, 5.0) == pytest.approx(0.7)
    mean.add(0.0, 5.0)
    assert mean.blended(0.6, 1.0, 5.0) == pytest.approx(0.3)
    assert mean.blended(0.6, 1.0, 5.0 + 50 * HALF_LIFE_S) == pytest.approx(0.6)


@given(
    st.lists(
        st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1000.0)), min_size=1, max_size=50
    )
)
def test_a_mean_stays_within_what_it_saw(samples: list[tuple[float, float]]) -> None:
    mean, now_s = Decayed(), 0.0
    for value, gap_s in samples:
        now_s += gap_s
        mean.add(value, now_s)
    values = [value for value, _ in samples]
    assert min(values) - 1e-9 <= mean.value <= max(values) + 1e-9
    assert 0 < mean.mass_at(now_s) <= len(samples) + 1e-9


def test_knows_nothing_at_first() -> None:
    fresh = candidate("a")
    for value in (
        fresh.latency_s,
        fresh.ttft_s,
        fresh.error_rate,
        fresh.cost_micro_usd,
        fresh.quality_mean,
    ):
        assert value is None


def test_learns_from_answers() -> None:
    it = candidate("a")
    it.observe(outcome("a", latency_s=2.0, ttft_s=0.5, cost_micro_usd=10, quality=0.8))
    assert it.latency_s == 2.0
    assert it.ttft_s == 0.5
    assert it.cost_micro_usd == 10
    assert it.quality_mean == 0.8
    assert it.error_rate == 0.0
    assert it.served == 1


@pytest.mark.parametrize(
    ("result", "error", "rate"),
    [
        ("error", "backend_refused", 1.0),
        ("truncated", "bad_answer", 1.0),
        ("no_answer", "no_answer", 0.0),
        ("error", "backend_busy", None),
        ("cancelled", "", None),
    ],
)
def test_only_real_failures_count(result: str, error: str, rate: float | None) -> None:
    it = candidate("a")
    it.observe(outcome("a", result=result, error=error))  # type: ignore[arg-type]
    assert it.error_rate == rate
    assert it.served == 0
    assert it.latency_s is None


def test_ratings_blend_with_scores() -> None:
    clock = FakeClock()
    it = candidate("a", now=clock)
    it.observe(outcome("a", quality=1.0))
    it.rate(Rating("r", "a", "x", "general", {"user": 0.0, "content": 0.5}))
    assert it.quality_mean == pytest.approx(0.625)


def test_a_monotonic_clock_cannot_go_back() -> None:
    with pytest.raises(ValueError, match="cannot go back"):
        FakeClock().advance(-1)


def test_a_querys_repr_hides_the_text() -> None:
    assert "secret" not in repr(Query("my secret question", session="secret"))


def test_a_secret_never_shows_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    import copy
    import pickle

    monkeypatch.setenv("PLB_TEST_SECRET", "sk-CANARY")
    secret = Secret.from_env(EnvVar("PLB_TEST_SECRET"))
    assert secret.reveal() == "sk-CANARY"
    assert "CANARY" not in f"{secret} {secret!r} {[secret]}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.copy(secret)


def test_a_query_of_another_kind_is_otherwise_the_same() -> None:
    """Every field is set to something of its own, so that none can be left out."""
    own: dict[str, Any] = {field.name: field.name for field in attrs.fields(Query)}
    query = Query(**own)
    changed = query.of_kind("other")
    assert changed == attrs.evolve(query, kind="other")
