"""`plb plugins`: what is installed, what is used, what is blocked."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from plb_core.cli.common import add_config_options, add_json_option, load_config
from plb_core.loader import COMMAND_GROUP, GROUP, Loader
from plb_core.source import read_source

if TYPE_CHECKING:
    from plb_core.config import Config


def configure(parser: argparse.ArgumentParser) -> None:
    """Add options."""
    add_json_option(parser)
    add_config_options(parser)


def run(options: argparse.Namespace) -> int:
    """List every plugin; none is imported for it."""
    config = load_config(options)
    loader = Loader(config.plugins)
    used = _used(config)
    rows = []
    for group in (GROUP, COMMAND_GROUP):
        for plugin in loader.installed(group):
            facts = read_source(plugin.module)
            state = "used" if plugin.name in used else "installed"
            if group == COMMAND_GROUP:
                state = "installed"
            rows.append(
                {
                    "name": plugin.name,
                    "kinds": list(facts.kinds),
                    "state": state if plugin.allowed else "blocked",
                    "distribution": f"{plugin.distribution} {plugin.version}".strip(),
                    "module": plugin.module,
                    "summary": facts.summary,
                }
            )
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    from rich.console import Console  # noqa: PLC0415 - costs 60 ms
    from rich.table import Table  # noqa: PLC0415

    table = Table("plugin", "kind", "state", "distribution", "summary")
    for row in rows:
        kinds = ", ".join(str(kind) for kind in row["kinds"])
        style = {"used": "bold", "blocked": "dim"}.get(str(row["state"]), "")
        table.add_row(
            str(row["name"]),
            kinds,
            str(row["state"]),
            str(row["distribution"]),
            str(row["summary"]),
            style=style,
        )
    Console().print(table)
    return 0


def _used(config: Config) -> set[str]:
    """Return the names of plugins that the configuration refers to."""
    sections = [each.instance for each in config.backends.values()]
    sections += [each for kind in config.instances.values() for each in kind.values()]
    routing = config.routing
    names = [
        routing.classifier,
        routing.cost_scorer,
        routing.quality_scorer,
        routing.health_check,
        config.budget.store if config.budget else "",
    ]
    for track in config.tracks.values():
        names += [track.algorithm, *track.fallback_algorithms]
    names += [route.algorithm for route in config.routes.values() if route.algorithm]
    return {each.plugin for each in sections} | set(names)
