"""Turn raw TOML tables into settings classes, strictly, with every problem named.

cattrs on its own turns "false" into True and 3.9 into 3, takes NaN and ignores
misspelt keys. The converter here refuses all four.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

import attrs
import cattrs

from plb_core.errors import ConfigError
from plb_core.settings import EnvVar
from plb_core.toml_lines import Path, key_lines
from plb_core.types import Problem

Settings = TypeVar("Settings")


class Problems:
    """Collects what is wrong with one document; keys become lines."""

    def __init__(self, file: str = "", text: str = "") -> None:
        self.file = file
        self.found: list[Problem] = []
        self._lines = key_lines(text) if text else {}

    def add(self, key: Path, message: str) -> None:
        """Note one problem; an unknown key takes the line of its nearest parent."""
        line = 0
        for length in range(len(key), 0, -1):
            if key[:length] in self._lines:
                line = self._lines[key[:length]]
                break
        problem = Problem(message, self.file, line, dotted(key))
        if problem not in self.found:  # a name may be looked up many times
            self.found.append(problem)

    def copy(self) -> Problems:
        """Return a collection that starts with the same problems."""
        twin = Problems(self.file)
        twin.found = list(self.found)
        twin._lines = self._lines
        return twin

    def knows(self, key: Path) -> bool:
        """Whether the document has that very key."""
        return key in self._lines

    def add_foreign(self, error: ConfigError, key: Path) -> None:
        """Note what a plugin complained about while it was built from `key`.

        A problem's own key is dotted and complete, or empty for `key` itself.
        """
        for problem in error.problems:
            own = tuple(problem.key.split(".")) if problem.key else key
            self.add(own, problem.message)

    def raise_if_any(self) -> None:
        """Raise `ConfigError` with everything found so far, in file order."""
        if self.found:
            raise ConfigError(sorted(self.found, key=lambda each: each.line))


class StructureError(Exception):
    """Several things wrong with one table: (path, message) pairs."""

    def __init__(self, errors: list[tuple[Path, str]]) -> None:
        self.errors = errors
        super().__init__(f"{len(errors)} problems")


def dotted(key: Path) -> str:
    """Return `key` as one writes it in TOML, quoting names that need it."""
    shown = ""
    for part in key:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            plain = part.replace("_", "").replace("-", "").isalnum()
            shown += "." * bool(shown) + (part if plain else f'"{part}"')
    return shown


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean '…'?" for the closest known name, else ""."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def read_settings(
    cls: type[Settings], table: object, key: Path, problems: Problems
) -> Settings | None:
    """Return an instance of `cls`, or None after noting every problem."""
    try:
        return _CONVERTER.structure(table, cls)
    except Exception as error:  # noqa: BLE001 - cattrs raises groups of anything
        for path, message in _flat(error, key):
            problems.add(path, message)
        return None


def _flat(error: BaseException, path: Path) -> list[tuple[Path, str]]:
    if isinstance(error, StructureError):
        return [((*path, *inner), message) for inner, message in error.errors]
    return [(path, str(error))]


def _named(value: object) -> str:
    names: dict[type, str] = {
        str: "the string",
        bool: "the boolean",
        int: "the number",
        float: "the number",
        list: "an array",
        dict: "a table",
    }
    kind = names.get(type(value), f"a {type(value).__name__}")
    if isinstance(value, bool):
        return f"{kind} {str(value).lower()}"
    if isinstance(value, str):
        return f"{kind} {value[:40]!r}"
    return f"{kind} {value!r}" if isinstance(value, int | float) else kind


def _refuse(expected: str, value: object) -> ValueError:
    return ValueError(f"expected {expected}, got {_named(value)}")


def _string(value: object, _: Any) -> str:
    if isinstance(value, str):
        return value
    raise _refuse("a string", value)


def _boolean(value: object, _: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _refuse("true or false", value)


def _integer(value: object, _: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _refuse("a whole number", value)


def _number(value: object, _: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refuse("a number", value)
    if not math.isfinite(value):
        raise _refuse("a finite number", value)
    return float(value)


def _date(value: object, _: Any) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise _refuse("a date such as 2026-10-09", value)


def _environment_variable(value: object, _: Any) -> EnvVar:
    name = _string(value, str)
    if not os.environ.get(name):
        message = f"environment variable {name!r} is not set"
        raise ValueError(message)
    return EnvVar(name)


def _literal(value: object, kind: Any) -> object:
    allowed = get_args(kind)
    if value in allowed and isinstance(value, str):
        return value
    words = ", ".join(repr(each) for each in allowed)
    hint = nearest(value, allowed) if isinstance(value, str) else ""
    message = f"expected one of {words}, got {_named(value)}{hint}"
    raise ValueError(message)


def _class_hook(cls: type) -> Callable[[object, Any], object]:
    attrs.resolve_types(cls, include_extras=False)
    fields = attrs.fields(cls)
    names = {field.name: field for field in fields if field.init}

    def structure(table: object, _: Any) -> object:
        if not isinstance(table, Mapping):
            raise _refuse("a table", table)
        errors: list[tuple[Path, str]] = [
            ((key,), f"unknown key{nearest(key, names)}")
            for key in table
            if key not in names
        ]
        values = {}
        for name, field in names.items():
            try:
                raw = _raw(table, field)
                if raw is not attrs.NOTHING:
                    values[name] = _checked(raw, field)
            except Exception as error:  # noqa: BLE001 - reported with its key
                errors += _flat(error, (name,))
        if errors:
            raise StructureError(errors)
        return cls(**values)

    return structure


def _raw(table: Mapping[str, object], field: attrs.Attribute[Any]) -> object:
    """Return what stands in the table, or NOTHING to leave the field's default."""
    if field.name in table:
        return table[field.name]
    if field.default is attrs.NOTHING:
        raise ValueError("missing")
    # The default name of a variable must be set in the environment as well.
    return field.default if field.type is EnvVar else attrs.NOTHING


