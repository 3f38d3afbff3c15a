"""Read `config.toml`: what the core itself understands, strictly and all at once.

Settings of plugins are kept raw here; they are read when their plugin is loaded,
because only the plugin's settings class knows what they mean.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, TypeVar

import attrs

from plb_core.budget import Budget
from plb_core.errors import ConfigError
from plb_core.sections import (
    AUTO,
    INSTANCE_KINDS,
    BackendTable,
    BreakerSettings,
    Kind,
    OverloadSettings,
    PluginPolicy,
    Route,
    Routing,
    Track,
)
from plb_core.structure import Problems, nearest, read_settings
from plb_core.toml_lines import Path
from plb_core.types import ModelMap, Problem

_Section = TypeVar("_Section")


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
    folder: FilePath = FilePath()
    budget: Budget | None = None
    overload: OverloadSettings | None = None
    breaker: BreakerSettings = attrs.field(factory=BreakerSettings)

    def instance(self, kind: Kind, name: str) -> Instance:
        """Return the section `[kind.name]`, or a plugin of that name by itself."""
        section = self.instances.get(kind, {}).get(name)
        return section or Instance(kind, name, name, {})


Overrides = Sequence[tuple[tuple[str, ...], object]]
"""(key path, value) pairs that win over the file, such as a command line's."""


def read_file(path: str | FilePath, overrides: Overrides = ()) -> Config:
    """Read a TOML file; raises `ConfigError` only if it cannot be parsed at all.

    Other problems are in `Config.problems`; building a plan raises them together
    with those of plugins.
    """
    path = FilePath(path)
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        reason = error.strerror or "cannot be read"
        hint = "; `plb init` writes one" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError([Problem(f"{reason}{hint}", str(path))]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem("is not valid UTF-8", str(path))]) from error
    return read_text(text, file=str(path), folder=path.parent, overrides=overrides)


def read_text(
    text: str,
    *,
    file: str = "config",
    folder: FilePath = FilePath(),
    overrides: Overrides = (),
) -> Config:
    """Read TOML text; `file` names it in messages, `folder` anchors its paths."""
    try:
        document = tomllib.loads(text)
        problems = Problems(file, text)
    except ValueError as error:  # a whole number may be too long even to decode
        place = re.search(r" \(at line (\d+), column (\d+)\)", str(error))
        line = int(place[1]) if place else 0
        message = f"not valid TOML: {str(error).split(' (at ')[0]}"
        raise ConfigError([Problem(message, file, line)]) from error
    except RecursionError as error:
        raise ConfigError([Problem("nested too deeply", file)]) from error
    for key, value in overrides:
        _override(document, key, value, problems)
    return _Reader(document, problems).read(folder)


def _override(
    document: dict[str, Any], key: tuple[str, ...], value: object, problems: Problems
) -> None:
    table = document
    for name in key[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            problems.add(key, f"cannot be set: {name!r} is not a table")
            return
    table[key[-1]] = value


class _Reader:
    def __init__(self, document: Mapping[str, object], problems: Problems) -> None:
        self.document = document
        self.problems = problems

    def read(self, folder: FilePath) -> Config:
        known = (
            "routing",
            "plugins",
            "backend",
            "track",
            "route",
            "budget",
            "overload",
            "breaker",
            *INSTANCE_KINDS,
        )
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
            budget=self.given("budget", Budget),
            overload=self.given("overload", OverloadSettings),
            breaker=self.one("breaker", BreakerSettings),
        )
        _check_names(config)
        return config

    def one(self, name: str, cls: type[_Section]) -> _Section:
        table = self.document.get(name, {})
        return read_settings(cls, table, (name,), self.problems) or cls()

    def given(self, name: str, cls: type[_Section]) -> _Section | None:
        """Return a section that does something only when it is there."""
        return self.one(name, cls) if name in self.document else None

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
            section = read_settings(BackendTable, own, ("backend", name), self.problems)
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
    _check_references(config)
    _check_budget(config)
    for kind, names in (("track", config.tracks), ("route", config.routes)):
        for name in names:
            if name == AUTO:
                problems.add((kind, name), f"the name {AUTO!r} is reserved")
            elif kind == "track" and name in config.routes:
                message = f"[track.{name}] has the same name: a request is ambiguous"
                problems.add(("route", name), message)


def _check_references(config: Config) -> None:
    problems = config.problems
    for name, track in config.tracks.items():
        for index, backend in enumerate(track.backends or ()):
            key: Path = ("track", name, "backends", index)
            _check_known(problems, key, backend, config.backends, "backend")
            _check_single(problems, key, backend, (track.backends or ())[:index])
    for name, route in config.routes.items():
        if route.track is not None:
            key = ("route", name, "track")
            _check_known(problems, key, route.track, config.tracks, "track")
        seen: list[str] = []
        for tier, backends in enumerate(route.tiers or ()):
            for index, backend in enumerate(backends):
                place: Path = ("route", name, "tiers", tier, index)
                _check_known(problems, place, backend, config.backends, "backend")
                _check_single(problems, place, backend, seen)
                seen.append(backend)
        if route.tiers is not None and not all(route.tiers):
            problems.add(("route", name, "tiers"), "a tier is empty")


def _check_budget(config: Config) -> None:
    """Note caps of things that do not exist: such a cap would never hold."""
    budget, problems = config.budget, config.problems
    if budget is None:
        return
    if not config.routing.cost_scorer:
        problems.add(("budget",), "needs a cost scorer: set routing.cost_scorer")
    for name in budget.backend:
        key = ("budget", "backend", name)
        _check_known(problems, key, name, config.backends, "backend")
    for name in budget.track:
        key = ("budget", "track", name)
        _check_known(problems, key, name, config.tracks, "track")


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
    key: Path,
    name: str,
    known: Mapping[str, object],
    kind: str,
) -> None:
    if name not in known:
        message = f"there is no [{kind}.{name}]{nearest(name, known)}"
        problems.add(key, message)


def _check_single(
    problems: Problems, key: Path, name: str, before: Sequence[str]
) -> None:
    if name in before:
        problems.add(key, f"{name!r} stands here twice")
