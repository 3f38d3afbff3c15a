"""Background runs of the emulated Perplexity."""

from __future__ import annotations

from typing import Any

import pytest

from plb_core.testing.emulators import PerplexityEmulator
from tests.testing.emulator_client import SHAPES, Client, shape

KEY = {"authorization": "Bearer canary"}
ASK: dict[str, Any] = {"input": "What does metformin do?", "effort": "fast"}


@pytest.mark.asyncio
async def test_a_background_run_is_polled_until_it_is_done(http: Client) -> None:
    async with PerplexityEmulator(polls=2) as up:
        body = {**ASK, "background": True}
        queued = (await http(up.url + "/v1/agent", body, headers=KEY)).json
        url = f"{up.url}/v1/agent/{queued['id']}"
        polls = [await http(url, method="GET", headers=KEY) for _ in range(4)]
        statuses = [poll.json["status"] for poll in polls]
        assert len(up.book) == 1
    assert queued["status"] == "queued"
    assert statuses == ["in_progress", "in_progress", "completed", "completed"]
    assert shape(polls[-1].json) == SHAPES["perplexity response"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({"effort": "medium"}, "medium"),
        ({"effort": "high@2026-10-16.0", "model": "perplexity/sonar"}, "high@2026"),
        ({"model": "perplexity/sonar"}, "perplexity/sonar"),
    ],
)
async def test_a_queued_run_shows_its_effort_as_its_model(
    http: Client, asked: dict[str, str], shown: str
) -> None:
    async with PerplexityEmulator(polls=0) as up:
        body = {"input": "What is insulin?", "background": True, **asked}
        queued = (await http(up.url + "/v1/responses", body, headers=KEY)).json
        url = f"{up.url}/v1/responses/{queued['id']}"
        done = (await http(url, method="GET", headers=KEY)).json
    assert queued["model"].startswith(shown)
    assert done["model"] == asked.get("model", "openai/gpt-6-luna")


@pytest.mark.asyncio
async def test_a_background_run_can_be_cancelled_until_it_is_finished(
    http: Client,
) -> None:
    async with PerplexityEmulator(polls=3) as up:
        body = {**ASK, "background": True}
        queued = (await http(up.url + "/v1/responses", body, headers=KEY)).json
        url = f"{up.url}/v1/responses/{queued['id']}"
        assert (await http(url, headers=KEY)).status == 405
        cancel = await http(url + "/cancel", headers=KEY)
        later = await http(url, method="GET", headers=KEY)
        late = await http(url + "/cancel", headers=KEY)
        missing = await http(up.url + "/v1/agent/none", method="GET", headers=KEY)
    assert cancel.json == {"response_id": queued["id"], "status": "cancelling"}
    assert later.json["status"] == later.json["error"]["code"] == "cancelled"
    assert later.json["incomplete_details"] == {"reason": "cancelled"}
    assert later.json["output"] == []
    assert late.status == late.json["error"]["code"] == 400
    assert missing.status == 404


@pytest.mark.asyncio
async def test_a_run_that_will_fail_is_in_progress_without_an_error(
    http: Client,
) -> None:
    async with PerplexityEmulator(hidden="failed") as up:
        body = {**ASK, "background": True}
        queued = (await http(up.url + "/v1/responses", body, headers=KEY)).json
        url = f"{up.url}/v1/responses/{queued['id']}"
        running, failed = [
            (await http(url, method="GET", headers=KEY)).json for _ in range(2)
        ]
    assert queued["error"] is running["error"] is None
    assert running["status"] == "in_progress"
    assert failed["error"]["code"] == "server_error"
