"""What the tests of the Perplexity backends share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from plb_backend_perplexity.backend import Perplexity
from plb_backend_perplexity.settings import PerplexitySettings
from plb_core import Answer, ModelMap, Query
from plb_core.testing import fakes
from plb_core.testing.emulators import Fault, PerplexityEmulator

KEY = "pplx-canary-key"
QUERY = Query("What are metabolic pathways?")


def built(
    up: PerplexityEmulator, *, models: Mapping[str, str] | None = None, **set_to: Any
) -> Perplexity:
    settings = PerplexitySettings(
        **{
            "base_url": up.url,
            "allow_private": True,
            "poll_interval_s": 0.01,
            **set_to,
        }
    )
    table = ModelMap.from_table(models or {})
    return Perplexity(settings, fakes.context("pplx", models=table))


async def asked(backend: Perplexity, query: Query = QUERY) -> Answer:
    await backend.start()
    try:
        return await backend.ask(query, 5.0)
    finally:
        await backend.close()


async def streamed(
    backend: Perplexity, query: Query = QUERY
) -> tuple[list[str], str, Answer | None]:
    """Return the texts, the kind of end and the answer."""
    await backend.start()
    texts, end, answer = [], "", None
    try:
        async for chunk in backend.stream(query, 5.0):
            assert not end, "something came after the end"
            if chunk.text:
                texts.append(chunk.text)
            end, answer = chunk.end, chunk.answer
    finally:
        await backend.close()
    return texts, end, answer


def body_of(up: PerplexityEmulator) -> Mapping[str, object]:
    return up.requests[0].fields


def events(*listed: Mapping[str, object] | str) -> Fault:
    """Answer with these events as a stream."""
    lines = [each if isinstance(each, str) else json.dumps(each) for each in listed]
    data = "".join(f"data: {line}\n\n" for line in lines).encode()
    return Fault.status(200, body=data, headers={"content-type": "text/event-stream"})


def delta(text: object) -> dict[str, object]:
    return {"type": "response.output_text.delta", "delta": text}


def completed(*texts: str, **changes: object) -> dict[str, object]:
    content = [{"type": "output_text", "text": text} for text in texts]
    output = [{"type": "message", "role": "assistant", "content": content}]
    return {
        "type": "response.completed",
        "response": {"status": "completed", "output": output, **changes},
    }
