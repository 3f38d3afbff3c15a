"""What the emulated Perplexity refuses, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from plb_core.testing.emulators import PerplexityEmulator
from tests.testing.emulator_client import Client

KEY = {"authorization": "Bearer canary"}
ASK: dict[str, Any] = {"input": "What does metformin do?", "effort": "fast"}


def searching(**filters: object) -> dict[str, object]:
    tool = {"type": "web_search", "filters": filters}
    return {"input": "x", "model": "perplexity/sonar", "tools": ["odd", {}, tool]}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"effort": "fast"}, "input cannot be empty"),
        ({"input": "  ", "effort": "fast"}, "input cannot be empty"),
        ({"input": [], "effort": "fast"}, "input cannot be empty"),
        (
            {"input": [{"role": "assistant", "content": "x"}], "effort": "fast"},
            "input cannot be empty",
        ),
        ({"input": "x", "effort": "huge"}, "effort must be one of fast, low"),
        ({"input": "x"}, "one of model, models, effort, preset is required"),
        (
            {"input": "x", "model": "anthropic/claude-haiku-5"},
            "max_output_tokens is required when using Anthropic models",
        ),
        (ASK | {"max_steps": 0}, "max steps must be at least 1"),
        (ASK | {"max_steps": "many"}, "max steps must be at least 1"),
        (
            searching(search_recency_filter="decade"),
            "tools[2]: search recency filter must be one of: hour, day",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_invalid_request_is_a_400_that_names_the_failed_check(
    http: Client, body: object, says: str
) -> None:
    async with PerplexityEmulator() as up:
        got = await http(up.url + "/v1/responses", body, headers=KEY)
        assert up.book == []
    assert got.status == got.json["error"]["code"] == 400
    assert got.json["error"]["type"] == "invalid_request"
    assert got.json["error"]["message"].startswith(f"validation failed: {says}")


@pytest.mark.asyncio
async def test_an_unknown_model_is_a_400_of_its_own_type(http: Client) -> None:
    async with PerplexityEmulator() as up:
        body = {"input": "x", "model": "sonar"}
        got = await http(up.url + "/v1/responses", body, headers=KEY)
    assert got.status == 400
    assert got.json["error"]["type"] == "invalid_model"
    assert got.json["error"]["message"].endswith("is not supported")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "body",
    [
        searching(search_recency_filter="year"),
        searching(),
        {"input": "x", "model": "anthropic/claude-haiku-5", "max_output_tokens": 9},
        ASK | {"max_steps": 1},
    ],
)
async def test_a_request_within_the_rules_is_answered(
    http: Client, body: object
) -> None:
    async with PerplexityEmulator() as up:
        got = await http(up.url + "/v1/responses", body, headers=KEY)
    assert got.status == 200
