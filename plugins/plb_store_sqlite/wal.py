"""Tell a damaged write-ahead log from one whose last write was cut short.

SQLite stops reading its log at the first frame that is not sound and takes what
follows for an unfinished write. After damage in the middle that would silently lose
money that was spent. Format: "WAL File Format" in SQLite's documentation.
"""

from __future__ import annotations

import struct
from typing import Final

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_LITTLE_ENDIAN: Final = 0x377F0682
_BIG_ENDIAN: Final = 0x377F0683
_COMMITS_IN_ONE_WRITE: Final = 1
"""Each commit is on the disk before the next begins, so a cut write has one at most."""


def is_damaged(log: bytes) -> bool:
    """Whether whole commits lie behind a frame that is not sound; `log` is the file."""
    if not log:
        return False
    if len(log) < _HEADER.size:
        return True
    magic, _, page_size, _, salt_1, salt_2, *sums = _HEADER.unpack_from(log)
    if magic not in (_LITTLE_ENDIAN, _BIG_ENDIAN):
        return True
    order = "<" if magic == _LITTLE_ENDIAN else ">"
    running = _sums(log[: _HEADER.size - 8], (0, 0), order)
    if list(running) != sums:
        return True
    size = _FRAME.size + page_size
    sound = True
    commits = 0
    for start in range(_HEADER.size, len(log) - size + 1, size):
        _, pages, first, second, *sums = _FRAME.unpack_from(log, start)
        current = (first, second) == (salt_1, salt_2)
        if sound:
            frame = log[start : start + 8] + log[start + _FRAME.size : start + size]
            running = _sums(frame, running, order)
            sound = current and list(running) == sums
        if not sound and current and pages:
            commits += 1
    return commits > _COMMITS_IN_ONE_WRITE


def _sums(data: bytes, start: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = start
    for one, two in struct.iter_unpack(f"{order}II", data):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + two + first) & 0xFFFFFFFF
    return first, second
