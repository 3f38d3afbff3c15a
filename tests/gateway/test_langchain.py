from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest
import pytest_asyncio
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from plb_core import BackendBusy, BadAnswer, NoAnswer
from tests.gateway.gateway_setup import Served

Connect = Callable[..., Any]
LISTED = (
    "An answer by one.\n\nSources:\n1. Cells - https://example.org/cells\n"
    "2. Notes on enzymes - notes/enzymes.md"
)


@pytest_asyncio.fixture
async def connect(served: Served) -> AsyncIterator[Callable[..., Any]]:
    """Return a function that makes a chat model; LangChain itself closes nothing."""
    async with openai.DefaultAsyncHttpxClient() as http:

        def make(kind: type = ChatOpenAI, **more: Any) -> Any:
            url = f"{served.url}/v1"
            more = {"model": "auto", **more}
            return kind(base_url=url, api_key="x", http_async_client=http, **more)

        yield make


@pytest.mark.asyncio
async def test_invoke_keeps_sources_backend_and_cost(connect: Connect) -> None:
    answer = await connect(include_response_headers=True).ainvoke("Cell?")
    assert answer.content == LISTED
    about = answer.response_metadata
    assert about["model_name"] == "upstream-model"
    assert about["system_fingerprint"] == "one"
    assert about["headers"]["x-plb-backend"] == "one"
    assert about["token_usage"]["cost_usd"] is None
    assert answer.usage_metadata["total_tokens"] == 18


@pytest.mark.asyncio
async def test_stream_yields_text_and_usage(connect: Connect) -> None:
    pieces = [p async for p in connect(stream_usage=True).astream("Cell?")]
    assert "".join(p.content for p in pieces) == LISTED
    assert sum(p.usage_metadata["total_tokens"] for p in pieces if p.usage_metadata)


@pytest.mark.asyncio
async def test_stream_without_usage_works_too(connect: Connect) -> None:
    pieces = [p async for p in connect().astream("Cell?")]
    assert "".join(p.content for p in pieces) == LISTED


@pytest.mark.asyncio
async def test_tools_can_be_bound(served: Served, connect: Connect) -> None:
    tool = {"name": "look", "description": "Looks.", "parameters": {}}
    await connect().bind_tools([tool]).ainvoke("Cell?")
    assert served.one.queries[0].needs == {"tools"}


@pytest.mark.parametrize(
    ("failure", "kind", "calls"),
    [
        (NoAnswer("x"), openai.UnprocessableEntityError, 1),
        (BadAnswer("x"), openai.InternalServerError, 1),
        # Retried by the client, after the wait that the gateway names.
        (BackendBusy("x", retry_after_s=0.01), openai.RateLimitError, 3),
    ],
)
@pytest.mark.asyncio
async def test_errors_keep_their_class(
    served: Served,
    connect: Connect,
    failure: Exception,
    kind: type[Exception],
    calls: int,
) -> None:
    served.one.failures = [failure] * 5
    with pytest.raises(kind):
        await connect().ainvoke("Cell?")
    assert len(served.one.queries) == calls


@pytest.mark.asyncio
async def test_a_cut_stream_raises(served: Served, connect: Connect) -> None:
    served.one.ends = "truncated"
    with pytest.raises(openai.APIError):
        async for _ in connect().astream("Cell?"):
            pass


@pytest.mark.asyncio
async def test_embeddings_need_the_length_check_switched_off(connect: Connect) -> None:
    # Otherwise LangChain sends token numbers.
    made = connect(OpenAIEmbeddings, model="one", check_embedding_ctx_length=False)
    assert await made.aembed_documents(["ab"]) == [[2.0, 0.5]]
