"""From a name in TOML to a plugin's provider; imports only what is named.

An entry point of group `plb` makes a plugin known without importing it. Its module is
imported when a configuration names it, checked by pluggy against the hooks, and asked
for its providers once.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Final

import attrs
import pluggy

from plb_core import hookspecs
from plb_core.errors import (
    PluginConflict,
    PluginContractError,
    PluginError,
    PluginNotFound,
)
from plb_core.hookspecs import PROJECT, Provider
from plb_core.sections import BackendTable
from plb_core.structure import nearest
from plb_core.types import Event

if TYPE_CHECKING:
    from plb_core.sections import Kind, PluginPolicy

GROUP: Final = "plb"
COMMAND_GROUP: Final = "plb.command"
_HOOK_PREFIX: Final = "plb_register_"


@attrs.frozen
class Installed:
    """A plugin that an installed distribution declares; not imported."""

    name: str
    module: str
    distribution: str
    version: str
    allowed: bool


class Loader:
    """Knows every installed plugin and loads the ones asked for.

    `extra` are plugin objects (modules, or instances with hook implementations) that
    an embedding application hands over directly. One loader belongs to one balancer.
    """

    def __init__(
        self, policy: PluginPolicy | None = None, extra: Sequence[object] = ()
    ) -> None:
        self._allow = policy.allow if policy else None
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._points = {group: _by_name(group) for group in (GROUP, COMMAND_GROUP)}
        # None: sound; else why it cannot be used, said each time it is asked for.
        self._loaded: dict[EntryPoint, PluginError | None] = {}
        self._providers: dict[tuple[str, str], tuple[Provider[object], str]] = {}
        for number, plugin in enumerate(extra, 1):
            name = getattr(plugin, "__name__", type(plugin).__name__)
            self._register(plugin, f"{name} (plugin {number})")

    def installed(self, group: str = GROUP) -> list[Installed]:
        """Return every declared plugin, sorted by name, without importing any."""
        return sorted(
            (
                Installed(
                    point.name,
                    point.value,
                    *_distribution(point),
                    allowed=self._is_allowed(point),
                )
                for points in self._points[group].values()
                for point in points
            ),
            key=lambda each: (each.name, each.distribution),
        )

    def provider(self, kind: Kind, name: str) -> Provider[object]:
        """Return the provider of `kind` called `name`, loading its plugin.

        Raises `PluginNotFound`, `PluginConflict` or `PluginContractError`.
        """
        found = self._providers.get((kind, name))
        if found is None:
            self._load(COMMAND_GROUP if kind == "command" else GROUP, kind, name)
            found = self._providers.get((kind, name))
        if found is None:
            offered = sorted(each for other, each in self._providers if other == kind)
            message = f"the plugin {name!r} offers no {kind}{_list(offered)}"
            raise PluginContractError(name, message)
        return found[0]

    def announce(self, event: Event) -> None:
        """Tell every loaded plugin of a rare event; one plugin's error stops none."""
        for implementation in self._manager.hook.plb_event.get_hookimpls():
            try:
                implementation.function(event)
            except Exception as error:  # noqa: BLE001 - a plugin's fault is its own
                from loguru import logger  # noqa: PLC0415 - only when it goes wrong

                logger.error(
                    "plugin {} failed on event {}: {}",
                    implementation.plugin_name,
                    event.name,
                    type(error).__name__,
                )

    def _load(self, group: str, kind: Kind, name: str) -> None:
        points = self._points[group].get(name, ())
        if not points:
            message = f"no installed plugin is called {name!r}"
            offered = [other for own_kind, other in self._providers if own_kind == kind]
            message += nearest(name, [*self._points[group], *offered])
            raise PluginNotFound(name, message)
        if len(points) > 1:
            owners = " and ".join(
                f"{dist} {version} ({point.value})"
                for point in points
                for dist, version in (_distribution(point),)
            )
            message = f"{owners} both provide {name!r}; uninstall one"
            raise PluginConflict(name, message)
        point = points[0]
        if point not in self._loaded:
            try:
                self._import(point, kind, name)
                self._loaded[point] = None
            except PluginError as error:
                self._loaded[point] = error
        failure = self._loaded[point]
        if failure is not None:
            raise failure

    def _import(self, point: EntryPoint, kind: Kind, name: str) -> None:
        if not self._is_allowed(point):
            owner = " ".join(_distribution(point))
            message = f"{name!r} is of {owner}, which [plugins] allow does not list"
            raise PluginContractError(name, message)
        try:
            plugin = point.load()
        except (Exception, SystemExit) as error:  # an import may do anything
            message = f"importing {point.value} failed: {_brief(error)}"
            raise PluginContractError(name, message) from error
        if not self._manager.is_registered(plugin):
            self._register(plugin, name)
        if (kind, name) not in self._providers:
            mine = [key for key, (_, owner) in self._providers.items() if owner == name]
            if mine and all(own_kind == kind for own_kind, _ in mine):
                names = ", ".join(repr(own) for _, own in mine)
                message = f"{point.value} calls its {kind} {names} instead of {name!r}"
                raise PluginContractError(name, message)

    def _register(self, plugin: object, name: str) -> None:
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            raise PluginContractError(name, f"{name!r}: {error}") from error
        except ValueError as error:
            raise PluginConflict(name, f"{name!r} is registered twice") from error
        for caller in self._manager.get_hookcallers(plugin) or ():
            if not caller.name.startswith(_HOOK_PREFIX):
                continue
            kind = caller.name.removeprefix(_HOOK_PREFIX)
            for implementation in caller.get_hookimpls():
                if implementation.plugin is plugin:
                    self._take(kind, name, implementation.function)

    def _take(self, kind: str, plugin: str, function: object) -> None:
        try:
            offered = function()  # type: ignore[operator]  # pluggy checked the hook
        except Exception as error:  # the plugin's own code
            message = f"plb_register_{kind} of {plugin!r} failed: {_brief(error)}"
            raise PluginContractError(plugin, message) from error
        providers = [offered] if isinstance(offered, Provider) else offered
        if not isinstance(providers, Sequence):
            providers = [offered]
        for provider in providers:
            _check_provider(provider, kind, plugin)
            known = self._providers.get((kind, provider.name))
            if known is not None:
                message = (
                    f"the plugins {known[1]!r} and {plugin!r} both provide the"
                    f" {kind} {provider.name!r}; remove one"
                )
                raise PluginConflict(plugin, message)
            self._providers[kind, provider.name] = (provider, plugin)

    def _is_allowed(self, point: EntryPoint) -> bool:
        if self._allow is None:
            return True
        name, version = _distribution(point)
        return (
            name == "plb"
            or name in self._allow
            or f"{name}=={version}" in (self._allow)
        )


