"""Rank passages by BM25: in SQLite FTS5, or in Python where SQLite lacks FTS5."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol

from plb_backend_documents.stem import stem
from plb_backend_documents.terms import match_expression, words

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

HEADING_WEIGHT: Final = 2.0
"""A word in a heading says twice as much about a passage as one in its text."""

TOKENIZER: Final = "porter unicode61 remove_diacritics 2"
MAX_PYTHON_PASSAGES: Final = 20_000
"""About 200 MB and 10 s of indexing; beyond that FTS5 is needed."""

_K1: Final = 1.2
_B: Final = 0.75


class Ranking(Protocol):
    """Finds the passages that match a question best."""

    passages: int
    """How many passages there are."""

    def best(self, terms: Mapping[str, str], limit: int) -> list[int]:
        """Return at most `limit` passage ids, best first.

        `terms` maps stems to the words they came from.
        """
        ...

    def frequencies(self, terms: Mapping[str, str]) -> dict[str, int]:
        """Return in how many passages each known stem occurs."""
        ...


def has_fts5(connection: sqlite3.Connection) -> bool:
    """Tell whether this SQLite was built with FTS5."""
    options = {name for (name,) in connection.execute("PRAGMA compile_options")}
    return "ENABLE_FTS5" in options


class Fts5Ranking:
    """BM25 inside SQLite; the table `passages_fts` holds heading and text."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.passages = connection.execute("SELECT count(*) FROM passages").fetchone()[
            0
        ]
        connection.execute(
            "CREATE VIRTUAL TABLE temp.vocabulary"
            " USING fts5vocab('main', 'passages_fts', 'row')"
        )

    def best(self, terms: Mapping[str, str], limit: int) -> list[int]:
        """Return at most `limit` passage ids, best first."""
        rows = self._connection.execute(
            "SELECT rowid FROM passages_fts WHERE passages_fts MATCH ?"
            " ORDER BY bm25(passages_fts, ?, 1.0), rowid LIMIT ?",
            (match_expression(list(terms.values())), HEADING_WEIGHT, limit),
        )
        return [row for (row,) in rows]

    def frequencies(self, terms: Mapping[str, str]) -> dict[str, int]:
        """Return in how many passages each known stem occurs."""
        marks = ",".join("?" * len(terms))
        rows = self._connection.execute(
            f"SELECT term, doc FROM temp.vocabulary WHERE term IN ({marks})",  # noqa: S608 - question marks only
            tuple(terms),
        )
        return dict(rows.fetchall())


class PythonRanking:
    """The same BM25 over an inverted index in memory."""

    def __init__(self, passages: Iterable[tuple[int, str, str]]) -> None:
        """Take (id, heading, text) in; ids grow."""
        self._postings: dict[str, dict[int, float]] = {}
        self._lengths: dict[int, int] = {}
        for identity, heading, text in passages:
            counts = [Counter(map(stem, words(part))) for part in (heading, text)]
            self._lengths[identity] = counts[0].total() + counts[1].total()
            for weight, count in zip((HEADING_WEIGHT, 1.0), counts, strict=True):
                for term, times in count.items():
                    posting = self._postings.setdefault(term, {})
                    posting[identity] = posting.get(identity, 0.0) + weight * times
        self.passages = len(self._lengths)
        self._mean_length = sum(self._lengths.values()) / max(1, self.passages)

    def best(self, terms: Mapping[str, str], limit: int) -> list[int]:
        """Return at most `limit` passage ids, best first."""
        scores: dict[int, float] = {}
        for term in terms:
            posting = self._postings.get(term, {})
            rest = self.passages - len(posting)
            # FTS5 floors the weight of words in more than half of all passages.
            weight = max(math.log((rest + 0.5) / (len(posting) + 0.5)), 1e-6)
            for identity, times in posting.items():
                length = self._lengths[identity] / self._mean_length
                share = times * (_K1 + 1) / (times + _K1 * (1 - _B + _B * length))
                scores[identity] = scores.get(identity, 0.0) + weight * share
        return heapq.nsmallest(limit, scores, key=lambda each: (-scores[each], each))

    def frequencies(self, terms: Mapping[str, str]) -> dict[str, int]:
        """Return in how many passages each known stem occurs."""
        return {
            term: len(self._postings[term]) for term in terms if term in self._postings
        }