def _checked(raw: object, field: attrs.Attribute[Any]) -> object:
    kind: Any = field.type  # resolved when the hook was made
    value: object = _CONVERTER.structure(raw, kind)
    if field.validator is not None:
        field.validator(None, field, value)
    return value


def _element_hook(kind: Any) -> Callable[[object, Any], object]:
    element = get_args(kind)[0]

    def structure(value: object, _: Any) -> object:
        if not isinstance(value, list | tuple):
            raise _refuse("an array", value)
        items, errors = [], []
        for index, each in enumerate(value):
            try:
                items.append(_CONVERTER.structure(each, element))
            except Exception as error:  # noqa: BLE001 - reported with its index
                errors += _flat(error, (index,))
        if errors:
            raise StructureError(errors)
        return tuple(items)

    return structure


def _pair_hook(kind: Any) -> Callable[[object, Any], object]:
    elements = get_args(kind)

    def structure(value: object, _: Any) -> object:
        if not isinstance(value, list | tuple) or len(value) != len(elements):
            message = f"expected an array of {len(elements)} values"
            raise ValueError(message)
        return tuple(
            _CONVERTER.structure(each, element)
            for each, element in zip(value, elements, strict=True)
        )

    return structure


def _table_hook(kind: Any) -> Callable[[object, Any], object]:
    element = get_args(kind)[1]

    def structure(value: object, _: Any) -> object:
        if not isinstance(value, Mapping):
            raise _refuse("a table", value)
        made, errors = {}, []
        for key, each in value.items():
            try:
                made[key] = _CONVERTER.structure(each, element)
            except Exception as error:  # noqa: BLE001 - reported with its key
                errors += _flat(error, (key,))
        if errors:
            raise StructureError(errors)
        return made

    return structure


def _is_literal(kind: Any) -> bool:
    origin: Any = get_origin(kind)
    return origin is Literal


def _is_mapping(kind: Any) -> bool:
    return get_origin(kind) in (dict, Mapping)


def _is_homogeneous_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis


def _is_fixed_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple and get_args(kind)[-1] is not Ellipsis


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    for kind, hook in (
        (str, _string),
        (bool, _boolean),
        (int, _integer),
        (float, _number),
        (date, _date),
        (EnvVar, _environment_variable),
    ):
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook_func(_is_literal, _literal)
    converter.register_structure_hook_factory(_is_homogeneous_tuple, _element_hook)
    converter.register_structure_hook_factory(_is_fixed_tuple, _pair_hook)
    converter.register_structure_hook_factory(_is_mapping, _table_hook)
    converter.register_structure_hook_factory(attrs.has, _class_hook)
    return converter


_CONVERTER: Final = _converter()
