"""The store: rows into one file, through one connection in one thread."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import attrs

from plb_core import (
    ConfigError,
    LedgerRow,
    LedgerState,
    LedgerUnavailable,
    Problem,
    Scope,
    doc,
)
from plb_core.ledger_records import scopes
from plb_store_sqlite import schema
from plb_store_sqlite.file import close_file, open_file
from plb_store_sqlite.writer import Writer


@attrs.frozen
class SqliteStoreSettings:
    """`[store.NAME]` with `plugin = "sqlite"`."""

    path: str = attrs.field(
        default="ledger.sqlite",
        metadata=doc("The ledger's file, from the configuration's folder."),
    )


class SqliteStore:
    """Keeps the ledger in one SQLite file, which this process alone has open."""

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        self._writer: Writer | None = None
        self._connection: sqlite3.Connection  # from `start` on; the thread's alone

    async def start(self) -> None:
        """Open the file; raises `ConfigError` for one that cannot be trusted."""
        writer = Writer(f"plb {self._path.name}", self._commit)
        try:
            await writer.do(self._open)
        except BaseException:
            writer.end()
            raise
        self._writer = writer

    async def close(self) -> None:
        """Commit everything, close the file and end the thread."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                await writer.do(self._close)
            finally:
                writer.end()

    async def load(self, day: date) -> LedgerState:
        """Return what is stored; raises `ConfigError` for rows that were changed."""
        if self._writer is None:
            raise LedgerUnavailable("the ledger is not open")
        return await self._writer.do(lambda: self._load(day))

    def write(self, row: LedgerRow) -> asyncio.Future[None]:
        """Take a row in."""
        if self._writer is not None:
            return self._writer.put(row)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(LedgerUnavailable("the ledger is not open"))
        return future

    def _open(self) -> None:
        self._connection = open_file(self._path)
        self._connection.create_function(
            "row_checksum", -1, schema.checksum, deterministic=True
        )

    def _close(self) -> None:
        close_file(self._connection, self._path)

    def _load(self, day: date) -> LedgerState:
        connection = self._connection
        try:
            (newest,) = connection.execute(schema.NEWEST_DAY).fetchone()
            if newest is not None:
                day = max(day, date.fromisoformat(newest))
            key = (day.isoformat(),)
            wrong = connection.execute(schema.WRONG, key).fetchone()
            if wrong is not None:
                message = f"the row of attempt {wrong[0]!r} was changed from outside"
                raise self._damaged(message)
            spent: Counter[Scope] = Counter()
            for *names, micro_usd in connection.execute(schema.SUMS, key):
                for scope in scopes(*names):
                    spent[scope] += micro_usd
            rows = connection.execute(schema.RESERVED)
            reserved = tuple(map(schema.ledger_row, rows))
        except (sqlite3.Error, ValueError) as error:
            raise self._damaged(f"it is damaged: {error}") from error
        return LedgerState(day, spent, reserved)

    def _damaged(self, message: str) -> ConfigError:
        problem = Problem(f"the ledger {self._path} cannot be used: {message}")
        return ConfigError([problem])

    def _commit(self, rows: Sequence[LedgerRow]) -> Sequence[Exception | None]:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            errors = [_put(connection, row) for row in rows]
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            message = f"the ledger cannot be written: {error}"
            return [LedgerUnavailable(message) for _ in rows]
        return errors


def _put(connection: sqlite3.Connection, row: LedgerRow) -> Exception | None:
    """Write one row; a row that may not be written leaves the others alone."""
    try:
        connection.execute(schema.PUT, schema.parameters(row))
    except (sqlite3.IntegrityError, ValueError, OverflowError) as error:
        message = f"attempt {row.attempt_id!r} cannot be {row.state} now: {error}"
        return ValueError(message)
    return None
