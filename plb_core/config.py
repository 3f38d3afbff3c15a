"""Read `config.toml`: what the core itself understands, strictly and all at once.

Settings of plugins are kept raw here; they are read when their plugin is loaded,
because only the plugin's settings class knows what they mean.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import date
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Final, Literal, TypeVar

import attrs

from plb_core.errors import ConfigError
from plb_core.settings import at_least, doc, positive
from plb_core.structure import Problems, nearest, read_settings
from plb_core.types import Knowledge, ModelMap, Price, Problem

Kind = Literal[
    "algorithm",
    "backend",
    "classifier",
    "command",
    "cost_scorer",
    "health_check",
    "listener",
    "quality_scorer",
    "service",
]

INSTANCE_KINDS: Final[tuple[Kind, ...]] = (
    "algorithm",
    "classifier",
    "cost_scorer",
    "health_check",
    "listener",
    "quality_scorer",
    "service",
)
"""Kinds whose instances have sections `[KIND.NAME]` with nothing but settings."""

_Section = TypeVar("_Section")

AUTO: Final = "auto"
"""The model name that leaves everything to plb."""


@attrs.frozen
class Routing:
    """`[routing]`: what holds for every request."""

    track: str = attrs.field(
        default="", metadata=doc("The track for `auto`; needed when there are several.")
    )
    deadline_s: float = attrs.field(
        default=120.0,
        validator=positive,
        metadata=doc("Seconds one question may take, all attempts together."),
    )
    max_attempts: int = attrs.field(
        default=3,
        validator=at_least(1),
        metadata=doc("Backends asked for one question before giving up."),
    )
    classifier: str = attrs.field(
        default="", metadata=doc("The query classifier; empty: none narrows.")
    )
    cost_scorer: str = attrs.field(
        default="", metadata=doc("The cost scorer; empty: costs stay unknown.")
    )
    quality_scorer: str = attrs.field(
        default="", metadata=doc("The quality scorer; empty: nothing is scored.")
    )
    health_check: str = attrs.field(
        default="", metadata=doc("The active health check; empty: none probes.")
    )


@attrs.frozen
class PluginPolicy:
    """`[plugins]`: which installed distributions may provide plugins."""

    allow: tuple[str, ...] | None = attrs.field(
        default=None,
        metadata=doc(
            "Distributions, as `name` or `name==version`, whose plugins may be used;"
            " absent: every installed one that the configuration names."
        ),
    )


@attrs.frozen
class PriceTable:
    """`[backend.NAME.price]`: prices in US dollars."""

    input_usd_per_mtok: float = attrs.field(
        default=0.0,
        validator=at_least(0),
        metadata=doc("US dollars per million input tokens."),
    )
    output_usd_per_mtok: float = attrs.field(
        default=0.0,
        validator=at_least(0),
        metadata=doc("US dollars per million output tokens."),
    )
    request_usd: float = attrs.field(
        default=0.0, validator=at_least(0), metadata=doc("US dollars per request.")
    )
    search_usd: float = attrs.field(
        default=0.0, validator=at_least(0), metadata=doc("US dollars per web search.")
    )
    as_of: date | None = attrs.field(
        default=None, metadata=doc("The day on which these prices were true.")
    )

    def price(self) -> Price:
        """Return integer prices, rounded up to a whole micro-dollar."""
        return Price(
            _micro(self.input_usd_per_mtok),
            _micro(self.output_usd_per_mtok),
            _micro(self.request_usd),
            _micro(self.search_usd),
            self.as_of,
        )


@attrs.frozen
class BackendTable:
    """Keys that every `[backend.NAME]` has besides its plugin's own."""

    plugin: str = attrs.field(
        default="", metadata=doc("The backend plugin; default: the section's name.")
    )
    priority: int = attrs.field(
        default=1,
        validator=at_least(1),
        metadata=doc("Tier: 1 is tried first, 2 when nothing of tier 1 is left."),
    )
    weight: float = attrs.field(
        default=1.0,
        validator=at_least(0),
        metadata=doc("Share of traffic relative to others, for weighted algorithms."),
    )
    timeout_s: float = attrs.field(
        default=60.0,
        validator=positive,
        metadata=doc("Seconds one attempt on this backend may take."),
    )
    max_in_flight: int | None = attrs.field(
        default=None,
        validator=at_least(1),
        metadata=doc("Requests at once; default: what the plugin declares safe."),
    )
    region: str = attrs.field(
        default="", metadata=doc("Where the backend is, for `geographic`.")
    )
    coordinates: tuple[float, float] | None = attrs.field(
        default=None, metadata=doc("Latitude and longitude in degrees, instead.")
    )
    knowledge: Knowledge | None = attrs.field(
        default=None, metadata=doc("What it knows best; default: the plugin's.")
    )
    capabilities: tuple[str, ...] | None = attrs.field(
        default=None, metadata=doc("What it can do; default: the plugin's.")
    )
    models: Mapping[str, str] = attrs.field(
        factory=dict,
        metadata=doc(
            "Model names it serves: requested name, or pattern with `*` = name sent"
            ' upstream; "*" sends the requested name.'
        ),
    )
    price: PriceTable | None = attrs.field(
        default=None, metadata=doc("Prices; default: the plugin's.")
    )


