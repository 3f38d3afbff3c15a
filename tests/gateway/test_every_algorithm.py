"""Each algorithm, chosen by one line of TOML, answers over HTTP from real servers."""

from __future__ import annotations

from contextlib import AsyncExitStack

import aiohttp
import pytest

from plb_core.balancer import Balancer
from plb_core.config import read_text
from plb_core.loader import Loader
from plb_core.source import read_source
from plb_core.testing.emulators import LightRAGEmulator, OpenAIEmulator

ALGORITHMS = [
    plugin.name
    for plugin in Loader().installed()
    if plugin.distribution == "plb" and "algorithm" in read_source(plugin.module).kinds
]

CONFIG = """
[routing]
classifier = "biomedical"
cost_scorer = "tokens"
quality_scorer = "basic"

[backend.documents]
region = "eu-central-1"

[backend.papers]
plugin = "lightrag"
base_url = "{lightrag}"
region = "us-east-1"

[backend.model]
plugin = "openai"
base_url = "{openai}/v1"
model = "gpt-test"
allow_private = true
region = "eu-west-1"

[algorithm.custom]
score = "quality - 0.3*cost_usd - latency_s"

[service.gateway]
port = 0

[track.main]
algorithm = "{algorithm}"
"""

QUESTIONS = [
    "What are metabolic pathways?",
    "How does insulin lower blood glucose?",
    "What is the latest news on metformin?",
    "Explain glycolysis.",
] * 3


@pytest.mark.asyncio
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_an_algorithm_chosen_by_one_line_answers_over_http(
    algorithm: str,
) -> None:
    async with AsyncExitStack() as stack:
        lightrag = await stack.enter_async_context(LightRAGEmulator())
        openai = await stack.enter_async_context(OpenAIEmulator())
        text = CONFIG.format(
            lightrag=lightrag.url, openai=openai.url, algorithm=algorithm
        )
        balancer = Balancer(read_text(text), seed=7)
        await stack.enter_async_context(balancer)
        service = balancer.plan.services["gateway"]
        (url,) = await service.start(balancer)
        stack.push_async_callback(service.close)
        client = await stack.enter_async_context(aiohttp.ClientSession())
        backends = set()
        for question in QUESTIONS:
            body = {
                "model": "auto",
                "messages": [{"role": "user", "content": question}],
            }
            async with client.post(f"{url}/v1/chat/completions", json=body) as answer:
                assert answer.status == 200, await answer.text()
                assert answer.headers["x-plb-algorithm"] == algorithm
                backends.add(answer.headers["x-plb-backend"])
                choice = (await answer.json())["choices"][0]
                assert choice["message"]["content"]
                request_id = answer.headers["x-request-id"]
            async with client.get(f"{url}/api/explain/{request_id}") as explained:
                attempts = (await explained.json())["attempts"]
                assert attempts[-1]["algorithm"] == algorithm
        assert backends <= {"documents", "papers", "model"}
        named = balancer.plan.algorithms[algorithm]
        assert named.failures == 0


def test_all_ten_are_tried() -> None:
    assert len(ALGORITHMS) == 10
