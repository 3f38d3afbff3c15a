"""`plb config show` and `plb config schema`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

import attrs
import tomli_w

from plb_core.balancer import Balancer
from plb_core.cli.common import add_config_options, add_json_option, load_config
from plb_core.cli.schema import config_schema
from plb_core.loader import Loader
from plb_core.structure import Problems, read_settings

if TYPE_CHECKING:
    from plb_core.config import Config, Instance


def configure(parser: argparse.ArgumentParser) -> None:
    """Add options."""
    parser.add_argument(
        "what",
        choices=("show", "schema"),
        help="show: every key with its value; schema: a JSON Schema for editors",
    )
    add_json_option(parser)
    add_config_options(parser)


def run(options: argparse.Namespace) -> int:
    """Print the effective configuration or the schema."""
    config = load_config(options)
    if options.what == "schema":
        schema, failures = config_schema(Loader(config.plugins))
        print(json.dumps(schema, indent=2))
        for failure in failures:
            print(f"plb: left out: {failure}", file=sys.stderr)
        return 0
    Balancer(config)  # reports everything that is wrong
    shown = _effective(config)
    print(json.dumps(shown, indent=2) if options.json else tomli_w.dumps(shown))
    return 0


def _effective(config: Config) -> dict[str, Any]:
    loader = Loader(config.plugins)
    shown: dict[str, Any] = {
        "routing": _plain(config.routing),
        "plugins": _plain(config.plugins),
        "budget": _plain(config.budget) if config.budget else {},
        "overload": _plain(config.overload) if config.overload else {},
        "breaker": _plain(config.breaker),
        "track": {name: _plain(track) for name, track in config.tracks.items()},
        "route": {name: _plain(route) for name, route in config.routes.items()},
        "backend": {
            name: {
                **_plain(section.table),
                **_settings(loader, section.instance),
                "plugin": section.instance.plugin,
            }
            for name, section in config.backends.items()
        },
    }
    for kind, instances in config.instances.items():
        shown[kind] = {
            name: {"plugin": each.plugin, **_settings(loader, each)}
            for name, each in instances.items()
        }
    return {name: table for name, table in shown.items() if table}


def _settings(loader: Loader, instance: Instance) -> dict[str, Any]:
    cls = loader.provider(instance.kind, instance.plugin).settings
    settings = read_settings(cls, instance.settings, (), Problems())
    return dict(_plain(settings))


def _plain(value: Any) -> Any:
    """Return settings as TOML-safe values, keys that are not set left out."""
    if attrs.has(type(value)):
        items = {
            field.name: _plain(getattr(value, field.name))
            for field in attrs.fields(type(value))
        }
        return {name: each for name, each in items.items() if each is not None}
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, date) else value
