"""The backend against what the service was seen to do beyond the simple case."""

from __future__ import annotations

import asyncio
import re

import aiohttp
import pytest

from plb_core import (
    BackendBusy,
    BackendMisconfigured,
    BadAnswer,
    NoAnswer,
    Query,
    RequestError,
)
from plb_core.testing.emulators import Fault, OpenAIEmulator, PerplexityEmulator
from tests.plugins.perplexity.bench import KEY, asked, built, streamed

SUGAR = Query("How do metformin and insulin lower glucose?")
NAMES = {"Insulin lowers": "Insulin", "Metformin makes": "Metformin"}


@pytest.mark.asyncio
async def test_marks_of_the_web_find_their_page_in_searches_out_of_order(
    up: PerplexityEmulator,
) -> None:
    up.citations = "web"
    answer = await asked(built(up), SUGAR)
    marks = re.findall(r"(\S+ \S+)[^.[]*\. \[(\d+)\]", answer.text)
    assert "web:" not in answer.text
    assert {number for _, number in marks} == {"11", "12", "21"}
    titles = {words: answer.sources[int(number) - 1].title for words, number in marks}
    assert {words: titles[words] for words in NAMES} == NAMES
    assert len(answer.sources) == 21
    assert answer.usage is not None
    assert answer.usage.searches == 2
    assert answer.cost_micro_usd == up.billed_micro_usd


@pytest.mark.asyncio
async def test_a_stream_with_marks_of_the_web_equals_the_whole_answer(
    up: PerplexityEmulator,
) -> None:
    up.citations = "web"
    whole = await asked(built(up), SUGAR)
    texts, end, answer = await streamed(built(up), SUGAR)
    assert end == "complete"
    assert answer == whole
    assert "".join(texts) == whole.text
    assert not any("web:" in text for text in texts)


@pytest.mark.asyncio
async def test_pages_read_are_paid_as_billed_and_are_no_searches(
    up: PerplexityEmulator,
) -> None:
    plain = await asked(built(up), SUGAR)
    up.fetches = 7
    answer = await asked(built(up), SUGAR)
    assert answer.cost_micro_usd == up.book[-1].micro_usd
    assert up.book[-1].micro_usd > up.book[0].micro_usd + 7 * 500
    assert answer.usage is not None
    assert answer.usage.searches == 1
    assert answer.sources == plain.sources


@pytest.mark.asyncio
async def test_a_used_up_limit_is_waited_for_by_the_servers_own_clock(
    up: PerplexityEmulator,
) -> None:
    up.rate_limit_remaining = 0
    up.epoch_s = 2_000_000_000
    up.rate_limit_reset = 2_000_000_007
    up.faults = [Fault.busy()]
    with pytest.raises(BackendBusy) as caught:
        await asked(built(up))
    assert caught.value.retry_after_s == 7


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("models", "model", "error"),
    [
        ({"*": "*"}, "openai/gpt-none", NoAnswer),
        ({"smart": "openai/gpt-none"}, "smart", BackendMisconfigured),
        ({"*": "*"}, "anthropic/claude-haiku-5", NoAnswer),
        ({"smart": "anthropic/claude-haiku-5"}, "smart", BackendMisconfigured),
    ],
)
async def test_a_refused_model_blames_whoever_chose_it(
    up: PerplexityEmulator,
    models: dict[str, str],
    model: str,
    error: type[RequestError],
) -> None:
    with pytest.raises(error):
        await asked(built(up, models=models), Query("What is ATP?", model=model))


@pytest.mark.asyncio
async def test_a_run_that_somebody_else_cancels_is_a_bad_answer(
    up: PerplexityEmulator,
) -> None:
    up.polls = 10**9
    backend = built(up, effort="high")
    await backend.start()
    asking = asyncio.create_task(backend.ask(SUGAR, 30.0))
    await up.until(lambda: len(up.requests) > 1)
    url = f"{up.url}/v1/responses/resp_000000/cancel"
    headers = {"authorization": f"Bearer {KEY}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, headers=headers) as answer,
    ):
        assert (await answer.json())["status"] == "cancelling"
    with pytest.raises(BadAnswer, match="cancelled"):
        await asking
    await backend.close()


@pytest.mark.asyncio
async def test_a_relays_full_context_is_told_as_such() -> None:
    async with OpenAIEmulator(api_key=KEY, context_tokens=3) as relay:
        backend = built(
            PerplexityEmulator(),
            base_url=f"{relay.url}/v1",
            api="chat",
            model="gpt-6-mini",
        )
        with pytest.raises(NoAnswer) as caught:
            await asked(backend, SUGAR)
    assert caught.value.reason == "context_length"
