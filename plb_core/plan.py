"""A plan: everything a configuration means, built, checked and then never changed.

A request keeps the plan it started with. Only the live state inside candidates and
algorithms moves; counters of unchanged backends carry over to the next plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import attrs
from loguru import logger

from plb_core.candidate import Candidate
from plb_core.errors import UnknownModel
from plb_core.protocols import LearnsFromRatings
from plb_core.sections import AUTO

if TYPE_CHECKING:
    from plb_core.config import Config
    from plb_core.protocols import (
        Algorithm,
        Backend,
        Classifier,
        CostScorer,
        HealthCheck,
        Listener,
        QualityScorer,
        Service,
        Store,
    )
    from plb_core.sections import Route
    from plb_core.types import Outcome, Rating, Wanted

Tier = tuple[Candidate, ...]

_LONGEST_NAME: Final = 256
"""Bound on a requested model's name, which is remembered with the request."""

_POOLS_KEPT: Final = 512
"""Bound on remembered pools: clients may ask for endless names under a wildcard."""


# Not frozen: the core counts in `failures`.
@attrs.define(eq=False)
class NamedAlgorithm:
    """An algorithm, its name in TOML, and how often it failed to choose or learn."""

    name: str
    algorithm: Algorithm
    failures: int = 0

    def observe(self, outcome: Outcome) -> None:
        """Let it learn; its own fault is counted and never reaches the user."""
        try:
            self.algorithm.observe(outcome)
        except Exception as error:  # noqa: BLE001 - a fault in the plugin itself
            self.failures += 1
            logger.debug("algorithm {} failed to learn: {!r}", self.name, error)

    def rate(self, rating: Rating) -> None:
        """Let it learn from a rating, if it does."""
        try:
            if isinstance(self.algorithm, LearnsFromRatings):
                self.algorithm.rate(rating)
        except Exception as error:  # noqa: BLE001 - a fault in the plugin itself
            self.failures += 1
            logger.debug("algorithm {} failed to learn: {!r}", self.name, error)


# Not frozen: the core counts in `failures`.
@attrs.define(eq=False)
class NamedListener:
    """A listener, its name in TOML, and how often it failed."""

    name: str
    listener: Listener
    failures: int = 0

    def observe(self, outcome: Outcome) -> None:
        """Let it take note; its own fault is counted and never reaches the user."""
        try:
            self.listener.observe(outcome)
        except Exception as error:  # noqa: BLE001 - a fault in the plugin itself
            self.failures += 1
            logger.debug("listener {} failed: {!r}", self.name, error)


@attrs.frozen(eq=False)
class Pool:
    """Where one kind of request may go: tiers in order, and who chooses.

    `chain` is the algorithm and its fallbacks. Every candidate is in one tier.
    """

    track: BuiltTrack
    chain: tuple[NamedAlgorithm, ...]
    tiers: tuple[Tier, ...]


@attrs.frozen(eq=False)
class BuiltTrack:
    """A `[track.NAME]` with its algorithms built.

    `observers` are the chain and every algorithm it is composed of, once each; all
    of them see every outcome of the track.
    """

    name: str
    chain: tuple[NamedAlgorithm, ...]
    tiers: tuple[Tier, ...]
    observers: tuple[NamedAlgorithm, ...]


@attrs.frozen(eq=False)
class BuiltRoute:
    """A `[route."MODEL"]` resolved to a track, a chain and perhaps own tiers."""

    track: BuiltTrack
    chain: tuple[NamedAlgorithm, ...]
    tiers: tuple[Tier, ...] | None


