"""Build a plan from a configuration: load plugins, read settings, make objects."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import attrs
from loguru import logger

from plb_core.breaker import Breaker
from plb_core.candidate import Candidate
from plb_core.errors import ConfigError, PluginError
from plb_core.forms import capability_fault, fault
from plb_core.hookspecs import BuildContext
from plb_core.plan import (
    BuiltRoute,
    BuiltTrack,
    NamedAlgorithm,
    NamedListener,
    Plan,
    resolve_route,
    tiers_by_priority,
)
from plb_core.protocols import Adopts
from plb_core.structure import read_settings
from plb_core.types import BackendInfo, BackendTraits, Event, ModelMap, Problem

if TYPE_CHECKING:
    from plb_core.config import BackendSection, Config, Instance
    from plb_core.loader import Loader
    from plb_core.protocols import Algorithm, Backend
    from plb_core.sections import Kind, Route
    from plb_core.toml_lines import Path


def build_plan(
    config: Config,
    loader: Loader,
    *,
    now: Callable[[], float],
    rng: random.Random,
    previous: Plan | None = None,
) -> Plan:
    """Return the plan of `config`; raises `ConfigError` with every problem found.

    Backends, listeners and services whose section is unchanged since `previous` are
    taken over with their connections and counters. Nothing is started.
    """
    return _Builder(config, loader, now, rng, previous).plan()


def plain_context(name: str) -> BuildContext:
    """Return a context for an object that belongs to no plan, such as a command."""

    def none(wanted: str) -> Algorithm:
        raise ConfigError([Problem(f"no algorithm {wanted!r} outside a plan")])

    return BuildContext(
        name=name,
        now=time.monotonic,
        rng=random.Random(),
        log=logger.bind(plugin=name),
        backends=(),
        models=ModelMap(),
        algorithm=none,
    )


class _Builder:
    def __init__(
        self,
        config: Config,
        loader: Loader,
        now: Callable[[], float],
        rng: random.Random,
        previous: Plan | None,
    ) -> None:
        self.config = config
        self.loader = loader
        self.now = now
        self.rng = rng
        self.previous = previous
        # A copy, so that a configuration can be built more than once.
        self.problems = config.problems.copy()
        self.backends: dict[str, Backend] = {}
        self.candidates: dict[str, Candidate] = {}
        self.algorithms: dict[str, NamedAlgorithm] = {}
        self.in_progress: list[str] = []
        self.inner: dict[str, set[str]] = {}

    def plan(self) -> Plan:
        for name, section in self.config.backends.items():
            self.add_backend(name, section)
        tracks = self.tracks()
        for name, route in self.config.routes.items():
            if route.algorithm:
                self.algorithm(route.algorithm, ("route", name, "algorithm"))
        routing = self.config.routing
        chosen: dict[Kind, object] = {
            kind: self.chosen(kind, getattr(routing, kind))
            for kind in ("classifier", "cost_scorer", "quality_scorer", "health_check")
        }
        listeners = self.listeners()
        services = self.services()
        if self.previous is not None and (
            self.previous.config.plugins != self.config.plugins
        ):
            message = "cannot change while plb runs; a restart applies it"
            self.problems.add(("plugins",), message)
        if self.previous is not None and (
            self.previous.config.overload != self.config.overload
        ):
            message = "cannot change while plb runs; a restart applies it"
            self.problems.add(("overload",), message)
        for name in self.config.instances.get("algorithm", {}):
            self.algorithm(name, ("algorithm", name))  # report its problems too
        store = self.store()
        self.problems.raise_if_any()
        default = tracks[routing.track or next(iter(tracks))]
        return Plan(
            config=self.config,
            track=default,
            tracks=tracks,
            routes=self.routes(tracks, default),
            backends=self.backends,
            candidates=self.candidates,
            algorithms=self.algorithms,
            listeners=listeners,
            services=services,
            store=store,
            **cast("dict[str, Any]", chosen),
        )

    def make(self, instance: Instance, key: Path, **more: Any) -> Any:
        """Load, configure and build one plugin object; None after noting problems."""
        plugin_key = (instance.kind, instance.name, "plugin")
        try:
            provider = self.loader.provider(instance.kind, instance.plugin)
        except PluginError as error:
            key = plugin_key if self.problems.knows(plugin_key) else key
            self.problems.add(key, str(error))
            return None
        place: Path = (instance.kind, instance.name)
        settings = read_settings(
            provider.settings, instance.settings, place, self.problems
        )
        if settings is None:
            return None
        context = BuildContext(
            name=instance.name,
            now=self.now,
            rng=random.Random(self.rng.getrandbits(64)),
            log=logger.bind(plugin=instance.name),
            backends=tuple(each.info for each in self.candidates.values()),
            algorithm=self.inner_algorithm,
            folder=self.config.folder,
            **{"models": ModelMap(), **more},
        )
        try:
            made = provider.build(settings, context)
            message = fault(instance.kind, instance.plugin, made)
            if not message:
                return made
            self.problems.add(place, message)
        except ConfigError as error:
            self.problems.add_foreign(error, place)
        except _Cycle as error:
            self.problems.add(place, str(error))
        except Exception as error:  # noqa: BLE001 - the plugin's own code
            message = f"building failed: {type(error).__name__}: {error}"
            self.problems.add(place, message)
        return None

    def add_backend(self, name: str, section: BackendSection) -> None:
        kept = self.kept_backend(name, section)
        if kept is not None:
            self.backends[name], self.candidates[name] = kept
            return
        key = ("backend", name)
        backend = self.make(section.instance, key, models=section.models)
        if backend is None:
            return
        info = _info(name, section, backend.traits)
        message = capability_fault(info.plugin, backend, info.traits)
        if message:
            self.problems.add(key, message)
            return
        self.backends[name] = backend
        self.candidates[name] = Candidate(info, self.now, self.breaker(name))

    def breaker(self, name: str) -> Breaker:
        def moved(before: str, after: str) -> None:
            data = {"backend": name, "from": before, "to": after}
            logger.info("breaker_moved: {}", data)
            self.loader.announce(Event("breaker_moved", data))

        rng = random.Random(self.rng.getrandbits(64))
        return Breaker(self.config.breaker, self.now, rng, moved)

    def kept_backend(
        self, name: str, section: BackendSection
    ) -> tuple[Backend, Candidate] | None:
        previous = self.previous
        # Relative paths in settings start from the folder.
        if previous is None or previous.config.folder != self.config.folder:
            return None
        if previous.config.breaker != self.config.breaker:
            return None
        if previous.config.backends.get(name) != section:
            return None
        return previous.backends[name], previous.candidates[name]

    def tracks(self) -> dict[str, BuiltTrack]:
        made = {}
        for name, track in self.config.tracks.items():
            chain = [self.algorithm(track.algorithm, ("track", name, "algorithm"))]
            for index, fallback in enumerate(track.fallback_algorithms):
                key = ("track", name, "fallback_algorithms", index)
                chain.append(self.algorithm(fallback, key))
            names = self.candidates if track.backends is None else track.backends
            members = [
                self.candidates[each] for each in names if each in self.candidates
            ]
            if not members and not self.problems.found:
                self.problems.add(("track", name, "backends"), "no backend is left")
            made[name] = BuiltTrack(
                name,
                tuple(each for each in chain if each is not None),
                tiers_by_priority(members),
                tuple(self.algorithms[each] for each in self.reachable(chain)),
            )
        return made

    def routes(
        self, tracks: Mapping[str, BuiltTrack], default: BuiltTrack
    ) -> dict[str, BuiltRoute]:
        return {
            name: resolve_route(
                route, tracks, default, self.of_route(route), self.candidates
            )
            for name, route in self.config.routes.items()
        }

    def of_route(self, route: Route) -> tuple[NamedAlgorithm, ...]:
        """Return a route's own algorithm and all it is composed of; it comes first."""
        if not route.algorithm:
            return ()
        names = self.reachable([self.algorithms[route.algorithm]])
        return tuple(self.algorithms[name] for name in names)

    def algorithm(self, name: str, key: Path) -> NamedAlgorithm | None:
        """Return the algorithm called `name`, building it once."""
        if name in self.algorithms:
            return self.algorithms[name]
        if name in self.in_progress:
            chain = " → ".join([*self.in_progress, name])
            raise _Cycle(f"the algorithms refer to one another: {chain}")
        self.in_progress.append(name)
        made = self.make(self.config.instance("algorithm", name), key)
        self.in_progress.pop()
        if made is None:
            return None
        if self.previous is not None and name in self.previous.algorithms:
            old = self.previous.algorithms[name].algorithm
            if type(old) is type(made) and isinstance(made, Adopts):
                try:
                    made.adopt(old)
                except Exception as error:  # noqa: BLE001 - the plugin's own code
                    message = f"adopt failed: {type(error).__name__}"
                    self.problems.add(("algorithm", name), message)
        self.algorithms[name] = NamedAlgorithm(name, made)
        return self.algorithms[name]

    def inner_algorithm(self, name: str) -> Algorithm:
        if self.in_progress:
            self.inner.setdefault(self.in_progress[-1], set()).add(name)
        found = self.algorithm(name, ("algorithm", name))
        if found is None:
            raise ConfigError(())  # its own problems are noted already
        return found.algorithm

    def reachable(self, chain: Sequence[NamedAlgorithm | None]) -> list[str]:
        """Return the names in `chain` and of all they are composed of, once each."""
        names = [each.name for each in chain if each is not None]
        for name in names:  # grows while it is walked
            names += [each for each in self.inner.get(name, ()) if each not in names]
        return list(dict.fromkeys(names))

    def chosen(self, kind: Kind, name: str) -> object:
        if not name:
            return None
        return self.make(self.config.instance(kind, name), ("routing", kind))

    def listeners(self) -> tuple[NamedListener, ...]:
        before = self.previous.listeners if self.previous is not None else ()
        kept = {each.name: each for each in before}
        made = []
        for name, instance in self.config.instances.get("listener", {}).items():
            if name in kept and self.is_unchanged(instance):
                made.append(kept[name])
                continue
            listener = self.make(instance, ("listener", name))
            if listener is not None:
                made.append(NamedListener(name, listener))
        return tuple(made)

    def services(self) -> dict[str, Any]:
        kept = self.previous.services if self.previous is not None else {}
        made = {}
        for name, instance in self.config.instances.get("service", {}).items():
            if name in kept and self.is_unchanged(instance):
                made[name] = kept[name]
                continue
            service = self.make(instance, ("service", name))
            if service is not None:
                made[name] = service
        return made

    def store(self) -> Any:
        """Return the ledger's store; it stays the same for a balancer's life."""
        budget = self.config.budget
        if self.previous is not None:
            before = self.previous.config.budget
            if (budget is None) != (before is None) or (
                budget is not None
                and before is not None
                and (budget.store, budget.timezone) != (before.store, before.timezone)
            ):
                message = "its store and time zone cannot change while plb runs"
                self.problems.add(("budget",), f"{message}; a restart applies it")
            return self.previous.store
        if budget is None:
            return None
        for name, candidate in self.candidates.items():
            if candidate.info.traits.price is None:
                message = "missing; [budget] can hold nothing without prices"
                self.problems.add(("backend", name, "price"), message)
        instance = self.config.instance("store", budget.store)
        return self.make(instance, ("budget", "store"))

    def is_unchanged(self, instance: Instance) -> bool:
        previous = self.previous
        return (
            previous is not None
            and previous.config.folder == self.config.folder
            and previous.config.instances[instance.kind].get(instance.name) == instance
        )


class _Cycle(Exception):
    """A composite algorithm contains itself."""


def _info(name: str, section: BackendSection, traits: BackendTraits) -> BackendInfo:
    table = section.table
    overrides: dict[str, Any] = {}
    if table.knowledge is not None:
        overrides["knowledge"] = table.knowledge
    if table.capabilities is not None:
        overrides["capabilities"] = frozenset(table.capabilities)
    if table.max_in_flight is not None:
        overrides["max_in_flight"] = table.max_in_flight
    if table.price is not None:
        overrides["price"] = table.price.price()
    return BackendInfo(
        name=name,
        plugin=section.instance.plugin,
        traits=attrs.evolve(traits, **overrides),
        priority=table.priority,
        weight=table.weight,
        timeout_s=table.timeout_s,
        region=table.region,
        coordinates=table.coordinates,
        models=section.models,
        context_tokens=table.context_tokens,
        on_error=table.on_error,
    )
