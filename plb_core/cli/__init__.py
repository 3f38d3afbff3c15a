"""`plb`, the command line.

Commands of the core are modules here; plugins add theirs through entry points of
group `plb.command`. Only the command that is asked for is imported.

Exit status: 0 done, 1 could not be done, 2 the command line or configuration is wrong.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from plb_core.errors import ConfigError, PlbError, PluginError

if TYPE_CHECKING:
    from plb_core.loader import Loader
    from plb_core.protocols import Command

COMMANDS: Final = {
    "ask": "Ask one question and print the sourced answer.",
    "check": "Check a configuration and say everything that is wrong with it.",
    "config": "Show the effective configuration, or its JSON Schema.",
    "explain": "Print what plb does about each kind of failure.",
    "init": "Write a commented config.toml for the backends you pick.",
    "plugins": "List the installed plugins: used, installed or blocked.",
    "serve": "Run the services of the configuration, such as the HTTP gateway.",
}
"""The core's own commands: name → what it does; the module has the same name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `plb` with `arguments` (default: the process's) and return its status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="plb",
        description="Route questions to answer backends.",
        epilog="`plb COMMAND --help` says more about a command.",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    wanted = next((each for each in given if not each.startswith("-")), "")
    try:
        command = _add_commands(commands, wanted)
        options = parser.parse_args(given)
        if options.version:
            return _print_version()
        if command is None:
            parser.print_help()
            return 2
        return command.run(options)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    except PluginError as error:
        print(f"plb: {error}", file=sys.stderr)
        return 2
    except PlbError as error:
        print(f"plb: {error.code}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _add_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], wanted: str
) -> Command | None:
    """Declare every command; import and configure only the wanted one."""
    chosen: Command | None = None
    for name, summary in COMMANDS.items():
        parser = commands.add_parser(name, help=summary, description=summary)
        if name == wanted:
            chosen = cast("Command", importlib.import_module(f"plb_core.cli.{name}"))
            chosen.configure(parser)
    if chosen is not None:
        return chosen
    from plb_core import loader as installed  # noqa: PLC0415 - costs 30 ms
    from plb_core.source import read_source  # noqa: PLC0415

    loader = installed.Loader()
    for plugin in loader.installed(installed.COMMAND_GROUP):
        if plugin.name in COMMANDS:
            continue
        summary = read_source(plugin.module).summary
        parser = commands.add_parser(plugin.name, help=summary, description=summary)
        if plugin.name == wanted:
            chosen = _build_command(loader, plugin.name)
            chosen.configure(parser)
    return chosen


def _build_command(loader: Loader, name: str) -> Command:
    from plb_core.build import plain_context  # noqa: PLC0415 - costs 60 ms

    provider = loader.provider("command", name)
    return cast("Command", provider.build(provider.settings(), plain_context(name)))


def _print_version() -> int:
    from importlib.metadata import version  # noqa: PLC0415 - costs 10 ms

    print(version("plb"))
    return 0