@attrs.frozen
class Track:
    """`[track.NAME]`: a way of choosing among backends."""

    algorithm: str = attrs.field(
        metadata=doc("The algorithm: a section `[algorithm.NAME]` or a plugin.")
    )
    fallback_algorithms: tuple[str, ...] = attrs.field(
        default=(), metadata=doc("Algorithms that choose, in order, when it fails.")
    )
    backends: tuple[str, ...] | None = attrs.field(
        default=None, metadata=doc("The backends it uses; default: all.")
    )


@attrs.frozen
class Route:
    """`[route."MODEL"]`: special treatment for one requested model name."""

    track: str | None = attrs.field(
        default=None, metadata=doc("The track; default: the one of `[routing]`.")
    )
    algorithm: str | None = attrs.field(
        default=None, metadata=doc("The algorithm, instead of the track's.")
    )
    tiers: tuple[tuple[str, ...], ...] | None = attrs.field(
        default=None, metadata=doc("Backends by tier, instead of their `priority`.")
    )


@attrs.frozen
class Instance:
    """A section that builds one plugin object: its name, plugin and raw settings."""

    kind: Kind
    name: str
    plugin: str
    settings: Mapping[str, object]


@attrs.frozen
class BackendSection:
    """One `[backend.NAME]`: the common keys and the plugin's instance."""

    table: BackendTable
    instance: Instance

    @property
    def models(self) -> ModelMap:
        """The served names as a look-up."""
        return ModelMap.from_table(self.table.models)


@attrs.frozen
class Config:
    """A configuration whose structure is sound; plugins are not loaded yet.

    `problems` still collects lines and files for what plugins find wrong later.
    """

    routing: Routing
    plugins: PluginPolicy
    backends: Mapping[str, BackendSection]
    tracks: Mapping[str, Track]
    routes: Mapping[str, Route]
    instances: Mapping[Kind, Mapping[str, Instance]]
    problems: Problems = attrs.field(eq=False, repr=False)
    folder: Path = Path()

    def instance(self, kind: Kind, name: str) -> Instance:
        """Return the section `[kind.name]`, or a plugin of that name by itself."""
        section = self.instances.get(kind, {}).get(name)
        return section or Instance(kind, name, name, {})


def read_file(path: str | Path) -> Config:
    """Read a TOML file; raises `ConfigError` only if it cannot be parsed at all.

    Other problems are in `Config.problems`; building a plan raises them together
    with those of plugins.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        reason = error.strerror or "cannot be read"
        hint = "; `plb init` writes one" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError([Problem(f"{reason}{hint}", str(path))]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem("is not valid UTF-8", str(path))]) from error
    return read_text(text, file=str(path), folder=path.parent)


def read_text(text: str, *, file: str = "config", folder: Path = Path()) -> Config:
    """Read TOML text; `file` names it in messages, `folder` anchors its paths."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r" \(at line (\d+), column (\d+)\)", str(error))
        line = int(place[1]) if place else 0
        message = f"not valid TOML: {str(error).split(' (at ')[0]}"
        raise ConfigError([Problem(message, file, line)]) from error
    except RecursionError as error:
        raise ConfigError([Problem("nested too deeply", file)]) from error
    return _Reader(document, Problems(file, text)).read(folder)


