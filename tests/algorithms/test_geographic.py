from __future__ import annotations

import math
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plb_contrib_algorithms.geographic import (
    FARTHEST_KM,
    Geographic,
    Settings,
    distance_km,
    plb_register_algorithm,
)
from plb_contrib_algorithms.regions import REGIONS, locate, nearest_name
from plb_core import AlgorithmFailed, Candidate, ConfigError, Query
from plb_core.testing import fakes
from plb_core.testing.contracts import AlgorithmContract

PARIS = Query("x", region="paris")
_points = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


class TestGeographic(AlgorithmContract):
    provider = plb_register_algorithm()
    worse_state = MappingProxyType({"health": "degraded"})


class TestGeographicSpillsOver(TestGeographic):
    worse_state = MappingProxyType({"in_flight": 60})


class TestGeographicPrefersTheFasterOfEquallyNear(TestGeographic):
    worse_state = MappingProxyType({})
    worse_outcome = MappingProxyType({"latency_s": 9.0})


def cities(*names: str) -> dict[str, Candidate]:
    return {name: fakes.candidate(name, region=name) for name in names}


def make(
    candidates: dict[str, Candidate], settings: Settings | None = None
) -> Geographic:
    backends = [each.info for each in candidates.values()]
    context = fakes.context("geographic", backends=backends)
    return Geographic(settings or Settings(), context)


def measured(candidate: Candidate, latency_s: float) -> None:
    candidate.observe(fakes.outcome(candidate.name, latency_s=latency_s))


@pytest.mark.parametrize(
    ("client", "full", "sick", "frankfurt_s", "taken"),
    [
        ("paris", "", "", 0.3, "london"),
        ("paris", "london", "", 0.3, "frankfurt"),
        ("paris", "", "", 0.1, "frankfurt"),
        ("paris", "", "london frankfurt", 0.3, "tokyo"),
        ("paris", "london frankfurt tokyo", "", 0.3, "london"),
        ("tokyo", "", "", 0.3, "tokyo"),
    ],
)
def test_worked_examples(
    client: str, full: str, sick: str, frankfurt_s: float, taken: str
) -> None:
    candidates = cities("tokyo", "frankfurt", "london")
    for name in full.split():
        candidates[name].in_flight = 60
    for name in sick.split():
        candidates[name].health = "unhealthy"
    measured(candidates["london"], 0.2)
    measured(candidates["frankfurt"], frankfurt_s)
    query = Query("x", region=client)
    choice = make(candidates).choose(query, tuple(candidates.values()))
    assert choice.candidate.name == taken
    assert choice.probability == 1.0


def test_latencies_within_a_tenth_share_the_traffic() -> None:
    candidates = cities("london", "frankfurt", "amsterdam")
    for name, latency_s in (("london", 0.2), ("frankfurt", 0.219), ("amsterdam", 0.23)):
        measured(candidates[name], latency_s)
    algorithm = make(candidates)
    choices = [algorithm.choose(PARIS, tuple(candidates.values())) for _ in range(200)]
    assert {each.candidate.name for each in choices} == {"london", "frankfurt"}
    assert {each.probability for each in choices} == {0.5}


def test_a_latency_that_is_not_recent_is_measured_again() -> None:
    clock = fakes.FakeClock()
    candidates = {
        name: fakes.candidate(name, now=clock, region=name)
        for name in ("london", "frankfurt")
    }
    measured(candidates["london"], 0.2)
    measured(candidates["frankfurt"], 5.0)
    context = fakes.context(
        now=clock, backends=[each.info for each in candidates.values()]
    )
    algorithm = Geographic(Settings(), context)
    for wait_s, expected in ((0.0, {"london"}), (301.0, {"london", "frankfurt"})):
        clock.advance(wait_s)
        chosen = {
            algorithm.choose(PARIS, tuple(candidates.values())).candidate.name
            for _ in range(50)
        }
        assert chosen == expected


@pytest.mark.parametrize(
    ("one", "other", "km"),
    [
        ("paris", "london", 344),
        ("paris", "frankfurt", 479),
        ("paris", "tokyo", 9713),
        ("us-east-1", "eu-west-1", 5460),
        ("sydney", "santiago", 11340),
        ("fiji", "honolulu", 5090),  # across the date line
    ],
)
def test_distances_are_those_of_an_atlas(one: str, other: str, km: float) -> None:
    assert distance_km(REGIONS[one], REGIONS[other]) == pytest.approx(km, rel=0.01)


@given(_points, _points)
def test_distance_is_symmetric_and_never_more_than_half_way_round(
    one: tuple[float, float], other: tuple[float, float]
) -> None:
    there = distance_km(one, other)
    assert there == pytest.approx(distance_km(other, one), abs=1e-6)
    assert 0.0 <= there <= FARTHEST_KM + 1e-6
    assert distance_km(one, one) == 0.0


def test_antipodes_are_half_way_round() -> None:
    assert distance_km((0.0, 0.0), (0.0, 180.0)) == pytest.approx(FARTHEST_KM)


def test_every_named_region_is_on_earth_and_finds_itself() -> None:
    assert len(REGIONS) > 500
    for name, (latitude, longitude) in REGIONS.items():
        assert abs(latitude) <= 90
        assert abs(longitude) <= 180
        assert locate(name) == (latitude, longitude)
        assert nearest_name(name) == name


def test_spelling_of_a_region_is_forgiving_in_case_and_separators() -> None:
    assert locate("New York") == locate("new-york") == locate("NEW_YORK") is not None
    assert locate("Atlantis") is None
    assert locate("") is None


