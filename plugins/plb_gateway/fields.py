"""Check single fields of a body; every refusal names the field in question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeGuard

from plb_gateway.errors import Refusal

Check = Callable[[object, str], object]
"""Takes a value and its place in the body; returns it or raises `Refusal`."""

MAX_MODEL_CHARACTERS: Final = 200
MAX_KEY_CHARACTERS: Final = 256


def wrong(param: str, expected: str) -> Refusal:
    """Return the refusal of a wrong type or value, for raising."""
    return Refusal("invalid_value", f"{param}: expected {expected}.", param=param)


def missing(param: str) -> Refusal:
    """Return the refusal of an absent field, for raising."""
    return Refusal("missing_field", f"{param} is required.", param=param)


def unsupported(param: str, advice: str) -> Refusal:
    """Return the refusal of a known option that plb does not have, for raising."""
    return Refusal("unsupported_field", f"{param}: {advice}", param=param)


def is_mapping(value: object) -> TypeGuard[dict[str, object]]:
    """Tell whether a decoded JSON value is an object."""
    return isinstance(value, dict)


def text(value: object, param: str) -> str:
    """Accept a string."""
    if not isinstance(value, str):
        raise wrong(param, "a string")
    return value


def flag(value: object, param: str) -> bool:
    """Accept true or false."""
    if not isinstance(value, bool):
        raise wrong(param, "true or false")
    return value


def mapping(value: object, param: str) -> dict[str, object]:
    """Accept an object."""
    if not is_mapping(value):
        raise wrong(param, "an object")
    return value


def listing(value: object, param: str) -> list[object]:
    """Accept a list."""
    if not isinstance(value, list):
        raise wrong(param, "a list")
    return value


def whole(minimum: int, maximum: int) -> Callable[[object, str], int]:
    """Return a check for whole numbers in a range."""

    def check(value: object, param: str) -> int:
        if (
            not isinstance(value, int)
            or isinstance(value, bool)
            or not minimum <= value <= maximum
        ):
            raise wrong(param, f"a whole number from {minimum} to {maximum}")
        return value

    return check


def number(minimum: float, maximum: float) -> Callable[[object, str], float]:
    """Return a check for numbers in a range."""

    def check(value: object, param: str) -> float:
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not minimum <= value <= maximum
        ):
            raise wrong(param, f"a number from {minimum:g} to {maximum:g}")
        return value

    return check


def objects(value: object, param: str) -> list[dict[str, object]]:
    """Accept a list of objects."""
    entries = listing(value, param)
    return [mapping(entry, f"{param}[{i}]") for i, entry in enumerate(entries)]


def key(value: object, param: str) -> str:
    """Accept a short printable string, such as a session's name."""
    result = text(value, param)
    if len(result) > MAX_KEY_CHARACTERS or not result.isprintable():
        raise wrong(param, f"at most {MAX_KEY_CHARACTERS} printable characters")
    return result


def model_name(value: object, param: str = "model") -> str:
    """Accept a model name; an address is refused, as no client chooses a host."""
    name = text(value, param)
    if not name or len(name) > MAX_MODEL_CHARACTERS or not name.isprintable():
        raise wrong(param, f"1 to {MAX_MODEL_CHARACTERS} printable characters")
    if "//" in name or "\\" in name:
        raise wrong(param, "a name, not an address")
    return name


def only_known(body: Mapping[str, object], known: frozenset[str], where: str) -> None:
    """Refuse the first field that is not in `known`."""
    if body.keys() <= known:
        return
    name = next(each for each in body if each not in known)
    param = f"{where}.{name}" if where else name
    shown = param[:MAX_KEY_CHARACTERS]
    raise Refusal("unknown_field", f"{shown} is not known.", param=shown)
