"""JSON without the surprises that the usual parsers let through.

Refused on reading: NaN and infinities (also by overflow), duplicate keys, nesting
deeper than 64, integers of more than 20 digits, invalid UTF-8, a byte order mark and
lone surrogates. What was checked is therefore what is used and sent on.

Every document is first tried with msgspec, which is several times as fast as the
standard library. It is exact about syntax but lenient about what a value may be, so a
survey of the result decides whether that can stand; in doubt the standard library does
the work again, precisely and with the reason for a refusal.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import msgspec

MAX_DEPTH: Final = 64
"""Deeper than any honest answer, far from the interpreter's recursion limit."""

MAX_INT_DIGITS: Final = 20
"""Covers every 64-bit integer with its sign."""

_BOM: Final = b"\xef\xbb\xbf"
_WHITESPACE: Final = b" \t\n\r"
_STRING_OR_OTHER: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[^"\[\]{}]++', re.DOTALL)
_STRING: Final = frozenset({str})
# A minus sign counts as a digit.
_LEAST_INT: Final = -(10 ** (MAX_INT_DIGITS - 1)) + 1
_GREATEST_INT: Final = 10**MAX_INT_DIGITS - 1


class StrictJsonError(ValueError):
    """The bytes, or the value, are not strict JSON.

    `code` is stable: invalid_json, not_finite, duplicate_key, too_deep,
    number_too_large, invalid_utf8, byte_order_mark, lone_surrogate or
    not_serialisable. The message never contains the document.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


def loads(data: bytes) -> object:
    """Return the value of one JSON document; raise `StrictJsonError`."""
    try:
        value: object = _read(data)
    except (ValueError, RecursionError):
        return _loads_precisely(data)
    # Every member has a colon, and that after a quotation mark: none can be missing
    # from a value that has as many members as the document has of either. Counting
    # colons is all but free; texts often have some, quoted names hardly ever.
    members = _members_of_plain(value, any_keys=False)
    if members is not None and (
        members == data.count(b":")
        or members == data.translate(None, _WHITESPACE).count(b'":')
    ):
        return value
    return _loads_precisely(data)


def dumps(value: object) -> bytes:
    """Return compact UTF-8 JSON; raise `StrictJsonError` for what JSON cannot say."""
    try:
        written = _write(value)
    except (TypeError, ValueError, RecursionError):
        return _dumps_precisely(value)
    # What msgspec has written is finite and without cycles: safe to walk through.
    if type(value) is str or _members_of_plain(value, any_keys=True) is not None:
        return written
    return _dumps_precisely(value)


_read: Final = msgspec.json.Decoder().decode
_write: Final = msgspec.json.Encoder().encode


def _members_of_plain(value: Any, *, any_keys: bool) -> int | None:  # noqa: C901 - one loop that every request runs twice; calls would cost more than its body
    """Return how many members the objects in `value` have; None means: in doubt.

    Nothing is in doubt about the types that JSON has, with finite floats, integers
    and nesting within the limits. With `any_keys`, keys need not be strings: those
    that are not are in doubt.
    """
    members = 0
    layer = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for each in layer:
            kind = type(each)
            if kind is str:
                continue
            if kind is dict:
                members += len(each)
                below += each.values()
                if any_keys and not _STRING.issuperset(map(type, each)):
                    return None
            elif kind is int:
                if not _LEAST_INT <= each <= _GREATEST_INT:
                    return None
            elif kind is list or kind is tuple:
                below += each
            elif kind is float:
                if not math.isfinite(each):
                    return None
            elif kind is not bool and each is not None:
                return None
        if not below:
            return members
        layer = below
    return None


def _loads_precisely(data: bytes) -> object:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise StrictJsonError("invalid_utf8", "the text is not valid UTF-8") from None
    if data.startswith(_BOM):
        raise StrictJsonError("byte_order_mark", "the text has a byte order mark")
    try:
        value: object = _decoder.decode(text)
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as exc:
        message = f"not valid JSON at line {exc.lineno} column {exc.colno}"
        raise StrictJsonError("invalid_json", message) from None
    # Both counts are upper bounds, so that ordinary documents skip the exact checks.
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _depth(data) > MAX_DEPTH:
        raise _too_deep()
    if b"\\ud" in data or b"\\uD" in data:
        _refuse_lone_surrogates(value)
    return value


def _constant(name: str) -> NoReturn:
    raise StrictJsonError("not_finite", f"{name} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise StrictJsonError("number_too_large", "a number is too large")
    return value


def _int(text: str) -> int:
    if len(text) > MAX_INT_DIGITS:
        raise StrictJsonError("number_too_large", "a number is too large")
    return int(text)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise StrictJsonError("duplicate_key", "a key appears twice in one object")
    return members


_decoder = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_float=_float,
    parse_int=_int,
    parse_constant=_constant,
)


def _dumps_precisely(value: object) -> bytes:
    try:
        return _encoder.encode(value).encode()
    except UnicodeEncodeError:
        raise StrictJsonError("lone_surrogate", "a text has a lone surrogate") from None
    except RecursionError:
        raise _too_deep() from None
    except (TypeError, ValueError) as exc:
        # The standard messages name types and numbers, never texts.
        raise StrictJsonError("not_serialisable", str(exc)) from None


def _mapping(value: object) -> dict[object, object]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is not JSON")


_encoder = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_mapping
)


def _too_deep() -> StrictJsonError:
    return StrictJsonError("too_deep", f"nested deeper than {MAX_DEPTH}")


def _depth(data: bytes) -> int:
    """Return the nesting depth of a document already known to be valid."""
    depth = deepest = 0
    for bracket in _STRING_OR_OTHER.sub(b"", data):
        if bracket in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


def _refuse_lone_surrogates(value: object) -> None:
    try:
        _encoder.encode(value).encode()
    except UnicodeEncodeError:
        raise StrictJsonError("lone_surrogate", "a text has a lone surrogate") from None