class _Reader:
    def __init__(self, document: Mapping[str, object], problems: Problems) -> None:
        self.document = document
        self.problems = problems

    def read(self, folder: Path) -> Config:
        known = ("routing", "plugins", "backend", "track", "route", *INSTANCE_KINDS)
        for name in self.document:
            if name not in known:
                self.problems.add((name,), f"unknown section{nearest(name, known)}")
        config = Config(
            routing=self.one("routing", Routing),
            plugins=self.one("plugins", PluginPolicy),
            backends=self.backends(),
            tracks=self.many("track", Track),
            routes=self.many("route", Route),
            instances={kind: self.instances(kind) for kind in INSTANCE_KINDS},
            problems=self.problems,
            folder=folder,
        )
        _check_names(config)
        return config

    def one(self, name: str, cls: type[_Section]) -> _Section:
        table = self.document.get(name, {})
        return read_settings(cls, table, (name,), self.problems) or cls()

    def tables(self, name: str) -> Mapping[str, Mapping[str, object]]:
        sections = self.document.get(name, {})
        if not isinstance(sections, Mapping):
            self.problems.add((name,), f"expected sections like [{name}.NAME]")
            return {}
        sound = {}
        for key, table in sections.items():
            if isinstance(table, Mapping):
                sound[key] = table
            else:
                message = f"expected a section like [{name}.{key}]"
                self.problems.add((name, key), message)
        return sound

    def many(self, name: str, cls: type[_Section]) -> Mapping[str, _Section]:
        made = {}
        for key, table in self.tables(name).items():
            section = read_settings(cls, table, (name, key), self.problems)
            if section is not None:
                made[key] = section
        return made

    def backends(self) -> Mapping[str, BackendSection]:
        common = {field.name for field in attrs.fields(BackendTable)}
        made = {}
        for name, table in self.tables("backend").items():
            own = {key: value for key, value in table.items() if key in common}
            rest = {key: value for key, value in table.items() if key not in common}
            section = read_settings(
                BackendTable, own, ("backend", name), self.problems
            )
            section = section or BackendTable(plugin=str(table.get("plugin", "")))
            instance = Instance("backend", name, section.plugin or name, rest)
            made[name] = BackendSection(section, instance)
        return made

    def instances(self, kind: Kind) -> Mapping[str, Instance]:
        made = {}
        for name, table in self.tables(kind).items():
            rest = {key: value for key, value in table.items() if key != "plugin"}
            plugin = table.get("plugin", name)
            if isinstance(plugin, str):
                made[name] = Instance(kind, name, plugin, rest)
            else:
                self.problems.add((kind, name, "plugin"), "expected a string")
        return made


def _check_names(config: Config) -> None:
    """Note references to sections that do not exist, and ambiguous names."""
    problems = config.problems
    if not config.backends:
        problems.add((), "no [backend.NAME] section: there is nothing to ask")
    if not config.tracks:
        problems.add((), "no [track.NAME] section: nothing chooses an algorithm")
    _check_default_track(config)
    for name, track in config.tracks.items():
        for index, backend in enumerate(track.backends or ()):
            key = ("track", name, "backends", index)
            _check_known(problems, key, backend, config.backends, "backend")
    for name, route in config.routes.items():
        if route.track is not None:
            key = ("route", name, "track")
            _check_known(problems, key, route.track, config.tracks, "track")
        for tier, backends in enumerate(route.tiers or ()):
            for index, backend in enumerate(backends):
                place = ("route", name, "tiers", tier, index)
                _check_known(problems, place, backend, config.backends, "backend")
        if route.tiers is not None and not all(route.tiers):
            problems.add(("route", name, "tiers"), "a tier is empty")
    for kind, names in (("track", config.tracks), ("route", config.routes)):
        for name in names:
            if name == AUTO:
                problems.add((kind, name), f"the name {AUTO!r} is reserved")
            elif kind == "track" and name in config.routes:
                message = f"[track.{name}] has the same name: a request is ambiguous"
                problems.add(("route", name), message)


def _check_default_track(config: Config) -> None:
    name = config.routing.track
    if name:
        key = ("routing", "track")
        _check_known(config.problems, key, name, config.tracks, "track")
    elif len(config.tracks) > 1:
        names = ", ".join(config.tracks)
        message = f"missing; with several tracks ({names}) one must be the default"
        config.problems.add(("routing", "track"), message)


def _check_known(
    problems: Problems,
    key: tuple[str | int, ...],
    name: str,
    known: Mapping[str, object],
    kind: str,
) -> None:
    if name not in known:
        message = f"there is no [{kind}.{name}]{nearest(name, known)}"
        problems.add(key, message)


def _micro(usd: float) -> int:
    """Return micro-dollars, rounded up: a price is never understated."""
    micro = Decimal(repr(usd)) * 1_000_000
    return int(micro.to_integral_value(ROUND_CEILING))
