"""The outside of an index file: what it is, which version, and that it is whole.

An index is an SQLite database with a seal behind its last page: eight fixed bytes and
the SHA-256 of everything before them. SQLite ignores bytes behind the last page, and
any change to the file, even by another SQLite program, breaks the seal.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO, Final

SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x706C6264  # "plbd"
SUFFIX: Final = b"plbseal1"
SEAL_BYTES: Final = len(SUFFIX) + 32
_SQLITE_MAGIC: Final = b"SQLite format 3\x00"
_BLOCK_BYTES: Final = 1 << 20


class UnusableIndex(Exception):
    """An index file cannot be used; the message says why and what to do."""


def check_header(path: Path) -> None:
    """Raise `UnusableIndex` unless `path` is an index of this version; reads 100 bytes.

    A damaged inside is found by `check_seal`.
    """
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        message = f"there is no index {str(path)!r}; make it with: plb index FOLDER"
        raise UnusableIndex(message) from None
    except OSError as error:
        message = f"cannot read the index {str(path)!r}: {error.strerror}"
        raise UnusableIndex(message) from None
    application = int.from_bytes(header[68:72], "big")
    version = int.from_bytes(header[60:64], "big")
    if not header.startswith(_SQLITE_MAGIC) or application != APPLICATION_ID:
        message = f"{str(path)!r} was not made by plb index"
        raise UnusableIndex(message)
    if version != SCHEMA_VERSION:
        age = "newer" if version > SCHEMA_VERSION else "older"
        message = (
            f"{str(path)!r} has the format of a {age} plb (version {version}, this plb"
            f" reads {SCHEMA_VERSION}); delete it and run plb index again"
        )
        raise UnusableIndex(message)


def check_seal(path: Path) -> None:
    """Raise `UnusableIndex` unless every byte is as it was written."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size - SEAL_BYTES
        whole = size > 0 and _mark(file, size) == file.read()
    if not whole:
        message = (
            f"the index {str(path)!r} is damaged or was cut short;"
            " delete it and run plb index again"
        )
        raise UnusableIndex(message)


def seal(path: Path) -> None:
    """Append the seal and bring the file safely to the disk."""
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        file.write(_mark(file, size))
        file.flush()
        os.fsync(file.fileno())


def unseal(path: Path) -> None:
    """Take the seal off a working copy, so that SQLite may write to it."""
    os.truncate(path, path.stat().st_size - SEAL_BYTES)


def _mark(file: BinaryIO, size: int) -> bytes:
    """Read `size` bytes and return their seal; the file stands behind them then."""
    digest = hashlib.sha256()
    left = size
    while block := file.read(min(left, _BLOCK_BYTES)):
        digest.update(block)
        left -= len(block)
    return SUFFIX + digest.digest()
