from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from plb_core import BackendRefused, BackendTimeout, BadAnswer, NoAnswer
from plb_core.testing.emulators import Fault, PerplexityEmulator
from tests.plugins.perplexity.bench import QUERY, asked, built, streamed


def paths(up: PerplexityEmulator) -> list[str]:
    return [f"{each.method} {each.path}" for each in up.requests]


@pytest.mark.asyncio
@pytest.mark.parametrize("effort", ["medium", "high", "xhigh", "medium@2026-10-16.0"])
async def test_long_efforts_run_in_the_background(
    up: PerplexityEmulator, effort: str
) -> None:
    up.polls = 2
    answer = await asked(built(up, effort=effort))
    assert answer.sources
    assert answer.cost_micro_usd == up.billed_micro_usd
    assert up.requests[0].fields["background"] is True
    look = "GET /v1/responses/resp_000000"
    assert paths(up) == ["POST /v1/responses", look, look, look]


@pytest.mark.asyncio
async def test_a_background_stream_brings_its_text_at_once(
    up: PerplexityEmulator,
) -> None:
    texts, end, answer = await streamed(built(up, effort="medium"))
    assert end == "complete"
    assert answer is not None
    assert texts == [answer.text]
    assert "stream" not in up.requests[0].fields


@pytest.mark.asyncio
async def test_a_run_that_is_done_at_once_is_not_looked_at(
    up: PerplexityEmulator,
) -> None:
    done = {
        "status": "completed",
        "output": [{"type": "message", "content": [{"text": "Done."}]}],
    }
    up.faults = [Fault.status(200, body=done)]
    assert (await asked(built(up, effort="medium"))).text == "Done."
    assert len(up.requests) == 1


@pytest.mark.asyncio
async def test_a_run_is_cancelled_when_time_is_up(up: PerplexityEmulator) -> None:
    up.polls = 10**9
    backend = built(up, effort="high")
    await backend.start()
    with pytest.raises(BackendTimeout):
        await backend.ask(QUERY, 0.2)
    await backend.close()
    assert paths(up)[-1] == "POST /v1/responses/resp_000000/cancel"
    assert up._runs["resp_000000"].response["status"] == "cancelled"


@pytest.mark.asyncio
async def test_a_run_is_cancelled_when_the_caller_goes_away(
    up: PerplexityEmulator,
) -> None:
    up.polls = 10**9
    backend = built(up, effort="high")
    await backend.start()
    task = asyncio.create_task(backend.ask(QUERY, 30.0))
    await up.until(lambda: len(up.requests) > 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await up.until(lambda: paths(up)[-1].endswith("/cancel"))
    await backend.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "fault", [Fault.reset(), Fault.status(400)], ids=["reset", "finished meanwhile"]
)
async def test_a_failed_cancellation_is_let_go(
    up: PerplexityEmulator, fault: Fault
) -> None:
    up.polls = 10**9
    up.faults = lambda call: fault if call.request.path.endswith("/cancel") else None
    backend = built(up, effort="high")
    await backend.start()
    with pytest.raises(BackendTimeout):
        await backend.ask(QUERY, 0.2)
    await backend.close()
    assert paths(up)[-1].endswith("/cancel")


@pytest.mark.asyncio
async def test_lost_looks_do_not_lose_a_paid_run(up: PerplexityEmulator) -> None:
    up.polls = 0
    up.faults = [None, Fault.status(503), Fault.reset(), None]
    answer = await asked(built(up, effort="medium"))
    assert answer.text
    assert len(up.book) == 1


@pytest.mark.asyncio
async def test_a_backend_that_stays_away_ends_the_run(up: PerplexityEmulator) -> None:
    up.faults = [None, *[Fault.status(500)] * 3]
    with pytest.raises(BackendRefused):
        await asked(built(up, effort="medium"))
    assert paths(up)[-1].endswith("/cancel")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.status(404), BadAnswer),
        (Fault.status(400), NoAnswer),
        (Fault.status(200, body=b"not json"), BadAnswer),
        (Fault.status(200, body={"status": "failed"}), BadAnswer),
        (Fault.status(200, body={"status": "cancelled"}), BadAnswer),
    ],
    ids=lambda value: getattr(value, "name", repr(value)),
)
async def test_a_look_that_ends_the_run_is_believed(
    up: PerplexityEmulator, fault: Fault, error: type[Exception]
) -> None:
    up.faults = [None, fault]
    with pytest.raises(error):
        await asked(built(up, effort="medium"))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "body",
    [
        {"status": "queued"},
        {"status": "queued", "id": ""},
        {"status": "queued", "id": 5},
        {"status": "in_progress", "id": "../models?x="},
        {"status": "queued", "id": "r" * 129},
    ],
    ids=repr,
)
async def test_a_run_without_a_usable_id_is_a_bad_answer(
    up: PerplexityEmulator, body: Mapping[str, object]
) -> None:
    up.faults = [Fault.status(200, body=body)]
    with pytest.raises(BadAnswer):
        await asked(built(up, effort="medium"))
    assert len(up.requests) == 1


@pytest.mark.asyncio
async def test_a_refused_submission_is_told_as_any_refusal(
    up: PerplexityEmulator,
) -> None:
    up.faults = [Fault.status(500)]
    with pytest.raises(BackendRefused):
        await asked(built(up, effort="medium"))