def test_latency_decides_without_any_place() -> None:
    candidates = cities("tokyo", "london")
    measured(candidates["tokyo"], 0.1)
    measured(candidates["london"], 0.2)
    algorithm = make(candidates)
    for query in (Query("x"), Query("x", region="atlantis")):
        choice = algorithm.choose(query, tuple(candidates.values()))
        assert choice.candidate.name == "tokyo"


def test_an_unknown_client_region_falls_to_the_default() -> None:
    candidates = cities("tokyo", "london")
    measured(candidates["tokyo"], 0.1)
    measured(candidates["london"], 0.2)
    algorithm = make(candidates, Settings(client_region="Dublin"))
    for query in (Query("x"), Query("x", region="atlantis")):
        choice = algorithm.choose(query, tuple(candidates.values()))
        assert choice.candidate.name == "london"
    query = Query("x", region="seoul")
    choice = algorithm.choose(query, tuple(candidates.values()))
    assert choice.candidate.name == "tokyo"


def test_the_clients_coordinates_win_over_its_region() -> None:
    candidates = cities("tokyo", "london")
    query = Query("x", region="paris", coordinates=(35.0, 139.0))
    choice = make(candidates).choose(query, tuple(candidates.values()))
    assert choice.candidate.name == "tokyo"


def test_a_backends_coordinates_win_over_its_region() -> None:
    lab = fakes.candidate("lab", region="basement", coordinates=(48.9, 2.4))
    candidates = {"lab": lab, **cities("london")}
    choice = make(candidates).choose(PARIS, tuple(candidates.values()))
    assert choice.scores[0] > choice.scores[1] - 400
    assert make(candidates, Settings(tie_km=1.0)).choose(
        PARIS, tuple(candidates.values())
    ).candidate is lab  # fmt: skip


def test_a_backend_without_a_place_is_the_farthest() -> None:
    candidates = {"somewhere": fakes.candidate("somewhere"), **cities("auckland")}
    measured(candidates["somewhere"], 0.01)
    algorithm = make(candidates)
    choice = algorithm.choose(PARIS, tuple(candidates.values()))
    assert choice.candidate.name == "auckland"
    assert algorithm.score(PARIS, candidates["somewhere"]) == -FARTHEST_KM


def test_backends_beyond_the_tie_distance_do_not_compete_by_latency() -> None:
    candidates = cities("london", "frankfurt")
    measured(candidates["frankfurt"], 0.001)
    measured(candidates["london"], 100.0)
    narrow, wide = Settings(tie_km=50.0), Settings(tie_km=200.0)
    taken = [
        make(candidates, each).choose(PARIS, tuple(candidates.values())).candidate.name
        for each in (narrow, wide)
    ]
    assert taken == ["london", "frankfurt"]


@pytest.mark.parametrize(("in_flight", "taken"), [(7, "london"), (8, "madrid")])
def test_spills_over_from_the_share_that_counts_as_full(
    in_flight: int, taken: str
) -> None:
    candidates = {
        name: fakes.candidate(name, region=name, max_in_flight=10)
        for name in ("london", "madrid")
    }
    candidates["london"].in_flight = in_flight
    choice = make(candidates).choose(PARIS, tuple(candidates.values()))
    assert choice.candidate.name == taken


def test_unknown_regions_are_all_reported_with_the_nearest_name() -> None:
    candidates = {
        "a": fakes.candidate("a", region="us-east-11"),
        "b": fakes.candidate("b", region="paris"),
        "c": fakes.candidate("c", region="Lodnon"),
        "d": fakes.candidate("d", coordinates=(91.0, 0.0)),
        "e": fakes.candidate("e", coordinates=(0.0, math.nan)),
    }
    with pytest.raises(ConfigError) as caught:
        make(candidates)
    problems = {each.key: each.message for each in caught.value.problems}
    assert problems.keys() == {
        "backend.a.region",
        "backend.c.region",
        "backend.d.coordinates",
        "backend.e.coordinates",
    }
    assert "did you mean 'us-east-1'?" in problems["backend.a.region"]
    assert "did you mean 'london'?" in problems["backend.c.region"]


def test_an_unknown_default_region_is_refused_with_its_key() -> None:
    with pytest.raises(ConfigError) as caught:
        make({}, Settings(client_region="Frankfrut"))
    (problem,) = caught.value.problems
    assert problem.key == "algorithm.geographic.client_region"
    assert "did you mean 'frankfurt'?" in problem.message


@pytest.mark.parametrize(
    "coordinates", [(91.0, 0.0), (0.0, 181.0), (math.nan, 0.0), (0.0, math.inf)]
)
def test_coordinates_off_the_earth_fail_the_choice(
    coordinates: tuple[float, float],
) -> None:
    candidates = cities("london")
    with pytest.raises(AlgorithmFailed, match="not on Earth"):
        make(candidates).choose(
            Query("x", coordinates=coordinates), tuple(candidates.values())
        )


def test_remembers_a_bounded_number_of_client_places() -> None:
    candidates = cities("london", "tokyo")
    algorithm = make(candidates)
    for step in range(2000):
        query = Query("x", coordinates=(step / 100.0, 10.0))
        choice = algorithm.choose(query, tuple(candidates.values()))
        assert choice.candidate.name == "london"
    assert len(algorithm._distances) <= 512


@pytest.mark.parametrize(
    ("setting", "value"),
    [("tie_km", 0.0), ("full_share", 0.0), ("full_share", 1.1)],
)
def test_impossible_settings_are_refused(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        Settings(**{setting: value})  # type: ignore[arg-type]  # the table's values
