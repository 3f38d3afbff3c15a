"""Read what a plugin's source says about it, without running any of it."""

from __future__ import annotations

import ast
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

import attrs

_HOOK_PREFIX: Final = "plb_register_"


@attrs.frozen
class SourceFacts:
    """The first line of a module's docstring, and the hooks that it implements."""

    summary: str = ""
    kinds: tuple[str, ...] = ()


def read_source(module: str) -> SourceFacts:
    """Return facts about the module `package.module`, all empty if not readable.

    Nothing is imported: a plugin that is only listed must not be able to act.
    """
    path = _source_path(module.partition(":")[0])
    if path is None:
        return SourceFacts()
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return SourceFacts()
    lines = (ast.get_docstring(tree) or "").splitlines()
    kinds = tuple(
        node.name.removeprefix(_HOOK_PREFIX)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith(_HOOK_PREFIX)
    )
    return SourceFacts(lines[0] if lines else "", kinds)


def _source_path(module: str) -> Path | None:
    search: list[str] | None = None
    origin: str | None = None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = PathFinder.find_spec(name, search)
        if spec is None:
            return None
        origin = spec.origin
        search = list(spec.submodule_search_locations or ())
    return Path(origin) if origin and origin.endswith(".py") else None
