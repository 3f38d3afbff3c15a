"""The tables of a ledger file, and rows going in and out of them."""

from __future__ import annotations

import sqlite3
import zlib
from datetime import date, datetime
from typing import Any, Final

from plb_core import LedgerRow

APPLICATION_ID: Final = 0x706C6231
"""SQLite's mark of whose file it is: "plb1"."""

VERSION: Final = 1

_COLUMNS: Final = (
    "attempt_id",
    "request_id",
    "day",
    "backend",
    "track",
    "client",
    "ceiling_micro_usd",
    "charged_micro_usd",
    "state",
    "at_utc",
    "checksum",
)
_FACTS: Final = (*_COLUMNS[1:7], "at_utc")

# The steps a row may take are enforced here too, so that no fault in a program, and no
# hand with a SQLite shell, makes spent money unspent.
_SCHEMA: Final = (
    """
    CREATE TABLE attempt (
      attempt_id TEXT PRIMARY KEY NOT NULL,
      request_id TEXT NOT NULL,
      day TEXT NOT NULL CHECK (day GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]'),
      backend TEXT NOT NULL,
      track TEXT NOT NULL,
      client TEXT NOT NULL,
      ceiling_micro_usd INTEGER NOT NULL CHECK (ceiling_micro_usd >= 0),
      charged_micro_usd INTEGER NOT NULL
        CHECK (charged_micro_usd BETWEEN 0 AND ceiling_micro_usd),
      state TEXT NOT NULL
        CHECK (state IN ('reserved', 'settled', 'unknown', 'released')),
      at_utc TEXT NOT NULL,
      checksum INTEGER NOT NULL,
      CHECK (state NOT IN ('reserved', 'unknown')
        OR charged_micro_usd = ceiling_micro_usd),
      CHECK (state <> 'released' OR charged_micro_usd = 0)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX attempt_day ON attempt (day)",
    "CREATE INDEX attempt_open ON attempt (state) WHERE state = 'reserved'",
    """
    CREATE TRIGGER attempt_begins_reserved BEFORE INSERT ON attempt
    WHEN NEW.state <> 'reserved' AND NOT EXISTS
      (SELECT 1 FROM attempt WHERE attempt_id = NEW.attempt_id)
    BEGIN SELECT RAISE(ABORT, 'an attempt begins reserved'); END
    """,
    f"""
    CREATE TRIGGER attempt_one_way BEFORE UPDATE ON attempt
    WHEN NOT (
      NEW.attempt_id = OLD.attempt_id
      AND {" AND ".join(f"NEW.{each} = OLD.{each}" for each in _FACTS)}
      AND (
        (OLD.state = 'reserved' AND NEW.state <> 'reserved')
        OR (OLD.state = 'unknown' AND NEW.state = 'settled')
        OR (NEW.state = OLD.state AND NEW.charged_micro_usd = OLD.charged_micro_usd)
      )
    )
    BEGIN SELECT RAISE(ABORT, 'an attempt only moves forward'); END
    """,
    """
    CREATE TRIGGER attempt_stays BEFORE DELETE ON attempt
    BEGIN SELECT RAISE(ABORT, 'an attempt is never deleted'); END
    """,
    "CREATE TABLE start (number INTEGER PRIMARY KEY NOT NULL) STRICT",
)

PUT: Final = (
    f"INSERT INTO attempt VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - constants
    " ON CONFLICT (attempt_id) DO UPDATE SET "
    + ", ".join(f"{each} = excluded.{each}" for each in _COLUMNS[1:])
)

NEWEST_DAY: Final = "SELECT max(day) FROM attempt"

SUMS: Final = """
SELECT backend, track, client, sum(charged_micro_usd) FROM attempt
WHERE day = ? AND state <> 'reserved' GROUP BY backend, track, client
"""

RESERVED: Final = "SELECT * FROM attempt WHERE state = 'reserved' ORDER BY at_utc"

WRONG: Final = f"""
SELECT attempt_id FROM attempt WHERE (day = ? OR state = 'reserved')
AND checksum <> row_checksum({", ".join(_COLUMNS[:-1])}) LIMIT 1
"""  # noqa: S608 - constants


def create(connection: sqlite3.Connection) -> None:
    """Write the schema into an empty file, all or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def objects(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return every table, index and trigger by name, with its definition."""
    found = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
    )
    return [(str(name), str(sql)) for name, sql in found]


def expected_objects() -> list[tuple[str, str]]:
    """Return what `objects` finds in a sound file."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        create(connection)
        return objects(connection)
    finally:
        connection.close()


def checksum(*values: object) -> int:
    """Return a checksum of a row's other columns."""
    return zlib.crc32("\x1f".join(map(str, values)).encode("utf-8", "surrogatepass"))


def parameters(row: LedgerRow) -> tuple[object, ...]:
    """Return a row's columns, the checksum last."""
    columns = (
        row.attempt_id,
        row.request_id,
        row.day.isoformat(),
        row.backend,
        row.track,
        row.client,
        row.ceiling_micro_usd,
        row.charged_micro_usd,
        row.state,
        row.at_utc.isoformat(),
    )
    return (*columns, checksum(*columns))


def ledger_row(columns: tuple[Any, ...]) -> LedgerRow:
    """Return the row of what `parameters` made; the STRICT table keeps the types."""
    attempt_id, request_id, day, backend, track, client = columns[:6]
    ceiling, charged, state, at_utc = columns[6:10]
    return LedgerRow(
        attempt_id,
        request_id,
        date.fromisoformat(day),
        backend,
        track,
        client,
        ceiling,
        charged,
        state,
        datetime.fromisoformat(at_utc),
    )
