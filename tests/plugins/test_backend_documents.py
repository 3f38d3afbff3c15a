"""The embedded backend: quoted answers, abstaining, limits, and what it refuses."""

import asyncio
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

import plb_backend_documents
from plb_backend_documents import backend as backend_module
from plb_backend_documents import semantic
from plb_backend_documents.backend import DocumentsBackend
from plb_backend_documents.building import build_index
from plb_backend_documents.extract import Extract, extract
from plb_backend_documents.index import Index, open_starter
from plb_backend_documents.seal import UnusableIndex
from plb_backend_documents.settings import DocumentsSettings
from plb_backend_documents.thread import SearchThread
from plb_core import (
    BackendMisconfigured,
    BackendTimeout,
    BadAnswer,
    Chunk,
    ConfigError,
    NoAnswer,
    Query,
)
from plb_core.structure import Problems, read_settings
from plb_core.testing import fakes

QUESTION = Query("What are metabolic pathways?")
PATIENCE_S = 10.0


def make(folder: Path = Path(), **settings: Any) -> DocumentsBackend:
    provider = plb_backend_documents.plb_register_backend()
    context = attrs.evolve(fakes.context("notes"), folder=folder)
    backend = provider.build(DocumentsSettings(**settings), context)
    assert isinstance(backend, DocumentsBackend)
    return backend


@asynccontextmanager
async def started(**settings: Any) -> AsyncIterator[DocumentsBackend]:
    backend = make(**settings)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.close()


async def read(backend: DocumentsBackend, query: Query = QUESTION) -> list[Chunk]:
    return [chunk async for chunk in backend.stream(query, PATIENCE_S)]


@pytest.fixture
def own_index(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.md").write_text("# Flux\n\nFlux is a rate.\n")
    target = tmp_path / "own.sqlite"
    build_index([tmp_path / "notes"], target, semantic=False, progress=lambda *_: None)
    return target


@pytest.mark.asyncio
async def test_answers_from_the_starter_collection_with_sources_and_says_so() -> None:
    async with started() as backend:
        answer = await backend.ask(QUESTION, PATIENCE_S)
    assert answer.text.startswith("Metabolic pathways are ordered series of enzyme-")
    assert "[1]" in answer.text
    first = answer.sources[0]
    assert first.title == "Metabolic pathways"
    assert first.url == "starter/metabolic-pathways.md#L3"
    assert first.quote.startswith("Metabolic pathways are ordered series")
    assert "starter collection" in answer.label
    assert not answer.llm_generated
    assert answer.cost_micro_usd == 0
    assert answer.finish_reason == "stop"


@pytest.mark.asyncio
async def test_every_number_in_the_text_has_its_source() -> None:
    async with started() as backend:
        answer = await backend.ask(Query("How does metformin act?"), PATIENCE_S)
    for number in range(1, len(answer.sources) + 1):
        assert f"[{number}]" in answer.text
    assert f"[{len(answer.sources) + 1}]" not in answer.text


@pytest.mark.asyncio
async def test_an_own_index_is_answered_from_without_a_label(own_index: Path) -> None:
    async with started(index=own_index.name, folder=own_index.parent) as backend:
        answer = await backend.ask(Query("What is flux?"), PATIENCE_S)
        with pytest.raises(NoAnswer):
            await backend.ask(QUESTION, PATIENCE_S)
    assert answer.text == "Flux is a rate. [1]"
    assert answer.sources[0].url == "notes/a.md#L3"
    assert answer.label == ""


@pytest.mark.asyncio
async def test_a_stream_gives_sentence_by_sentence_then_the_whole_answer() -> None:
    async with started() as backend:
        chunks = await read(backend)
        asked = await backend.ask(QUESTION, PATIENCE_S)
    assert len(chunks) == 5
    assert [chunk.end for chunk in chunks] == [""] * 4 + ["complete"]
    assert "".join(chunk.text for chunk in chunks) == asked.text
    assert chunks[-1].answer == asked


@pytest.mark.asyncio
async def test_a_stream_may_be_left_early() -> None:
    async with started() as backend:
        chunks = backend.stream(QUESTION, PATIENCE_S)
        async with aclosing(chunks):  # type: ignore[type-var]
            async for chunk in chunks:
                assert chunk.text
                break
        assert await read(backend)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "text",
    ["Who wrote Hamlet?", "What is the price of insulin in Canada?", "", "what is it"],
)
async def test_has_no_answer_when_the_documents_do_not_cover_the_question(
    text: str,
) -> None:
    async with started() as backend:
        with pytest.raises(NoAnswer) as caught:
            await backend.ask(Query(text), PATIENCE_S)
        with pytest.raises(NoAnswer):
            await read(backend, Query(text))
    assert caught.value.reason == "not_found"
    assert not text or text not in str(caught.value)


