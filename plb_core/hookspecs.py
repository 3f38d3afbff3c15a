"""Every hook of plb. A plugin implements the ones for what it provides.

Each `plb_register_*` hook runs once, when the plugin is loaded, and hands over a
`Provider` (or several). No hook is called per request: the objects that a provider
builds are plain objects, called by plain method calls.

The bodies below never run: pluggy calls implementations, and reads only the signature.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
import pluggy

from plb_core.types import BackendInfo, Event, ModelMap

if TYPE_CHECKING:
    import loguru

    from plb_core.protocols import (
        Algorithm,
        Backend,
        Classifier,
        Command,
        CostScorer,
        HealthCheck,
        Listener,
        QualityScorer,
        Service,
        Store,
    )

PROJECT = "plb"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Built_co = TypeVar("Built_co", covariant=True)


@attrs.frozen
class NoSettings:
    """The settings class of a plugin that has nothing to set."""


@attrs.frozen
class BuildContext:
    """What a provider gets to build its object with.

    `name` is the instance's name in TOML. `backends` are all configured backends
    (empty while backends themselves are built), `models` the names this backend
    serves. `now` is a monotonic clock in seconds, `rng` an own seeded random source,
    `log` a loguru logger bound to the name. `algorithm(name)` returns another
    configured algorithm, for composites; a cycle is refused. Relative paths in settings
    start from `folder`, where the configuration file lies.
    """

    name: str
    now: Callable[[], float]
    rng: random.Random
    log: loguru.Logger
    backends: tuple[BackendInfo, ...]
    models: ModelMap
    algorithm: Callable[[str], Algorithm]
    folder: Path = Path()


@attrs.frozen
class Provider(Generic[Built_co]):
    """What a plugin offers under one name.

    `name` equals the entry point's name and the name in TOML. `settings` is an attrs
    class, read strictly from TOML; a wrong key or value is reported with its line.
    `build(settings, context)` returns the object that does the work; raise
    `ConfigError` for settings that cannot work. `summary` is one line for `plb
    plugins`.
    """

    name: str
    # Any: each provider's build takes its own settings class, checked at load.
    build: Callable[[Any, BuildContext], Built_co]
    settings: type = NoSettings
    summary: str = ""


@hookspec
def plb_register_algorithm() -> Provider[Algorithm] | Sequence[Provider[Algorithm]]:
    """Offer algorithms, chosen by `[track.NAME] algorithm`."""
    raise NotImplementedError


@hookspec
def plb_register_backend() -> Provider[Backend] | Sequence[Provider[Backend]]:
    """Offer backends, configured by `[backend.NAME]`."""
    raise NotImplementedError


@hookspec
def plb_register_health_check() -> (
    Provider[HealthCheck] | Sequence[Provider[HealthCheck]]
):
    """Offer health checks, chosen by `[routing] health_check`."""
    raise NotImplementedError


@hookspec
def plb_register_cost_scorer() -> Provider[CostScorer] | Sequence[Provider[CostScorer]]:
    """Offer cost scorers, chosen by `[routing] cost_scorer`."""
    raise NotImplementedError


@hookspec
def plb_register_quality_scorer() -> (
    Provider[QualityScorer] | Sequence[Provider[QualityScorer]]
):
    """Offer quality scorers, chosen by `[routing] quality_scorer`."""
    raise NotImplementedError


@hookspec
def plb_register_classifier() -> Provider[Classifier] | Sequence[Provider[Classifier]]:
    """Offer query classifiers, chosen by `[routing] classifier`."""
    raise NotImplementedError


@hookspec
def plb_register_listener() -> Provider[Listener] | Sequence[Provider[Listener]]:
    """Offer listeners, switched on by `[listener.NAME]`."""
    raise NotImplementedError


@hookspec
def plb_register_service() -> Provider[Service] | Sequence[Provider[Service]]:
    """Offer services that `plb serve` runs, switched on by `[service.NAME]`."""
    raise NotImplementedError


@hookspec
def plb_register_store() -> Provider[Store] | Sequence[Provider[Store]]:
    """Offer stores of the money's ledger, chosen by `[budget] store`."""
    raise NotImplementedError


@hookspec
def plb_register_command() -> Provider[Command] | Sequence[Provider[Command]]:
    """Offer sub-commands of `plb`, found by entry points of group `plb.command`."""
    raise NotImplementedError


@hookspec
def plb_event(event: Event) -> None:
    """Hear of a rare event: plan applied, health changed. Must return quickly."""
    raise NotImplementedError
