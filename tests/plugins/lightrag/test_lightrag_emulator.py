from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from plb_backend_lightrag.quotes import LABEL
from plb_core.errors import (
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendRefused,
    BackendTimeout,
    BadAnswer,
    NoAnswer,
)
from plb_core.settings import EnvVar
from plb_core.testing.contracts.backend_calls import Call, read_ask, read_stream
from plb_core.testing.emulators.faults import Fault
from plb_core.testing.emulators.lightrag import LightRAGEmulator
from plb_core.types import Chunk, Query
from tests.plugins.lightrag.upstream import QUESTION, collect, open_backend


@pytest_asyncio.fixture
async def up() -> AsyncIterator[LightRAGEmulator]:
    async with LightRAGEmulator() as emulator:
        yield emulator


@pytest.mark.asyncio
async def test_answers_and_streams_the_same_text(up: LightRAGEmulator) -> None:
    async with open_backend(up.url) as backend:
        answer = await backend.ask(QUESTION, 5.0)
        *pieces, last = await collect(backend)
    assert last.answer is not None
    assert "".join(piece.text for piece in pieces) == last.answer.text == answer.text
    assert last.answer.sources == answer.sources
    assert answer.sources[0].quote


@pytest.mark.asyncio
async def test_streams_an_answer_that_the_server_kept(up: LightRAGEmulator) -> None:
    up.cache = "on"
    async with open_backend(up.url) as backend:
        assert len(await collect(backend)) > 2
        answer = await backend.ask(QUESTION, 5.0)
        piece, last = await collect(backend)
    assert last.end == "complete"
    assert last.answer == answer
    assert piece.text == answer.text


@pytest.mark.asyncio
async def test_a_kept_answer_is_taken_while_the_model_is_down(
    up: LightRAGEmulator,
) -> None:
    up.cache = "on"
    async with open_backend(up.url) as backend:
        answer = await backend.ask(QUESTION, 5.0)
        up.hidden = "llm_down"
        assert await backend.ask(QUESTION, 5.0) == answer
        assert (await collect(backend))[-1].answer == answer


@pytest.mark.asyncio
@pytest.mark.parametrize("hidden", ["llm_down", "llm_refused", "embeddings_down"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_sees_through_hidden_failures(
    up: LightRAGEmulator, hidden: str, streamed: bool
) -> None:
    up.hidden = hidden
    async with open_backend(up.url) as backend:
        with pytest.raises(BadAnswer):
            await (collect(backend) if streamed else backend.ask(QUESTION, 5.0))


@pytest.mark.asyncio
async def test_quotes_when_only_the_model_is_down(up: LightRAGEmulator) -> None:
    up.hidden = "llm_down"
    async with open_backend(up.url, degraded=True) as backend:
        answer = await backend.ask(QUESTION, 5.0)
    assert answer.label == LABEL
    assert answer.sources
    assert up.billed_micro_usd == 0


@pytest.mark.asyncio
async def test_an_empty_store_is_no_answer(up: LightRAGEmulator) -> None:
    up.hidden = "empty_store"
    async with open_backend(up.url, degraded=True) as backend:
        with pytest.raises(NoAnswer):
            await backend.ask(QUESTION, 5.0)
        with pytest.raises(NoAnswer):
            await collect(backend)


@pytest.mark.asyncio
async def test_a_stream_that_breaks_raises_after_its_text(up: LightRAGEmulator) -> None:
    up.hidden = "stream_breaks"
    seen: list[Chunk] = []
    async with open_backend(up.url) as backend:
        with pytest.raises(BackendError):
            await collect(backend, seen)
    assert seen
    assert all(chunk.end == "" for chunk in seen)
    # The server times a broken stream as well: that line proves nothing.
    assert up.requests[-1].fields["include_progress"] is True


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.status(500), BackendRefused),
        (Fault.busy(7), BackendBusy),
        (Fault.redirect("http://127.0.0.1:1/"), BackendRefused),
        (Fault.reset(), BackendError),
        (Fault.drop(), BackendError),
        (Fault.cut(20), BadAnswer),
        (Fault.cut_unframed(20), BadAnswer),
        (Fault.malformed(), BadAnswer),
        (Fault.empty(), BadAnswer),
        (Fault.wrong_type(), BadAnswer),
        (Fault.bomb(), BadAnswer),
        (Fault.hang(), BackendTimeout),
    ],
    ids=lambda value: getattr(value, "name", None),
)
async def test_faults_of_the_wire_are_backend_errors(
    up: LightRAGEmulator, fault: Fault, error: type[BackendError]
) -> None:
    up.faults = [fault, fault]
    seen: list[Chunk] = []
    async with open_backend(
        up.url, first_byte_timeout_s=0.2, max_answer_bytes=65536, max_stream_bytes=65536
    ) as backend:
        with pytest.raises(error):
            await backend.ask(QUESTION, 5.0)
        if fault.name == "malformed":  # the first half of it is well formed
            assert (await collect(backend, seen))[-1].end == "truncated"
        else:
            with pytest.raises(error):
                await collect(backend, seen)
            assert seen == []


