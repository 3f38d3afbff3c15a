"""The plugin against a real lightrag-server with a stub model behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from plb_backend_lightrag import LightRAGBackend, LightRAGSettings
from plb_backend_lightrag.backend import build
from plb_backend_lightrag.quotes import LABEL
from plb_core.errors import BackendError, BackendMisconfigured, BadAnswer, NoAnswer
from plb_core.settings import EnvVar
from plb_core.testing import fakes
from plb_core.types import Chunk, Query
from tests.slow.lightrag_process import LightRAGProcess, running
from tests.slow.openai_stub import OpenAIStub

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KEY = "right-key"
DOCUMENTS = {
    "urea_cycle.md": (
        "The urea cycle turns toxic ammonia into urea, mostly in the liver. Ornithine"
        " carries the nitrogen through the cycle and is formed again at its end."
        " In citrullinaemia the enzyme argininosuccinate synthetase is missing."
    ),
    "ketone_bodies.md": (
        "Ketone bodies are made in liver mitochondria during fasting. Acetoacetate and"
        " hydroxybutyrate feed the brain when glucose runs short."
    ),
    "notes/cholesterol.md": (
        "Cholesterol synthesis begins with acetate units in the cytosol. Statins block"
        " the reductase that makes mevalonate, the step that sets the pace."
    ),
}


@pytest.fixture(scope="module")
def model() -> Iterator[OpenAIStub]:
    with OpenAIStub() as stub:
        yield stub
        # A new version of LightRAG may word its prompts differently.
        assert stub.unrecognised == []


@pytest.fixture(autouse=True)
def _working_model(model: OpenAIStub, monkeypatch: pytest.MonkeyPatch) -> None:
    model.failure = ""
    monkeypatch.setenv("TEST_LIGHTRAG_KEY", KEY)


@pytest.fixture(scope="module")
def filled(
    model: OpenAIStub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LightRAGProcess]:
    """A server with a key and a few documents."""
    folder = tmp_path_factory.mktemp("filled")
    with running(folder, model.url, {"LIGHTRAG_API_KEY": KEY}) as server:
        server.index(DOCUMENTS)
        yield server


@pytest.fixture(scope="module")
def empty(
    model: OpenAIStub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LightRAGProcess]:
    """A server with a login and nothing in its store."""
    folder = tmp_path_factory.mktemp("empty")
    accounts = {"AUTH_ACCOUNTS": "ada:right", "TOKEN_SECRET": "x" * 40}
    with running(folder, model.url, accounts) as server:
        yield server


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("TEST_LIGHTRAG_USER", "ada")
    monkeypatch.setenv("TEST_LIGHTRAG_PASSWORD", "right")
    return {
        "api_key_env": None,
        "username_env": EnvVar("TEST_LIGHTRAG_USER"),
        "password_env": EnvVar("TEST_LIGHTRAG_PASSWORD"),
    }


@asynccontextmanager
async def backend(
    server: LightRAGProcess, clock: fakes.FakeClock | None = None, **settings: Any
) -> AsyncIterator[LightRAGBackend]:
    settings.setdefault("api_key_env", EnvVar("TEST_LIGHTRAG_KEY"))
    made = build(
        LightRAGSettings(base_url=server.url, **settings),
        fakes.context("graph", now=clock),
    )
    await made.start()
    try:
        yield made
    finally:
        await made.close()


async def streamed(
    asked: LightRAGBackend, question: str, seen: list[Chunk] | None = None
) -> list[Chunk]:
    """Return the chunks of a stream; `seen` keeps those before a failure, too."""
    seen = [] if seen is None else seen
    async for chunk in asked.stream(Query(question), 60.0):
        seen.append(chunk)
    return seen


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", ["naive", "mix"])
async def test_answers_with_references_and_quotes(
    filled: LightRAGProcess, mode: str
) -> None:
    async with backend(filled, mode=mode) as asked:
        answer = await asked.ask(
            Query("What does the urea cycle turn ammonia into?"), 60
        )
    assert "turns toxic ammonia into urea" in answer.text
    assert answer.text.count("### References") == 1
    assert answer.sources[0].url == "urea_cycle.md"
    assert answer.sources[0].quote.startswith("The urea cycle")
    assert answer.llm_generated


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", ["naive", "mix"])
async def test_streams_and_proves_the_end(filled: LightRAGProcess, mode: str) -> None:
    question = f"What do statins block ({mode})?"
    async with backend(filled, mode=mode) as asked:
        *pieces, last = await streamed(asked, question)
    assert len(pieces) > 5
    assert last.end == "complete"
    assert last.answer is not None
    assert last.answer.text == "".join(piece.text for piece in pieces)
    assert "Statins block the reductase" in last.answer.text
    assert any("cholesterol" in source.url for source in last.answer.sources)


@pytest.mark.asyncio
async def test_streams_an_answer_the_server_kept_in_one_piece(
    filled: LightRAGProcess,
) -> None:
    question = "How does the urea cycle end?"
    async with backend(filled, mode="naive") as asked:
        answer = await asked.ask(Query(question), 60)
        piece, last = await streamed(asked, question)
    assert piece.text == answer.text
    assert last.end == "complete"
    assert last.answer == answer


@pytest.mark.asyncio
async def test_takes_a_conversation_and_system_rules(filled: LightRAGProcess) -> None:
    query = Query(
        "Where are ketone bodies made?",
        messages=(
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello."},
            {"role": "assistant", "content": "Hello, what is it?"},
            {"role": "user", "content": "Where are ketone bodies made?"},
        ),
    )
    async with backend(filled, mode="mix") as asked:
        answer = await asked.ask(query, 60)
    assert "liver mitochondria" in answer.text


@pytest.mark.asyncio
@pytest.mark.parametrize("failure", ["chat", "embeddings"])
async def test_a_failure_behind_200_is_a_backend_error(
    filled: LightRAGProcess, model: OpenAIStub, failure: Any
) -> None:
    model.failure = failure
    async with backend(filled, mode="naive") as asked:
        with pytest.raises(BadAnswer, match="behind a 200"):
            await asked.ask(Query(f"Which organ makes urea when {failure} fails?"), 60)
        assert (await asked.ping(10)).degraded


@pytest.mark.asyncio
async def test_a_failure_behind_200_is_a_backend_error_in_a_stream_too(
    filled: LightRAGProcess, model: OpenAIStub
) -> None:
    model.failure = "chat"
    async with backend(filled, mode="naive") as asked:
        with pytest.raises(BadAnswer, match="behind a 200"):
            await streamed(asked, "Which organ makes urea in a stream?")


@pytest.mark.asyncio
async def test_a_stream_that_breaks_is_never_complete(
    filled: LightRAGProcess, model: OpenAIStub
) -> None:
    model.failure = "stream"
    seen: list[Chunk] = []
    async with backend(filled, mode="naive") as asked:
        with pytest.raises(BackendError):
            await streamed(asked, "What carries nitrogen through the cycle?", seen)
    assert len(seen) == 3
    assert all(chunk.end == "" for chunk in seen)


@pytest.mark.asyncio
async def test_quotes_while_the_model_is_down_and_answers_again_afterwards(
    filled: LightRAGProcess, model: OpenAIStub
) -> None:
    clock = fakes.FakeClock()
    model.failure = "chat"
    async with backend(filled, clock, degraded=True) as asked:
        first = await asked.ask(Query("What feeds the brain during fasting?"), 60)
        second = await asked.ask(Query("What blocks mevalonate?"), 60)
        model.failure = ""
        clock.advance(60.0)
        third = await asked.ask(Query("What blocks mevalonate synthesis?"), 60)
    assert first.label == second.label == LABEL
    assert "feed the brain when glucose runs short" in first.text
    assert first.sources[0].url == "ketone_bodies.md"
    assert not first.llm_generated
    assert (third.label, third.llm_generated) == ("", True)


@pytest.mark.asyncio
async def test_a_wrong_key_is_a_misconfiguration_and_an_unhealthy_ping(
    filled: LightRAGProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_LIGHTRAG_KEY", "wrong")
    async with backend(filled) as asked:
        with pytest.raises(BackendMisconfigured):
            await asked.ask(Query("What is urea?"), 60)
        with pytest.raises(BackendMisconfigured):
            await streamed(asked, "What is urea?")
        assert not (await asked.ping(10)).ok


@pytest.mark.asyncio
async def test_a_right_key_is_healthy(filled: LightRAGProcess) -> None:
    async with backend(filled) as asked:
        result = await asked.ping(10)
    assert (result.ok, result.degraded, result.detail) == (True, False, "")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("a", "invalid_request"),
        ("x" * 70_000, "context_length"),
        ("x" * 1_100_000, "context_length"),
    ],
)
async def test_a_question_the_server_refuses_is_no_answer(
    filled: LightRAGProcess, question: str, reason: str
) -> None:
    async with backend(filled) as asked:
        with pytest.raises(NoAnswer) as caught:
            await asked.ask(Query(question), 60)
    assert caught.value.reason == reason


@pytest.mark.asyncio
async def test_a_conversation_that_is_too_long_is_no_answer(
    filled: LightRAGProcess,
) -> None:
    turns = [{"role": "user", "content": "y" * 50_000} for _ in range(3)]
    query = Query("What is urea?", messages=(*turns, {"role": "user", "content": "?"}))
    async with backend(filled) as asked:
        with pytest.raises(NoAnswer) as caught:
            await asked.ask(query, 60)
    assert caught.value.reason == "context_length"


@pytest.mark.asyncio
async def test_a_setting_the_server_refuses_is_a_misconfiguration(
    filled: LightRAGProcess,
) -> None:
    async with backend(filled, top_k=1_000_000) as asked:
        with pytest.raises(BackendMisconfigured, match="retrieval settings"):
            await asked.ask(Query("What is urea?"), 60)


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", ["naive", "mix"])
async def test_logs_in_and_an_empty_store_is_no_answer(
    empty: LightRAGProcess, login: dict[str, Any], mode: str
) -> None:
    async with backend(empty, mode=mode, **login) as asked:
        assert (await asked.ping(10)).ok
        with pytest.raises(NoAnswer) as caught:
            await asked.ask(Query("What is urea?"), 60)
        with pytest.raises(NoAnswer):
            await streamed(asked, "What is urea?")
    assert caught.value.reason == "not_found"


@pytest.mark.asyncio
async def test_a_wrong_password_never_locks_the_account_out(
    empty: LightRAGProcess, login: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_LIGHTRAG_PASSWORD", "wrong")
    async with backend(empty, **login) as asked:
        for _ in range(10):
            with pytest.raises(BackendMisconfigured):
                await asked.ask(Query("What is urea?"), 60)
    monkeypatch.setenv("TEST_LIGHTRAG_PASSWORD", "right")
    async with backend(empty, **login) as asked:
        assert (await asked.ping(10)).ok