def _by_name(group: str) -> dict[str, tuple[EntryPoint, ...]]:
    """Group entry points by name; one seen twice on the path counts once."""
    found: dict[str, dict[tuple[str, str], EntryPoint]] = {}
    for point in entry_points(group=group):
        key = (_distribution(point)[0], point.value)
        found.setdefault(point.name, {})[key] = point
    return {name: tuple(points.values()) for name, points in found.items()}


def _distribution(point: EntryPoint) -> tuple[str, str]:
    dist = point.dist
    return (dist.name, dist.version) if dist else ("unknown", "")


def _check_provider(provider: object, kind: str, plugin: str) -> None:
    if not isinstance(provider, Provider):
        message = (
            f"plb_register_{kind} of {plugin!r} returned a"
            f" {type(provider).__name__}, not a Provider"
        )
        raise PluginContractError(plugin, message)
    fields = attrs.fields(provider.settings) if attrs.has(provider.settings) else None
    if fields is not None and kind == "backend":
        taken = {field.name for field in attrs.fields(BackendTable)}
        clash = sorted(taken & {field.name for field in fields})
        if clash:
            message = (
                f"the settings of backend {provider.name!r} use names that every"
                f" backend has: {', '.join(clash)}"
            )
            raise PluginContractError(plugin, message)
    if fields is None:
        message = f"the settings of {kind} {provider.name!r} are not an attrs class"
        raise PluginContractError(plugin, message)


def _list(names: Sequence[str]) -> str:
    return f"; loaded: {', '.join(names)}" if names else ""


def _brief(error: BaseException) -> str:
    """Return the kind and first line of a plugin's own error."""
    lines = str(error).splitlines()
    return (
        f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
    )
