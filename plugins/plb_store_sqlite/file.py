"""Open a ledger file, or refuse it: a ledger that lost rows would spend twice.

Beside the file lies `FILE.state`: it says that there is a ledger, and how its last
process ended ("open" while one runs, "clean" after an orderly end). With it a lost
file, or a lost write-ahead log, is told from a first start.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from plb_core import ConfigError, Problem
from plb_store_sqlite import schema, wal

# Of one length, so that writing one over the other needs no room on a full disk.
_CLEAN: Final = b"clean\n"
_OPEN: Final = b"open \n"
_OURS_ALONE: Final = 0o600


def open_file(path: Path) -> sqlite3.Connection:
    """Return the one writing connection; raises `ConfigError`.

    A missing file is created only when there is no trace of an earlier one.
    """
    state = _beside(path, ".state")
    log = _beside(path, "-wal")
    with _explained(path):
        known = state.exists()
        if not path.exists():
            if known or log.exists():
                trace = state if known else log
                raise _refuse(
                    path,
                    f"the ledger is gone, but {trace.name} says that there was one;"
                    f" put it back, or delete {trace.name} to begin with an empty one",
                )
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, _OURS_ALONE))
        if known and state.read_bytes() == _OPEN and not log.exists():
            raise _refuse(
                path,
                f"its last process was interrupted and {log.name} is gone, with money"
                f" that was spent; put it back, or delete {state.name} to accept the"
                " ledger as it is",
            )
        path.chmod(_OURS_ALONE)
        connection = _connect(path)
        try:
            _check(connection, path, known=known)
            _set_up(connection, path)
            _write_state(path, _OPEN)
        except BaseException:
            connection.close()
            raise
    return connection


def close_file(connection: sqlite3.Connection, path: Path) -> None:
    """Move everything from the log into the file and close it.

    Where the disk does not allow that, the log stays, and nothing is lost.
    """
    with suppress(sqlite3.Error, OSError):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        # While the log still exists, though empty: an end right here is sound.
        _write_state(path, _CLEAN)
    connection.close()


def _write_state(path: Path, text: bytes) -> None:
    """Write `FILE.state`, durably."""
    state = _beside(path, ".state")
    handle = os.open(state, os.O_CREAT | os.O_WRONLY, _OURS_ALONE)
    try:
        os.write(handle, text)
        os.fsync(handle)
    finally:
        os.close(handle)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _connect(path: Path) -> sqlite3.Connection:
    # mode=rw never creates a file. No waiting for locks: nobody else may have it.
    uri = f"file:{quote(str(path))}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)
    try:
        # One process, one connection, until it closes; SQLite then needs no shared
        # memory either.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA mmap_size = 0")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path, *, known: bool) -> None:
    log = _beside(path, "-wal")
    content = log.read_bytes() if log.exists() else b""
    if wal.is_damaged(content):
        raise _refuse(path, f"{log.name} is damaged; restore both from a backup")
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    # With a log, a full disk may have cut the last page, which the log still has.
    if not content and path.stat().st_size % page_size:
        raise _refuse(path, "it is cut short; restore it from a backup")
    if not known and not schema.objects(connection):
        schema.create(connection)
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if mark != schema.APPLICATION_ID:
        raise _refuse(path, "it is not a ledger of plb")
    if version > schema.VERSION:
        raise _refuse(
            path, f"a newer plb wrote it (version {version}, not {schema.VERSION})"
        )
    (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise _refuse(path, f"it is damaged ({verdict}); restore it from a backup")
    if version < schema.VERSION or schema.objects(connection) != (
        schema.expected_objects()
    ):
        raise _refuse(path, "its tables are not those of a ledger of this plb")


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise _refuse(path, f"its folder allows no write-ahead log, only {mode!r}")
    connection.execute("PRAGMA synchronous = FULL")
    # Proves that it can be written, and makes the log exist.
    connection.execute("INSERT INTO start DEFAULT VALUES")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system say into a `ConfigError`."""
    try:
        yield
    except sqlite3.Error as error:
        # Errors of the module itself, about text for example, have no name.
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith("SQLITE_BUSY"):
            raise _refuse(path, "another process has it open") from error
        if name in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            raise _refuse(path, "it is damaged, or no ledger of plb") from error
        raise _refuse(path, f"it cannot be opened: {error}") from error
    except UnicodeDecodeError as error:  # in what SQLite says of a damaged page
        raise _refuse(path, "it is damaged; restore it from a backup") from error
    except OSError as error:
        raise _refuse(path, error.strerror or type(error).__name__) from error


def _refuse(path: Path, message: str) -> ConfigError:
    return ConfigError([Problem(f"the ledger {path} cannot be used: {message}")])
