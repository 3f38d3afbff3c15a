"""Write the reference pages that follow from the code; `make docs` runs it.

A test compares the pages with what this would write, so they cannot go stale.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from plb_core import cli, errors, hookspecs, protocols
from plb_core.budget import Budget
from plb_core.loader import COMMAND_GROUP, Loader
from plb_core.sections import (
    INSTANCE_KINDS,
    BackendTable,
    BreakerSettings,
    OverloadSettings,
    PluginPolicy,
    PriceTable,
    RateLimitSettings,
    Route,
    Routing,
    Track,
)
from plb_core.source import read_source

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py from the code; edit the code instead. -->"


def pages() -> dict[str, str]:
    """Return every generated page by file name."""
    os.environ["COLUMNS"] = "88"  # argparse wraps to the terminal otherwise
    return {
        "settings.md": _page("Settings", settings()),
        "errors.md": _page("Errors", error_tree()),
        "hooks.md": _page("Hooks", hooks()),
        "protocols.md": _page("Protocols", protocol_list()),
        "cli.md": _page("Command line", commands()),
    }


def settings() -> Iterator[str]:
    """Describe every section of config.toml and the settings of every plugin."""
    yield "Every key of `config.toml`: sections of the core first, then of plugins."
    yield "Write a file with all of them by `plb init`."
    for name, cls in (
        ("[routing]", Routing),
        ("[track.NAME]", Track),
        ('[route."MODEL"]', Route),
        ("[backend.NAME], every plugin", BackendTable),
        ("[backend.NAME.price]", PriceTable),
        ("[budget]", Budget),
        ("[breaker]", BreakerSettings),
        ("[overload]", OverloadSettings),
        ("[overload.rate_limit]", RateLimitSettings),
        ("[plugins]", PluginPolicy),
    ):
        yield from _table(f"## `{name}`", cls)
    loader = Loader()
    for kind in ("backend", *INSTANCE_KINDS):
        for plugin in loader.installed():
            # Only what plb ships: a page must not depend on the machine.
            if plugin.distribution != "plb":
                continue
            if kind not in read_source(plugin.module).kinds:
                continue
            provider = loader.provider(kind, plugin.name)
            title = f'## `[{kind}.NAME]` with `plugin = "{plugin.name}"`'
            yield from _table(title, provider.settings)


def _table(title: str, cls: type) -> Iterator[str]:
    yield f"\n{title}\n"
    attrs.resolve_types(cls, include_extras=False)
    fields = attrs.fields(cls)
    if not fields:
        yield "Nothing to set."
        return
    yield "| key | type | default | meaning |"
    yield "| --- | --- | --- | --- |"
    for field in fields:
        text = str(field.metadata.get("doc", "")).replace("|", "\\|")
        yield f"| `{field.name}` | {_type(field.type)} | {_default(field)} | {text} |"


def _type(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " or ".join(f"`{each}`" for each in arguments)
    if arguments and type(None) in arguments:
        return " or ".join(_type(each) for each in arguments if each is not type(None))
    if origin is tuple:
        inner = [each for each in arguments if each is not Ellipsis]
        return f"array of {_type(inner[0])}" + (
            "" if Ellipsis in arguments else f" ({len(inner)})"
        )
    if origin is not None:
        return f"table of {_type(arguments[1])}"
    if attrs.has(kind):
        return "table"
    names = {
        "str": "string",
        "int": "whole number",
        "float": "number",
        "bool": "boolean",
        "EnvVar": "environment variable",
    }
    return names.get(kind.__name__, kind.__name__)


def _default(field: Any) -> str:
    default = field.default
    if default is attrs.NOTHING:
        return "required"
    if hasattr(default, "factory"):
        default = default.factory()
    if default is None:
        return "not set"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, str):
        return f'`"{default}"`'.replace("|", "\\|")
    if isinstance(default, tuple):
        return f"`{list(default)}`".replace("'", '"')
    return f"`{default}`"


def error_tree() -> Iterator[str]:
    """Describe every error with its code."""
    yield "All are in `plb_core.errors`; `code` is what HTTP bodies and logs show."
    yield "\n```text"
    yield inspect.cleandoc(errors.__doc__ or "").split("\n\n")[1]
    yield "```\n"
    yield "| error | code | meaning |"
    yield "| --- | --- | --- |"
    for cls in _errors():
        first = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")
        yield f"| `{cls.__name__}` | `{cls.code}` | {first} |"


def _errors() -> list[type[errors.PlbError]]:
    return [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.PlbError)
    ]


def hooks() -> Iterator[str]:
    """Describe every hook with its signature."""
    yield inspect.cleandoc(hookspecs.__doc__ or "").partition("\n\n")[2]
    yield "Mark an implementation with `@plb_core.hookimpl`."
    for name, function in vars(hookspecs).items():
        if name.startswith("plb_") and inspect.isfunction(function):
            signature = inspect.signature(function)
            yield f"\n## `{name}`\n\n```text\n{name}{signature}\n```\n"
            yield inspect.getdoc(function) or ""
    for cls in (hookspecs.Provider, hookspecs.BuildContext):
        yield f"\n## `{cls.__name__}`\n"
        yield inspect.getdoc(cls) or ""


def protocol_list() -> Iterator[str]:
    """Describe what each kind of plugin must provide."""
    yield inspect.cleandoc(protocols.__doc__ or "").partition("\n\n")[2]
    for name, cls in vars(protocols).items():
        if not isinstance(cls, type) or cls.__module__ != protocols.__name__:
            continue
        yield f"\n## `{name}`\n"
        yield inspect.getdoc(cls) or ""
        for method, function in vars(cls).items():
            if inspect.isfunction(function) and not method.startswith("_"):
                kind = "async " if inspect.iscoroutinefunction(function) else ""
                shown = str(inspect.signature(function))
                yield f"\n`{kind}{method}{shown}`\n"
                yield inspect.getdoc(function) or ""


def commands() -> Iterator[str]:
    """Show every command's help."""
    yield inspect.cleandoc(cli.__doc__ or "").partition("\n\n")[2]
    names = list(cli.COMMANDS)
    names += [
        each.name
        for each in Loader().installed(COMMAND_GROUP)
        if each.distribution == "plb"
    ]
    for name in names:
        yield f"\n## `plb {name}`\n\n```text\n{_help(name)}```"


def _help(name: str) -> str:
    parser = argparse.ArgumentParser(prog="plb")
    commands = parser.add_subparsers()
    cli._add_commands(commands, name)  # noqa: SLF001 - the one place that knows them
    return commands.choices[name].format_help()


def _page(title: str, lines: Iterator[str]) -> str:
    return "\n".join([NOTE, "", f"# {title}", "", *lines]).rstrip() + "\n"


def main() -> int:
    """Write all pages."""
    for name, text in pages().items():
        (REFERENCE / name).write_text(text)
        print(f"wrote {REFERENCE / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
