"""`plb init`: write a commented config.toml for the backends one picks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

from plb_core.balancer import Balancer
from plb_core.budget import Budget
from plb_core.cli.common import DEFAULT_NAME
from plb_core.cli.template import section
from plb_core.config import read_file
from plb_core.errors import ConfigError, PluginNotFound
from plb_core.loader import Loader
from plb_core.sections import (
    BackendTable,
    BreakerSettings,
    Kind,
    OverloadSettings,
    PluginPolicy,
    Routing,
    Track,
)
from plb_core.source import read_source
from plb_core.structure import nearest

_PART_KINDS: Final[tuple[Kind, ...]] = (
    "classifier",
    "cost_scorer",
    "quality_scorer",
    "health_check",
)

_SECTIONS: Final[Mapping[str, type]] = {
    "budget": Budget,
    "breaker": BreakerSettings,
    "overload": OverloadSettings,
}

_EXAMPLES: Final[Mapping[str, Mapping[str, object]]] = {
    # The one algorithm that does nothing until told what to do.
    "custom": {"score": "quality - 0.3*cost_usd - latency_s"},
}

_HEADER: Final = """\
# A configuration of plb. Every key stands here with what it means; a key behind "#"
# shows its default. Check it with `plb check`, see what it comes to with
# `plb config show`.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add options."""
    parser.add_argument(
        "backends",
        nargs="*",
        default=["documents"],
        metavar="BACKEND",
        help="backend plugins, such as documents lightrag perplexity openai",
    )
    parser.add_argument(
        "--algorithm",
        default="least_connections",
        help="the algorithm that chooses (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(DEFAULT_NAME),
        help="the file to write, or - for standard output (default: %(default)s)",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace the file when it exists"
    )


def run(options: argparse.Namespace) -> int:
    """Write the file; status 1 when it exists and `--force` is not given."""
    text = config_text(options.backends, options.algorithm)
    if str(options.output) == "-":
        print(text, end="")
        return 0
    if options.output.exists() and not options.force:
        print(f"plb: {options.output} exists; --force replaces it", file=sys.stderr)
        return 1
    options.output.write_text(text)
    print(f"wrote {options.output}")
    try:
        Balancer(read_file(options.output))
    except ConfigError as error:
        print("still to do:", *error.problems, sep="\n  ")
    return 0


def config_text(backends: list[str], algorithm: str) -> str:
    """Return a commented configuration with these backend plugins."""
    writer = _Writer()
    for name in backends:
        writer.require("backend", name)
    writer.require("algorithm", algorithm)
    return "\n".join(writer.lines(backends, algorithm)) + "\n"


class _Writer:
    def __init__(self) -> None:
        self.loader = Loader()
        self.names: dict[str, list[str]] = {}
        for plugin in self.loader.installed():
            for kind in read_source(plugin.module).kinds:
                # plb's own come first: a stranger's plugin is never chosen unasked.
                if plugin.distribution == "plb":
                    self.names.setdefault(kind, []).append(plugin.name)

    def require(self, kind: Kind, name: str) -> None:
        if name not in {plugin.name for plugin in self.loader.installed()}:
            known = self.names.get(kind, [])
            message = f"no installed {kind} is called {name!r}{nearest(name, known)}"
            raise PluginNotFound(name, f"{message}; there are {', '.join(known)}")

    def settings(self, kind: Kind, name: str) -> type:
        return self.loader.provider(kind, name).settings

    def lines(self, backends: list[str], algorithm: str) -> Iterator[str]:
        yield _HEADER.rstrip()
        parts = {
            kind: self.names[kind][0] for kind in _PART_KINDS if kind in self.names
        }
        yield from section(("routing",), Routing, dict[str, object](parts.items()))
        algorithms = self.names.get("algorithm", [])
        yield from section(
            ("track", "main"),
            Track,
            {"algorithm": algorithm},
            note=f"Algorithms installed: {', '.join(algorithms)}.",
        )
        for name in backends:
            yield from self.backend(name)
        for service in self.names.get("service", []):
            yield from section(("service", service), self.settings("service", service))
        for kind, name in parts.items():
            yield from section((kind, name), self.settings(kind, name))
        for name in algorithms:
            settings = self.settings("algorithm", name)
            if attrs.fields(settings):
                yield from section(
                    ("algorithm", name),
                    settings,
                    _EXAMPLES.get(name),
                    off=name not in _EXAMPLES,
                )
        for name, settings in _SECTIONS.items():
            yield from section((name,), settings, off=True)
        yield from section(("plugins",), PluginPolicy)

    def backend(self, name: str) -> Iterator[str]:
        table = list(section(("backend", name), BackendTable, {"plugin": name}))
        # The plugin's own keys stand in the same table, before its sub-tables.
        cut = next(
            (index for index, line in enumerate(table) if index > 1 and not line),
            len(table),
        )
        own = list(section(("backend", name), self.settings("backend", name)))
        yield from table[:cut]
        yield from own[2:]
        yield from table[cut:]
