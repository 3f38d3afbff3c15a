"""The answers that the emulated LightRAG server keeps."""

from __future__ import annotations

import pytest

from plb_core.testing.emulators import LightRAGEmulator
from plb_core.types import Price
from tests.testing.emulator_client import SHAPES, Client, shape

QUESTION = {"query": "How do metformin and insulin lower glucose?", "mode": "mix"}


@pytest.mark.asyncio
async def test_a_stream_of_a_warm_cache_is_one_line_with_everything(
    http: Client,
) -> None:
    async with LightRAGEmulator(cache="warm") as up:
        (line,) = (await http(up.url + "/query/stream", QUESTION)).lines
    assert shape(line) == SHAPES["lightrag cached line"]
    assert line["llm_generated"] is True


@pytest.mark.asyncio
async def test_only_answers_of_query_are_kept_and_they_cost_nothing_again(
    http: Client,
) -> None:
    price = Price(request_micro_usd=7)
    async with LightRAGEmulator(cache="on", price=price) as up:

        async def lines(path: str) -> int:
            return len((await http(up.url + path, QUESTION)).lines)

        assert await lines("/query/stream") > 1
        assert await lines("/query/stream") > 1
        first = (await http(up.url + "/query", QUESTION)).json
        again = (await http(up.url + "/query", QUESTION)).json
        assert await lines("/query/stream") == 1
    assert first == again
    assert [call.micro_usd for call in up.book] == [7, 7, 7, 0, 0]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "change",
    [
        {"mode": "naive"},
        {"mode": "bypass"},
        {"top_k": 3},
        {"user_prompt": "Be brief."},
        {"conversation_history": [{"role": "user", "content": "Hello"}]},
    ],
)
async def test_another_way_to_ask_is_answered_anew(
    http: Client, change: dict[str, object]
) -> None:
    async with LightRAGEmulator(cache="on") as up:
        await http(up.url + "/query", QUESTION)
        assert len((await http(up.url + "/query/stream", QUESTION)).lines) == 1
        got = await http(up.url + "/query/stream", QUESTION | change)
    assert len(got.lines) > 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "change",
    [
        {"mode": "bypass"},
        {"conversation_history": [{"role": "user", "content": "Hello"}]},
    ],
)
async def test_answers_without_retrieval_or_in_a_conversation_are_not_kept(
    http: Client, change: dict[str, object]
) -> None:
    async with LightRAGEmulator(cache="on", price=Price(0, 0, 5)) as up:
        for _ in range(2):
            await http(up.url + "/query", QUESTION | change)
        assert [call.micro_usd for call in up.book] == [5, 5]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("hidden", "generated"),
    [
        ("llm_down", True),
        ("llm_refused", True),
        ("stream_breaks", True),
        ("embeddings_down", False),
        ("empty_store", False),
    ],
)
async def test_a_kept_answer_outlives_its_language_model_but_not_the_embedder(
    http: Client, hidden: str, generated: bool
) -> None:
    async with LightRAGEmulator(cache="on") as up:
        await http(up.url + "/query", QUESTION)
        up.hidden = hidden
        whole = (await http(up.url + "/query", QUESTION)).json
        (line,) = (await http(up.url + "/query/stream", QUESTION)).lines
    assert whole["llm_generated"] is line["llm_generated"] is generated
