"""Choose the nearest backend with room."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import attrs

from plb_contrib_algorithms.regions import Point, locate, nearest_name
from plb_core import (
    AlgorithmFailed,
    BackendInfo,
    BuildContext,
    Choice,
    ConfigError,
    Problem,
    Provider,
    Query,
    ScoringAlgorithm,
    doc,
    hookimpl,
)
from plb_core.settings import at_least, positive, share

if TYPE_CHECKING:
    from plb_core import Candidate

EARTH_RADIUS_KM: Final = 6371.0088  # IUGG mean radius
FARTHEST_KM: Final = math.pi * EARTH_RADIUS_KM
AVOIDED_KM: Final = 1e6  # beyond every distance on Earth
MAX_PLACES: Final = 512  # client places remembered; more than the table has
REMEMBERED: Final = 0.5  # samples; one alone counts for a half-life, five minutes
INDIFFERENT: Final = 0.1  # latencies within a tenth of the lowest are equal
SICK: Final = ("unhealthy", "degraded")


@attrs.frozen
class Settings:
    """What `[algorithm.geographic]` accepts."""

    client_region: str = attrs.field(
        default="",
        metadata=doc("Region of clients that do not name a known one; '' for none."),
    )
    tie_km: float = attrs.field(
        default=200.0,
        validator=at_least(1),
        metadata=doc(
            "Backends at most this much farther than the nearest count as equally"
            " near; measured latency decides among them."
        ),
    )
    full_share: float = attrs.field(
        default=0.8,
        validator=[positive, share],
        metadata=doc(
            "Share of max_in_flight from which requests spill over to the next nearest."
        ),
    )


def distance_km(one: Point, other: Point) -> float:
    """Return the great-circle distance between two points in degrees (haversine)."""
    north, east = math.radians(one[0]), math.radians(one[1])
    other_north, other_east = math.radians(other[0]), math.radians(other[1])
    half_chord_squared = (
        math.sin((other_north - north) / 2) ** 2
        + math.cos(north)
        * math.cos(other_north)
        * math.sin((other_east - east) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, half_chord_squared)))


def is_on_earth(point: Point) -> bool:
    """Return whether latitude and longitude are in range (and numbers at all)."""
    return abs(point[0]) <= 90 and abs(point[1]) <= 180  # noqa: PLR2004 - degrees


class Geographic(ScoringAlgorithm):
    """Prefer the nearest backend that has room and is well.

    Formula: d = 2R x asin(sqrt(sin²(Δφ/2) + cos φ1 cos φ2 sin²(Δλ/2))); backends with
    d ≤ min d + tie_km count as equally near, and the one with the lowest latency L
    is taken, by lot among those within 10 % of it. Score: -d, and -(min d + L/(1+L))
    for the equally near. A backend with in_flight ≥ full_share x max_in_flight, or
    whose health is bad, scores 1,000,000 lower: it is taken only when every backend
    is full or sick.
    Knows nothing: without the client's place every d is 0, so latency decides; a
    backend without a place counts as the farthest (20,015 km); one that was not
    measured lately is thought to be as fast as the fastest, so it gets tried.
    Source: haversine formula (R. W. Sinnott, Virtues of the Haversine, 1984).
    Memory: one distance per backend for at most 512 client places.

    Worked example (tie_km 200; distances Paris-London 344 km, Paris-Frankfurt 479 km,
    Paris-Tokyo 9,713 km; london answers in 0.2 s, frankfurt in 0.3 s):

    | client | state                          | taken     |
    | ------ | ------------------------------ | --------- |
    | paris  | all idle                       | london    |
    | paris  | london full                    | frankfurt |
    | paris  | frankfurt answers in 0.1 s     | frankfurt |
    | paris  | london and frankfurt unhealthy | tokyo     |
    | paris  | all three full                 | london    |
    | tokyo  | all idle                       | tokyo     |
    """

    def __init__(self, settings: Settings, context: BuildContext) -> None:
        super().__init__(context)
        self._tie_km = settings.tie_km
        self._full_share = settings.full_share
        self._places = _backend_places(context.backends)
        self._default = _client_place(settings.client_region, context.name)
        self._distances: dict[Point, dict[str, float]] = {}

    def choose(self, query: Query, candidates: Sequence[Candidate]) -> Choice:
        """Return the nearest candidate with room, by latency among equally near."""
        score = self._score
        distances = self._distances_from(query)
        scores = [score(distances, each) for each in candidates]
        nearest = max(scores)
        least = nearest - self._tie_km
        near = [index for index, value in enumerate(scores) if value >= least]
        if len(near) > 1:
            now_s = self.now()
            latencies = [
                candidates[index].latency
                if candidates[index].latency.mass_at(now_s) >= REMEMBERED
                else None
                for index in near
            ]
            lowest_s = min([each.value for each in latencies if each], default=0.0)
            same_s = lowest_s * (1.0 + INDIFFERENT)
            for index, latency in zip(near, latencies, strict=True):
                latency_s = latency.value if latency else lowest_s
                if latency_s <= same_s:
                    latency_s = lowest_s
                scores[index] = nearest - latency_s / (1.0 + latency_s)
        return self.pick(candidates, scores)

    def score(self, query: Query, candidate: Candidate) -> float:
        """Return minus the distance in km, far lower for a full or sick backend."""
        return self._score(self._distances_from(query), candidate)

    def _score(self, distances: dict[str, float] | None, candidate: Candidate) -> float:
        score = 0.0
        if distances is not None:
            score = -distances.get(candidate.name, FARTHEST_KM)
        if (
            candidate.in_flight >= self._full_share * candidate.max_in_flight
            or candidate.health in SICK
        ):
            score -= AVOIDED_KM
        return score

    def _distances_from(self, query: Query) -> dict[str, float] | None:
        place = query.coordinates
        if place is None:
            place = (query.region and locate(query.region)) or self._default
            if place is None:
                return None
        distances = self._distances.get(place)
        if distances is None:
            if not is_on_earth(place):
                message = "the query's coordinates are not on Earth"
                raise AlgorithmFailed(self.name, message)
            if len(self._distances) >= MAX_PLACES:
                self._distances.clear()
            distances = {
                name: distance_km(place, there) for name, there in self._places.items()
            }
            self._distances[place] = distances
        return distances


def _unknown(key: str, region: str) -> Problem:
    message = f"unknown region {region!r}; did you mean {nearest_name(region)!r}?"
    return Problem(message, key=key)


def _client_place(region: str, algorithm: str) -> Point | None:
    place = locate(region)
    if region and place is None:
        raise ConfigError([_unknown(f"algorithm.{algorithm}.client_region", region)])
    return place


def _backend_places(backends: Sequence[BackendInfo]) -> dict[str, Point]:
    places: dict[str, Point] = {}
    problems: list[Problem] = []
    for info in backends:
        if info.coordinates is not None:
            if is_on_earth(info.coordinates):
                places[info.name] = info.coordinates
            else:
                message = "expected a latitude of -90..90 and a longitude of -180..180"
                key = f"backend.{info.name}.coordinates"
                problems.append(Problem(message, key=key))
        elif info.region:
            place = locate(info.region)
            if place is None:
                problems.append(_unknown(f"backend.{info.name}.region", info.region))
            else:
                places[info.name] = place
    if problems:
        raise ConfigError(problems)
    return places


@hookimpl
def plb_register_algorithm() -> Provider[Geographic]:
    """Offer `geographic`."""
    return Provider(
        "geographic",
        Geographic,
        Settings,
        "nearest backend with room, by great-circle distance",
    )
