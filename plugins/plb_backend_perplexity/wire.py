"""Read loosely typed JSON: what is missing, null or of a wrong type is empty."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

_BLANKS: Final = re.compile(r"\s+")


def table(value: object) -> Mapping[str, object]:
    """Return a JSON object, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: object) -> Sequence[object]:
    """Return a JSON array, or an empty one."""
    return value if isinstance(value, list) else ()


def text(value: object) -> str:
    """Return a JSON string, or ""."""
    return value if isinstance(value, str) else ""


def one_line(value: object, limit: int) -> str:
    """Return a JSON string on one line, at most `limit` characters long."""
    return _BLANKS.sub(" ", text(value)).strip()[:limit]


def count(value: object, limit: int) -> int | None:
    """Return a whole number from 0 to `limit`, or None."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= limit else None
