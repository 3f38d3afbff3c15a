"""`plb explain errors`: what plb does about each kind of failure."""

from __future__ import annotations

import argparse
import json

from plb_core.cli.common import add_config_options, add_json_option, load_config
from plb_core.error_actions import DEFAULT_ACTIONS, MEANING


def configure(parser: argparse.ArgumentParser) -> None:
    """Add options."""
    parser.add_argument("what", choices=("errors",), help="what to explain")
    add_json_option(parser)
    add_config_options(parser)


def run(options: argparse.Namespace) -> int:
    """Print the table of errors and actions, backends' own ones included."""
    config = load_config(options)
    own = {
        name: dict(section.table.on_error)
        for name, section in config.backends.items()
        if section.table.on_error
    }
    if options.json:
        shown = {
            "default": dict(DEFAULT_ACTIONS),
            "backends": own,
            "meaning": {**MEANING},
        }
        print(json.dumps(shown, indent=2))
        return 0
    for code, action in DEFAULT_ACTIONS.items():
        others = [
            f"{name}: {table[code]}" for name, table in own.items() if code in table
        ]
        print(f"{code:28} {action:8}{'(' + ', '.join(others) + ')' if others else ''}")
    print()
    for action, meaning in MEANING.items():
        print(f"{action}: {meaning}.")
    return 0