@pytest.mark.asyncio
async def test_min_coverage_decides_how_much_must_be_covered() -> None:
    paraphrase = Query("Why do cyanide victims suffocate?")
    async with started(min_coverage=0.2) as bold:
        assert "cyanide" in (await bold.ask(paraphrase, PATIENCE_S)).text
    async with started(min_coverage=0.4) as careful:
        with pytest.raises(NoAnswer):
            await careful.ask(paraphrase, PATIENCE_S)


@pytest.mark.asyncio
async def test_max_sentences_bounds_the_answer() -> None:
    async with started(max_sentences=1) as backend:
        assert len(await read(backend)) == 2


@pytest.mark.asyncio
async def test_many_at_once_each_get_their_own_answer() -> None:
    questions = ["What is metformin?", "What is lipidomics?", "What is insulin?"] * 10
    async with started() as backend:
        answers = await asyncio.gather(
            *(backend.ask(Query(each), PATIENCE_S) for each in questions)
        )
    for question, answer in zip(questions, answers, strict=True):
        assert question.split()[-1].rstrip("?") in answer.text.lower()


def endless(index: Index) -> object:
    """Search for something that takes for ever."""
    return index.connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
        " SELECT count(*) FROM n"
    ).fetchone()


@pytest.mark.asyncio
async def test_a_long_search_is_interrupted_at_its_time_limit() -> None:
    async with started() as backend:
        with pytest.raises(BackendTimeout):
            await backend._run(endless, 0.05)
        assert (await backend.ask(QUESTION, PATIENCE_S)).text


@pytest.mark.asyncio
async def test_a_cancelled_search_is_interrupted_and_others_go_on() -> None:
    entered = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(index: Index) -> object:
        loop.call_soon_threadsafe(entered.set)
        return endless(index)

    async with started() as backend:
        running = asyncio.create_task(backend._run(slow, PATIENCE_S))
        await entered.wait()
        waiting = asyncio.create_task(backend.ask(QUESTION, PATIENCE_S))
        unwanted = asyncio.create_task(backend.ask(QUESTION, PATIENCE_S))
        await asyncio.sleep(0)
        unwanted.cancel()
        with pytest.raises(asyncio.CancelledError):
            await unwanted
        assert not running.done()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await waiting).text


@pytest.mark.asyncio
async def test_cancelling_work_that_is_over_interrupts_nobody() -> None:
    interrupted = []
    thread = SearchThread("test")
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        inside.set()
        leave.wait()

    task = asyncio.create_task(thread.run(first, lambda: interrupted.append("first")))
    await asyncio.to_thread(inside.wait)
    second = asyncio.create_task(
        thread.run(lambda: "done", lambda: interrupted.append("second"))
    )
    await asyncio.sleep(0)
    leave.set()
    assert await second == "done"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    thread.close()
    assert interrupted == []


@pytest.mark.asyncio
async def test_a_failing_read_is_a_bad_answer_without_the_question() -> None:
    async with started() as backend:
        assert backend._index
        backend._index.connection.execute("DROP TABLE passages_fts")
        with pytest.raises(BadAnswer) as caught:
            await backend.ask(QUESTION, PATIENCE_S)
        assert str(caught.value) == "the index could not be read (OperationalError)"


