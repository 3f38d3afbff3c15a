"""Make an index file from folders, or bring one up to date."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from plb_backend_documents.index import (
    add_passages,
    create_tables,
    has_table,
    index_texts,
)
from plb_backend_documents.passages import MARKUP, split
from plb_backend_documents.ranking import has_fts5
from plb_backend_documents.scan import (
    Document,
    Unreadable,
    decoded,
    find_documents,
    read_bytes,
)
from plb_backend_documents.seal import (
    APPLICATION_ID,
    SCHEMA_VERSION,
    UnusableIndex,
    check_header,
    check_seal,
    seal,
    unseal,
)
from plb_backend_documents.semantic import Encoder, model_name, passage_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Progress = Callable[[str, int, int], None]

MAX_PASSAGES: Final = 200_000
"""About 200 MB; common words take 0.2 s there. Larger collections need a server."""

_FRESH_NS: Final = 2_000_000_000
"""A file changed this shortly before it was indexed may change again unseen, within
the resolution of some file systems' clocks, so its content is compared next time."""

_ENCODED_AT_ONCE: Final = 32


# Not frozen: the build counts here while it works; afterwards it is only read.
@attrs.define
class Report:
    """What was done. `problems` are (path, why) of everything left out."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    passages: int = 0
    problems: list[tuple[str, str]] = attrs.field(factory=list)

    @property
    def files(self) -> int:
        """How many files the index holds."""
        return self.added + self.changed + self.unchanged


def build_index(
    folders: Sequence[Path], target: Path, *, semantic: bool, progress: Progress
) -> Report:
    """Make `target` hold exactly the documents of `folders`.

    The file is replaced as a whole or not at all. `progress` hears (stage, done,
    total). An index that has vectors keeps getting them. Raises `UnusableIndex` when
    `target` exists and is not a whole index of this version, `MissingExtra`,
    `OSError` and `sqlite3.Error`.
    """
    target = Path(os.path.realpath(target))
    if exists := target.exists():
        check_header(target)
        check_seal(target)
    with _working_copy(target) as copy:
        if exists:
            shutil.copyfile(target, copy)
            unseal(copy)
        with contextlib.closing(sqlite3.connect(copy)) as connection:
            build = _Build(connection, copy.stat().st_mtime_ns, progress)
            report = build.run(folders, semantic=semantic, fresh=not exists)
        if build.wrote:
            seal(copy)
            copy.replace(target)
            _flush_folder(target.parent)
    return report


class _Build:
    def __init__(
        self, connection: sqlite3.Connection, now_ns: int, progress: Progress
    ) -> None:
        self.connection = connection
        self.now_ns = now_ns
        self.progress = progress
        self.report = Report()
        self.wrote = False

    def run(self, folders: Sequence[Path], *, semantic: bool, fresh: bool) -> Report:
        self._prepare(fresh=fresh)
        documents, self.report.problems = find_documents(folders)
        known = {row[1]: row for row in self.connection.execute("SELECT * FROM files")}
        checked_ns = int(self._fact("checked_ns", "0"))
        kept: set[str] = set()
        for number, document in enumerate(documents):
            self.progress("reading", number, len(documents))
            try:
                self._take(document, known.get(document.shown), checked_ns)
            except Unreadable as error:
                self.report.problems.append((document.shown, str(error)))
            else:
                kept.add(document.shown)
        for path, row in known.items():
            if path not in kept:
                self._drop(row[0])
                self.report.removed += 1
        self.report.passages = self._count("passages")
        if self.report.passages > MAX_PASSAGES:
            message = (
                f"the folders hold {self.report.passages} passages, more than"
                f" {MAX_PASSAGES}; split them over several indexes"
            )
            raise UnusableIndex(message)
        if semantic or self._fact("encoder", ""):
            self._encode()
        if self.wrote:
            self._finish()
        return self.report

    def _prepare(self, *, fresh: bool) -> None:
        # A crash loses only the working copy, so no journal is needed.
        self.connection.execute("PRAGMA journal_mode = OFF")
        self.connection.execute("PRAGMA synchronous = OFF")
        if fresh:
            create_tables(self.connection)
            self.connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self.connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self.wrote = True
        elif has_fts5(self.connection) != has_table(self.connection):
            message = (
                "the index was made by a Python whose sqlite3 differs in FTS5;"
                " delete it and run plb index again"
            )
            raise UnusableIndex(message)

    def _take(
        self,
        document: Document,
        known: tuple[int, str, int, int, bytes] | None,
        checked_ns: int,
    ) -> None:
        """Store a document unless it is stored as it is."""
        look = (document.size, document.mtime_ns)
        old = document.mtime_ns < checked_ns - _FRESH_NS
        if known and known[2:4] == look and old:
            self.report.unchanged += 1
            return
        content = read_bytes(document)
        digest = hashlib.sha256(content).digest()
        if known and known[4] == digest:
            self.report.unchanged += 1
            return
        text = decoded(content)
        if known:
            self._drop(known[0])
        cursor = self.connection.execute(
            "INSERT INTO files (path, size, mtime_ns, sha256) VALUES (?, ?, ?, ?)",
            (document.shown, *look, digest),
        )
        markup = MARKUP[document.path.suffix.lower()]
        add_passages(self.connection, cursor.lastrowid or 0, split(text, markup))
        self.wrote = True
        if known:
            self.report.changed += 1
        else:
            self.report.added += 1

    def _drop(self, file: int) -> None:
        self.connection.execute("DELETE FROM passages WHERE file = ?", (file,))
        self.connection.execute("DELETE FROM files WHERE id = ?", (file,))
        self.wrote = True

    def _encode(self) -> None:
        """Give every passage a vector that lacks one."""
        encoder = Encoder()
        if self._fact("encoder", "") != model_name():
            self.connection.execute("UPDATE passages SET vector = NULL")
            self._state("encoder", model_name())
        rows = self.connection.execute(
            "SELECT id, heading, text FROM passages WHERE vector IS NULL"
        ).fetchall()
        for at in range(0, len(rows), _ENCODED_AT_ONCE):
            self.progress("encoding", at, len(rows))
            batch = rows[at : at + _ENCODED_AT_ONCE]
            vectors = encoder.encode([passage_text(row[1], row[2]) for row in batch])
            self.connection.executemany(
                "UPDATE passages SET vector = ? WHERE id = ?",
                [
                    (vector.astype("float16").tobytes(), row[0])
                    for vector, row in zip(vectors, batch, strict=True)
                ],
            )
            self.wrote = True

    def _finish(self) -> None:
        self.progress("writing", 0, 1)
        index_texts(self.connection)
        self._state("checked_ns", str(self.now_ns))
        self.connection.commit()
        # Also wipes the text of removed documents from the file.
        self.connection.execute("VACUUM")

    def _fact(self, name: str, default: str) -> str:
        row = self.connection.execute(
            "SELECT value FROM facts WHERE name = ?", (name,)
        ).fetchone()
        return row[0] if row else default

    def _state(self, name: str, value: str) -> None:
        self.connection.execute(
            "INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value)
        )
        self.wrote = True

    def _count(self, table: str) -> int:
        count: int = self.connection.execute(
            f"SELECT count(*) FROM {table}"  # noqa: S608 - our own table names
        ).fetchone()[0]
        return count


@contextlib.contextmanager
def _working_copy(target: Path) -> Iterator[Path]:
    """Yield the path of an empty file beside `target` that is gone afterwards."""
    copy = target.with_name(f".{target.name}.{os.getpid()}.new")
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
    try:
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Bring the renaming safely to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
