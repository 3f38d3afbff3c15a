"""Write configuration files in which every key is explained.

Comments and defaults come from the settings classes, so a written file cannot
disagree with the code that reads it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args, get_origin

import attrs
import tomli_w

from plb_core.structure import dotted

_WIDTH: Final = 88


def section(
    key: tuple[str, ...],
    cls: type,
    values: Mapping[str, object] | None = None,
    *,
    note: str = "",
    off: bool = False,
) -> Iterator[str]:
    """Yield the lines of one table.

    Keys in `values` are set; the others stand as comments with their defaults, after
    their help text. With `off` the whole table is a comment.
    """
    attrs.resolve_types(cls, include_extras=False)
    given = values or {}
    mark = "# " if off else ""
    yield ""
    yield from _comment(note)
    yield f"{mark}[{dotted(key)}]"
    tables = []
    for field in attrs.fields(cls):
        inner = _table_class(field.type)
        if inner is not None:
            tables.append((field, inner))
            continue
        yield from _comment(_help(field))
        if field.name in given:
            yield mark + _assignment(field.name, given[field.name])
        elif field.default is attrs.NOTHING:
            yield f"# {field.name} =  (required: fill in)"
        else:
            yield _default_line(field)
    for field, inner in tables:
        own = given.get(field.name)
        place = (*key, field.name)
        if attrs.has(inner):
            chosen = own if isinstance(own, Mapping) else None
            yield from section(
                place, inner, chosen, note=_help(field), off=off or chosen is None
            )
        else:
            yield from _free_table(place, _help(field), own)


def _free_table(key: tuple[str, ...], note: str, given: object) -> Iterator[str]:
    yield ""
    yield from _comment(note)
    if not isinstance(given, Mapping):
        yield f"# [{dotted(key)}]"
        return
    yield f"[{dotted(key)}]"
    for name, value in given.items():
        yield _assignment(str(name), value)


def _default_line(field: attrs.Attribute[Any]) -> str:
    default: Any = field.default
    if hasattr(default, "factory"):  # attrs keeps `factory=…` in a wrapper
        default = default.factory()
    if default is None:
        return f"# {field.name} =  (not set)"
    return f"# {_assignment(field.name, default)}"


def _assignment(name: str, value: object) -> str:
    """Return one line; tomli-w would spread an array over several."""
    if isinstance(value, tuple):
        shown = ", ".join(_assignment("x", each)[4:] for each in value)
        return f"{tomli_w.dumps({name: 0}).partition(' = ')[0]} = [{shown}]"
    return tomli_w.dumps({name: value}).strip()


def _help(field: attrs.Attribute[Any]) -> str:
    return str(field.metadata.get("doc", ""))


def _comment(text: str) -> Iterator[str]:
    for line in textwrap.wrap(text, _WIDTH - 2):
        yield f"# {line}"


def _table_class(kind: Any) -> Any:
    """Return the settings class or mapping type that makes `kind` a table, or None."""
    for each in (kind, *get_args(kind)):
        origin = get_origin(each)
        if isinstance(each, type) and attrs.has(each):
            return each
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return origin
    return None