@pytest.mark.asyncio
async def test_a_ping_tells_whether_the_index_can_be_read() -> None:
    backend = make()
    assert not (await backend.ping(PATIENCE_S)).ok
    await backend.start()
    result = await backend.ping(PATIENCE_S)
    assert result.ok
    assert result.latency_s >= 0
    assert backend._index
    backend._index.connection.execute("DROP TABLE files")
    assert not (await backend.ping(PATIENCE_S)).ok
    await backend.close()
    assert not (await backend.ping(PATIENCE_S)).ok


@pytest.mark.asyncio
async def test_closes_twice_and_without_use_and_leaves_no_thread() -> None:
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    unused = make()
    await unused.close()
    backend = make()
    await backend.start()
    thread = backend._thread
    assert thread
    await backend.close()
    await backend.close()
    thread._executor.shutdown(wait=True)
    # Threads of earlier tests may end meanwhile; none of this one may be left.
    assert set(threading.enumerate()) <= threads
    assert asyncio.all_tasks() == tasks
    with pytest.raises(BackendMisconfigured, match="not started"):
        await backend.ask(QUESTION, PATIENCE_S)


@pytest.mark.asyncio
async def test_opens_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError

    backend = make()
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "bind", refuse)
    await backend.start()
    assert (await backend.ask(QUESTION, PATIENCE_S)).text
    await backend.close()


def test_says_what_it_is_before_it_is_started() -> None:
    traits = make().traits
    assert traits.knowledge == "graph"
    assert traits.capabilities == {"chat", "stream"}
    assert traits.max_in_flight == 16
    assert traits.price
    assert traits.price.free


# Refusals


def test_a_missing_index_is_a_problem_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        make(index="nowhere.sqlite", folder=tmp_path)
    (problem,) = caught.value.problems
    assert problem.key == "backend.notes.index"
    assert "make it with: plb index" in problem.message
    assert not (tmp_path / "nowhere.sqlite").exists()


def test_a_file_that_is_no_index_is_a_problem_of_the_configuration(
    tmp_path: Path,
) -> None:
    (tmp_path / "x.sqlite").write_text("hello")
    with pytest.raises(ConfigError, match="was not made by plb index"):
        make(index="x.sqlite", folder=tmp_path)


def test_a_tilde_stands_for_the_home_folder(
    own_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(own_index.parent))
    assert make(index="~/own.sqlite")._path == own_index


def damage(index: Path) -> bytearray:
    data = bytearray(index.read_bytes())
    data[5000] ^= 1
    index.write_bytes(data)
    return data


@pytest.mark.asyncio
async def test_a_damaged_index_is_refused_at_the_start_and_left_as_it_is(
    own_index: Path,
) -> None:
    data = damage(own_index)
    backend = make(index=str(own_index))
    with pytest.raises(BackendMisconfigured, match="damaged") as caught:
        await backend.start()
    assert not caught.value.sent
    assert not (await backend.ping(PATIENCE_S)).ok
    await backend.close()
    assert await asyncio.to_thread(own_index.read_bytes) == data


@pytest.mark.asyncio
async def test_an_index_that_vanishes_before_the_start_is_refused(
    own_index: Path,
) -> None:
    backend = make(index=str(own_index))
    await asyncio.to_thread(own_index.unlink)
    with pytest.raises(BackendMisconfigured, match="there is no index"):
        await backend.start()


@pytest.mark.asyncio
async def test_an_unexpected_failure_while_opening_leaves_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(backend_module, "open_starter", fail)
    backend = make()
    with pytest.raises(RuntimeError):
        await backend.start()
    assert backend._thread is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"index": ""}, "got an empty string"),
        ({"index": 3}, "expected a string"),
        ({"min_coverage": 1.5}, "from 0 to 1"),
        ({"min_coverage": float("nan")}, "finite"),
        ({"max_sentences": 0}, "at least 1"),
        ({"passages": 0}, "at least 1"),
        ({"passages": 2.5}, "whole number"),
        ({"semantic": "false"}, "true or false"),
        ({"indx": "a"}, "did you mean 'index'"),
    ],
)
def test_bad_settings_are_named(table: dict[str, object], message: str) -> None:
    problems = Problems()
    assert read_settings(DocumentsSettings, table, ("backend", "x"), problems) is None
    assert message in str(problems.found[0])