@pytest.mark.asyncio
async def test_no_cut_stream_is_ever_complete_wherever_it_is_cut(
    up: LightRAGEmulator,
) -> None:
    async with open_backend(up.url) as backend:
        await collect(backend)
        last_line = len('{"response_time": 0.132}\n')
        size = up.book[-1].bytes - last_line
        for after_bytes in range(0, size, size // 60):
            for fault in (Fault.cut(after_bytes), Fault.cut_unframed(after_bytes)):
                up.faults = [fault]
                seen: list[Chunk] = []
                try:
                    await collect(backend, seen)
                except BadAnswer:
                    assert seen == []
                else:
                    assert seen[-1].end == "truncated"
                    assert all(chunk.end == "" for chunk in seen[:-1])


@pytest.mark.asyncio
async def test_logs_in_once_and_again_when_the_token_is_gone(
    up: LightRAGEmulator, account: dict[str, Any]
) -> None:
    up.accounts = {"ada": "canary-4711"}
    async with open_backend(up.url, **account) as backend:
        assert (await backend.ping(5.0)).ok
        await backend.ask(QUESTION, 5.0)
        up.expire_tokens()
        await backend.ask(QUESTION, 5.0)
        up.renew_tokens = True
        await backend.ask(QUESTION, 5.0)
        await collect(backend)
    paths = [request.path for request in up.requests]
    assert paths.count("/login") == 2


@pytest.mark.asyncio
async def test_a_wrong_key_is_a_misconfiguration_that_the_ping_sees(
    up: LightRAGEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_LIGHTRAG_KEY", "wrong")
    up.api_key = "right"
    async with open_backend(up.url, api_key_env=EnvVar("TEST_LIGHTRAG_KEY")) as backend:
        with pytest.raises(BackendMisconfigured):
            await backend.ask(QUESTION, 5.0)
        assert not (await backend.ping(5.0)).ok


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("question", "reason"),
    [("a", "invalid_request"), ("x" * 70_000, "context_length")],
)
async def test_a_question_the_server_refuses_is_no_answer(
    up: LightRAGEmulator, question: str, reason: str
) -> None:
    async with open_backend(up.url) as backend:
        with pytest.raises(NoAnswer) as caught:
            await backend.ask(Query(question), 5.0)
    assert caught.value.reason == reason


TURN = {"role": "user", "content": "Hello"}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "messages",
    [
        [TURN] * 130,
        [TURN | {"content": "x" * 40_000}, TURN],
        [*[TURN | {"content": "x" * 30_000}] * 5, TURN],
    ],
    ids=["too many", "one too long", "too much in all"],
)
@pytest.mark.parametrize("call", [read_ask, read_stream])
async def test_a_conversation_over_the_servers_limits_is_too_long(
    up: LightRAGEmulator, messages: list[dict[str, str]], call: Call
) -> None:
    query = Query("Which enzyme?", messages=tuple(messages))
    async with open_backend(up.url) as backend:
        with pytest.raises(NoAnswer) as caught:
            await call(backend, query, 5.0)
    assert caught.value.reason == "context_length"


@pytest.mark.asyncio
async def test_a_setting_the_server_refuses_is_a_misconfiguration(
    up: LightRAGEmulator,
) -> None:
    async with open_backend(up.url, chunk_top_k=1001) as backend:
        with pytest.raises(BackendMisconfigured):
            await backend.ask(QUESTION, 5.0)