# Not frozen: requests count themselves in `choosing`.
@attrs.define(eq=False)
class Plan:
    """A built configuration.

    `choosing` counts the requests that may still choose a backend of it.
    `backends` and `candidates` run over the same names, in TOML order. `services` are
    built but not started. `track` is the one for `auto`. `store` keeps the ledger,
    None without `[budget]`.
    """

    config: Config
    track: BuiltTrack
    tracks: Mapping[str, BuiltTrack]
    routes: Mapping[str, BuiltRoute]
    backends: Mapping[str, Backend]
    candidates: Mapping[str, Candidate]
    algorithms: Mapping[str, NamedAlgorithm]
    classifier: Classifier | None
    cost_scorer: CostScorer | None
    quality_scorer: QualityScorer | None
    health_check: HealthCheck | None
    listeners: tuple[NamedListener, ...]
    services: Mapping[str, Service]
    store: Store | None = None
    choosing: int = 0
    _pools: dict[tuple[str, frozenset[str], Wanted], Pool] = attrs.field(
        factory=dict, repr=False
    )

    def pool(self, model: str, needs: frozenset[str], wanted: Wanted) -> Pool:
        """Return where a request for `model` may go.

        `needs` are capabilities each backend must have; `wanted` knowledge comes
        first within a tier. Raises `UnknownModel`.
        """
        key = (model, needs, wanted)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._resolve(model, needs, wanted)
            if len(self._pools) >= _POOLS_KEPT:
                self._pools.clear()
            self._pools[key] = pool
        return pool

    def model_names(self) -> tuple[str, ...]:
        """Return every name a request may ask for, wildcards left out."""
        served = (
            name
            for candidate in self.candidates.values()
            for name in candidate.info.models.exact
        )
        names = (AUTO, *self.routes, *self.tracks, *self.candidates, *served)
        return tuple(dict.fromkeys(names))

    def _resolve(self, model: str, needs: frozenset[str], wanted: Wanted) -> Pool:
        track, chain, tiers = self._named(model)
        able = tuple(
            tuple(each for each in tier if needs <= each.info.traits.capabilities)
            for tier in tiers
        )
        if not any(able):
            raise UnknownModel(
                f"{model} with {', '.join(sorted(needs))}", self.model_names()
            )
        return Pool(track, chain, _split_by_knowledge(able, wanted))

    def _named(
        self, model: str
    ) -> tuple[BuiltTrack, tuple[NamedAlgorithm, ...], tuple[Tier, ...]]:
        default = self.track
        if len(model) > _LONGEST_NAME:
            raise UnknownModel(model, self.model_names())
        if model == AUTO:
            return default, default.chain, default.tiers
        if model in self.routes:
            route = self.routes[model]
            tiers = route.tiers or _serving(route.track.tiers, model)
            return route.track, route.chain, tiers or route.track.tiers
        if model in self.tracks:
            track = self.tracks[model]
            return track, track.chain, track.tiers
        if model in self.candidates:
            return default, default.chain, ((self.candidates[model],),)
        tiers = _serving(default.tiers, model)
        if not tiers:
            raise UnknownModel(model, self.model_names())
        return default, default.chain, tiers


def tiers_by_priority(candidates: Sequence[Candidate]) -> tuple[Tier, ...]:
    """Group by `priority`, 1 first, keeping the order within a tier."""
    priorities = sorted({each.info.priority for each in candidates})
    return tuple(
        tuple(each for each in candidates if each.info.priority == priority)
        for priority in priorities
    )


def resolve_route(
    route: Route,
    tracks: Mapping[str, BuiltTrack],
    default: BuiltTrack,
    own: Sequence[NamedAlgorithm],
    candidates: Mapping[str, Candidate],
) -> BuiltRoute:
    """Return the route with names replaced by what they name.

    `own` is the route's algorithm, then those it is composed of; empty for none.
    """
    track = tracks[route.track] if route.track else default
    chain = track.chain
    if own:
        chain = (own[0], *chain[1:])
        observers = dict.fromkeys((*track.observers, *own))
        track = attrs.evolve(track, observers=tuple(observers))
    tiers = None
    if route.tiers is not None:
        tiers = tuple(tuple(candidates[name] for name in tier) for tier in route.tiers)
    return BuiltRoute(track, chain, tiers)


def _serving(tiers: tuple[Tier, ...], model: str) -> tuple[Tier, ...]:
    served = (
        tuple(each for each in tier if each.info.models.upstream(model) is not None)
        for tier in tiers
    )
    return tuple(tier for tier in served if tier)


def _split_by_knowledge(tiers: tuple[Tier, ...], wanted: Wanted) -> tuple[Tier, ...]:
    """Put backends with the wanted knowledge before the rest of their own tier."""
    if wanted in ("either", "hybrid"):
        return tuple(tier for tier in tiers if tier)
    split: list[Tier] = []
    for tier in tiers:
        split.append(
            tuple(each for each in tier if each.info.traits.knowledge == wanted)
        )
        split.append(
            tuple(each for each in tier if each.info.traits.knowledge != wanted)
        )
    return tuple(tier for tier in split if tier)