# Search by meaning; what needs the extra is in test_documents_semantic.py


def test_search_by_meaning_needs_an_own_index() -> None:
    with pytest.raises(ConfigError, match="index made by plb index --semantic"):
        make(semantic=True)


def test_a_missing_extra_is_named_with_the_commands_that_install_it(
    own_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semantic, "_MODULES", ("no_such_module",))
    with pytest.raises(ConfigError) as caught:
        make(index=str(own_index), semantic=True)
    (problem,) = caught.value.problems
    assert problem.key == "backend.notes.semantic"
    assert "pip install 'plb[semantic]'" in problem.message
    assert "no_such_module" in problem.message


class FakeMeaning:
    """Stands for the encoder: knows one question, and nothing else is near."""

    def __init__(self, index: Index) -> None:
        self.asked: list[str] = []

    def extract(
        self, index: Index, question: str, passages: int, limit: int
    ) -> Extract | None:
        self.asked.append(question)
        if "suffocate" not in question:
            return None
        return extract(index, "cyanide block", passages, limit)


@pytest.fixture
def meaning(monkeypatch: pytest.MonkeyPatch, own_index: Path) -> Path:
    monkeypatch.setattr(backend_module, "Meaning", FakeMeaning)
    monkeypatch.setattr(backend_module, "check_installed", lambda: None)
    monkeypatch.setattr(backend_module, "open_index", lambda path: open_starter())
    return own_index


@pytest.mark.asyncio
async def test_meaning_is_asked_only_when_too_few_words_are_shared(
    meaning: Path,
) -> None:
    async with started(index=str(meaning), semantic=True) as backend:
        await backend.ask(QUESTION, PATIENCE_S)
        asked = backend._meaning
        assert isinstance(asked, FakeMeaning)
        assert asked.asked == []
        query = Query("Why do victims suffocate?")
        assert "cyanide" in (await backend.ask(query, PATIENCE_S)).text
        assert asked.asked == [query.text]


@pytest.mark.asyncio
async def test_when_nothing_is_near_in_meaning_the_words_decide(meaning: Path) -> None:
    async with started(index=str(meaning), semantic=True) as backend:
        half = Query("Which bacterium ferments fibres?")
        assert "Bacteria" in (await backend.ask(half, PATIENCE_S)).text
        with pytest.raises(NoAnswer):
            await backend.ask(Query("Who wrote Hamlet?"), PATIENCE_S)


@pytest.mark.asyncio
async def test_vectors_that_do_not_fit_are_refused_at_the_start(
    meaning: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(index: Index) -> None:
        message = "its vectors were made by no encoder"
        raise UnusableIndex(message)

    monkeypatch.setattr(backend_module, "Meaning", refuse)
    with pytest.raises(BackendMisconfigured, match="no encoder"):
        await make(index=str(meaning), semantic=True).start()


def test_importing_the_plugin_stays_cheap() -> None:
    code = (
        "import sys, plb_backend_documents, plb_backend_documents.index_command;"
        "print([m for m in ('sqlite3', 'numpy', 'rich', 'aiohttp', 'asyncio')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = done.stdout
    assert "sqlite3" not in heavy
    assert "numpy" not in heavy
    assert "rich" not in heavy
    assert "aiohttp" not in heavy


@pytest.mark.asyncio
async def test_sqlite_errors_while_opening_are_configuration_errors(
    own_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        message = "no such table: facts"
        raise sqlite3.OperationalError(message)

    monkeypatch.setattr(backend_module, "open_index", fail)
    with pytest.raises(BackendMisconfigured, match="no such table"):
        await make(index=str(own_index)).start()
