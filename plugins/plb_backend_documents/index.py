"""Read an index: open it safely, rank its passages, fetch what was found."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from plb_backend_documents.passages import MARKUP, cleaned, split
from plb_backend_documents.ranking import (
    MAX_PYTHON_PASSAGES,
    TOKENIZER,
    Fts5Ranking,
    PythonRanking,
    has_fts5,
)
from plb_backend_documents.seal import UnusableIndex, check_header, check_seal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from plb_backend_documents.passages import Passage
    from plb_backend_documents.ranking import Ranking

STARTER_FOLDER: Final = Path(__file__).with_name("starter")

SCHEMA: Final = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE files (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 BLOB NOT NULL)""",
    """CREATE TABLE passages (id INTEGER PRIMARY KEY, file INTEGER NOT NULL,
    heading TEXT NOT NULL, line INTEGER NOT NULL, text TEXT NOT NULL, vector BLOB)""",
    "CREATE INDEX passages_of_file ON passages (file)",
)
_FETCH: Final = (
    "SELECT passages.id, path, heading, line, text FROM passages"
    " JOIN files ON files.id = passages.file WHERE passages.id IN"
)
FTS_SCHEMA: Final = (
    "CREATE VIRTUAL TABLE passages_fts USING fts5(heading, text, content='passages',"
    f" content_rowid='id', tokenize='{TOKENIZER}')"
)


@attrs.frozen
class Found:
    """A stored passage. `path` is relative with forward slashes; lines start at 1."""

    path: str
    heading: str
    line: int
    text: str


class Index:
    """An open index; used by one thread at a time.

    `interrupt` alone may be called from another thread: it ends a running search
    with `sqlite3.OperationalError`.
    """

    def __init__(self, connection: sqlite3.Connection, *, fts5: bool = True) -> None:
        """Take an open database; `fts5` False ranks in Python."""
        self.connection = connection
        self.facts: dict[str, str] = dict(
            connection.execute("SELECT name, value FROM facts").fetchall()
        )
        self.ranking: Ranking = (
            Fts5Ranking(connection)
            if fts5 and has_table(connection)
            else _python_ranking(connection)
        )

    def interrupt(self) -> None:
        """End the running search, if any."""
        self.connection.interrupt()

    def close(self) -> None:
        """Release the file."""
        self.connection.close()

    def check(self) -> None:
        """Raise `sqlite3.Error` when the index cannot be read."""
        self.connection.execute("SELECT count(*) FROM files").fetchone()

    def search(self, terms: Mapping[str, str], limit: int) -> list[Found]:
        """Return the best passages for the terms, best first."""
        return self.fetch(self.ranking.best(terms, limit))

    def fetch(self, identities: Sequence[int]) -> list[Found]:
        """Return the passages with these ids, in this order."""
        marks = ",".join("?" * len(identities))
        rows = self.connection.execute(
            f"{_FETCH} ({marks})",
            tuple(identities),
        )
        by_id = {row[0]: Found(*row[1:]) for row in rows}
        return [by_id[identity] for identity in identities]

    def vectors(self) -> tuple[list[int], list[bytes]]:
        """Return the ids and vectors of all passages that have one."""
        rows = self.connection.execute(
            "SELECT id, vector FROM passages WHERE vector IS NOT NULL ORDER BY id"
        ).fetchall()
        return [row[0] for row in rows], [row[1] for row in rows]


def has_table(connection: sqlite3.Connection) -> bool:
    """Tell whether this database was made with FTS5, by an SQLite that has it."""
    made = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE name = 'passages_fts'"
    ).fetchone()
    return bool(made) and has_fts5(connection)


def _python_ranking(connection: sqlite3.Connection) -> PythonRanking:
    count = connection.execute("SELECT count(*) FROM passages").fetchone()[0]
    if count > MAX_PYTHON_PASSAGES:
        message = (
            f"the index has {count} passages; more than {MAX_PYTHON_PASSAGES} need a"
            " Python whose sqlite3 has FTS5, both to index and to search"
        )
        raise UnusableIndex(message)
    rows = connection.execute("SELECT id, heading, text FROM passages ORDER BY id")
    return PythonRanking(rows)


def open_index(path: Path, *, fts5: bool = True) -> Index:
    """Open an index file read-only; raises `UnusableIndex` when it cannot be used."""
    check_header(path)
    check_seal(path)
    # immutable: indexing replaces the file as a whole and never writes into it.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro&immutable=1",
        uri=True,
        check_same_thread=False,
    )
    try:
        return Index(connection, fts5=fts5)
    except BaseException:
        connection.close()
        raise


def open_starter(*, fts5: bool = True) -> Index:
    """Index the shipped starter collection in memory."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    create_tables(connection, fts5=fts5)
    for number, path in enumerate(sorted(STARTER_FOLDER.glob("*.md")), start=1):
        text = cleaned(path.read_text("utf-8"))
        connection.execute(
            "INSERT INTO files VALUES (?, ?, 0, 0, x'')",
            (number, f"starter/{path.name}"),
        )
        add_passages(connection, number, split(text, MARKUP[".md"]))
    index_texts(connection)
    connection.commit()
    return Index(connection, fts5=fts5)


def create_tables(connection: sqlite3.Connection, *, fts5: bool = True) -> None:
    """Lay out an empty database."""
    for statement in SCHEMA:
        connection.execute(statement)
    if fts5 and has_fts5(connection):
        connection.execute(FTS_SCHEMA)


def add_passages(
    connection: sqlite3.Connection, file: int, passages: Iterable[Passage]
) -> int:
    """Store a file's passages; return how many. `index_texts` makes them findable."""
    cursor = connection.executemany(
        "INSERT INTO passages (file, heading, line, text) VALUES (?, ?, ?, ?)",
        ((file, each.heading, each.line, each.text) for each in passages),
    )
    return max(0, cursor.rowcount)


def index_texts(connection: sqlite3.Connection) -> None:
    """Build the full-text table anew from the stored passages."""
    if has_table(connection):
        connection.execute("INSERT INTO passages_fts (passages_fts) VALUES ('rebuild')")
