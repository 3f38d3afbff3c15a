"""The backend itself: settings and an index in, quoted sentences out."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plb_backend_documents.extract import extract, numbered
from plb_backend_documents.index import Index, open_index, open_starter
from plb_backend_documents.seal import UnusableIndex, check_header
from plb_backend_documents.semantic import (
    MIN_LEXICAL_COVERAGE,
    Meaning,
    MissingExtra,
    check_installed,
)
from plb_backend_documents.thread import SearchThread
from plb_core import (
    Answer,
    BackendMisconfigured,
    BackendTimeout,
    BackendTraits,
    BadAnswer,
    Chunk,
    ConfigError,
    NoAnswer,
    Price,
    ProbeResult,
    Problem,
    Usage,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import TypeVar

    from plb_backend_documents.extract import Extract
    from plb_backend_documents.settings import DocumentsSettings
    from plb_core import BuildContext, Query

    Result = TypeVar("Result")

STARTER_LABEL: Final = (
    "Quoted from the starter collection on metabolomics that ships with plb,"
    " not from your own documents."
)


class DocumentsBackend:
    """Answers with sentences quoted from indexed documents; needs no key or network.

    It has no answer when too little of the question occurs in what it could quote.
    """

    traits = BackendTraits(
        knowledge="graph",
        capabilities=frozenset({"chat", "stream"}),
        max_in_flight=16,
        price=Price(),
    )

    def __init__(self, settings: DocumentsSettings, context: BuildContext) -> None:
        """Check what can be checked at once; raises `ConfigError`."""
        self._settings = settings
        self._now = context.now
        self._name = context.name
        self._path: Path | None = None
        self._index: Index | None = None
        self._meaning: Meaning | None = None
        self._thread: SearchThread | None = None
        if settings.index is not None:
            self._path = context.folder / Path(settings.index).expanduser()
        try:
            self._check()
        except (UnusableIndex, MissingExtra) as error:
            key = "semantic" if isinstance(error, MissingExtra) else "index"
            place = f"backend.{context.name}.{key}"
            raise ConfigError([Problem(str(error), key=place)]) from error

    async def start(self) -> None:
        """Open the index; raises `BackendMisconfigured` when it cannot be used."""
        thread = SearchThread(f"plb-{self._name}")
        try:
            self._index = await thread.run(self._open, _nothing)
        except (UnusableIndex, OSError, sqlite3.Error) as error:
            thread.close()
            message = f"the index cannot be used: {error}"
            raise BackendMisconfigured(message, sent=False) from error
        except BaseException:
            thread.close()
            raise
        self._thread = thread

    async def close(self) -> None:
        """Release the index."""
        thread, index = self._thread, self._index
        self._thread = self._index = self._meaning = None
        if thread and index:
            await thread.run(index.close, _nothing)
            thread.close()

    async def ask(self, query: Query, timeout_s: float) -> Answer:
        """Return quoted sentences with numbered sources."""
        answer, _ = await self._answer(query, timeout_s)
        return answer

    async def stream(self, query: Query, timeout_s: float) -> AsyncIterator[Chunk]:
        """Yield the answer sentence by sentence."""
        answer, sentences = await self._answer(query, timeout_s)
        for number, sentence in enumerate(sentences):
            yield Chunk(" " * bool(number) + sentence)
        yield Chunk(end="complete", answer=answer)

    async def ping(self, timeout_s: float) -> ProbeResult:
        """Report whether the index can be read."""
        began_s = self._now()
        detail = ""
        try:
            await self._run(Index.check, timeout_s)
        except (BackendMisconfigured, BackendTimeout, BadAnswer) as error:
            detail = str(error)
        return ProbeResult(not detail, self._now() - began_s, detail)

    async def _answer(self, query: Query, timeout_s: float) -> tuple[Answer, list[str]]:
        found = await self._run(lambda index: self._find(index, query.text), timeout_s)
        if found is None:
            message = "the documents do not cover the question"
            raise NoAnswer(message)
        sentences, sources = numbered(found.sentences)
        answer = Answer(
            " ".join(sentences),
            sources=sources,
            usage=Usage(),
            model="extractive",
            cost_micro_usd=0,
            llm_generated=False,
            label="" if self._path else STARTER_LABEL,
        )
        return answer, sentences

    def _find(self, index: Index, question: str) -> Extract | None:
        """Return what to quote; runs in the search thread."""
        settings = self._settings
        found = extract(index, question, settings.passages, settings.max_sentences)
        coverage = found.coverage if found else 0.0
        if self._meaning and coverage < MIN_LEXICAL_COVERAGE:
            meant = self._meaning.extract(
                index, question, settings.passages, settings.max_sentences
            )
            if meant is not None:
                return meant
        return found if coverage >= settings.min_coverage else None

    async def _run(self, work: Callable[[Index], Result], timeout_s: float) -> Result:
        thread, index = self._thread, self._index
        if thread is None or index is None:
            message = "the backend is not started"
            raise BackendMisconfigured(message, sent=False)
        try:
            async with asyncio.timeout(timeout_s):
                return await thread.run(lambda: work(index), index.interrupt)
        except TimeoutError as error:
            message = f"the search took longer than {timeout_s:g} s"
            raise BackendTimeout(message) from error
        except sqlite3.Error as error:
            message = f"the index could not be read ({type(error).__name__})"
            raise BadAnswer(message) from error

    def _check(self) -> None:
        if self._path is not None:
            check_header(self._path)
        if self._settings.semantic:
            if self._path is None:
                message = "semantic search needs an index made by plb index --semantic"
                raise MissingExtra(message)
            check_installed()

    def _open(self) -> Index:
        index = open_index(self._path) if self._path else open_starter()
        if self._settings.semantic:
            try:
                self._meaning = Meaning(index)
            except BaseException:
                index.close()
                raise
        return index


def _nothing() -> None:
    """Leave opening and closing to finish by themselves: they are bounded."""
