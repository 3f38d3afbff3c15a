from __future__ import annotations

import pytest

from plb_backend_perplexity.search_api import PerplexitySearch, plb_register_backend
from plb_backend_perplexity.settings import SearchApiSettings, SearchFilters
from plb_core import (
    Answer,
    BackendBusy,
    BackendMisconfigured,
    BadAnswer,
    Chunk,
    ConfigError,
    NoAnswer,
    Price,
    Usage,
)
from plb_core.testing import fakes
from plb_core.testing.emulators import Fault, PerplexityEmulator
from tests.plugins.perplexity.bench import QUERY, body_of


def search(up: PerplexityEmulator, **set_to: object) -> PerplexitySearch:
    settings = SearchApiSettings(
        base_url=up.url,
        allow_private=True,
        **set_to,  # type: ignore[arg-type]  # settings by name
    )
    return PerplexitySearch(settings, fakes.context("found"))


async def asked(backend: PerplexitySearch) -> Answer:
    await backend.start()
    try:
        return await backend.ask(QUERY, 5.0)
    finally:
        await backend.close()


@pytest.mark.asyncio
async def test_results_are_quoted_with_numbers_titles_and_sources(
    up: PerplexityEmulator,
) -> None:
    answer = await asked(search(up, max_results=2))
    first = answer.sources[0]
    assert answer.text.startswith(f"[1] {first.title}\n{first.quote}\n\n[2] ")
    assert len(answer.sources) == 2
    assert not answer.llm_generated
    assert answer.label
    assert answer.usage == Usage(searches=1)
    assert answer.cost_micro_usd is None
    assert body_of(up) == {"query": QUERY.text, "max_results": 2}


@pytest.mark.asyncio
async def test_search_settings_reach_the_request(up: PerplexityEmulator) -> None:
    filters = SearchFilters(
        domains=("x.org",),
        recency="week",
        context_size="low",
        type="fast",
        country="DE",
    )
    await asked(search(up, search=filters))
    assert body_of(up) == {
        "query": QUERY.text,
        "max_results": 5,
        "search_domain_filter": ["x.org"],
        "search_recency_filter": "week",
        "search_context_size": "low",
        "search_type": "fast",
        "country": "DE",
    }


@pytest.mark.parametrize(
    ("kind", "micro_usd"), [("fast", 1_000), ("web", 5_000), (None, 5_000)]
)
@pytest.mark.asyncio
async def test_the_price_is_that_of_one_request(
    up: PerplexityEmulator, kind: str | None, micro_usd: int
) -> None:
    backend = search(up, search=SearchFilters(type=kind))  # type: ignore[arg-type]
    price = backend.traits.price
    assert price is not None
    assert price == Price(request_micro_usd=micro_usd, as_of=price.as_of)
    assert price.as_of is not None
    await asked(backend)
    assert up.billed_micro_usd == micro_usd


@pytest.mark.asyncio
async def test_a_stream_brings_everything_in_one_piece(up: PerplexityEmulator) -> None:
    backend = search(up)
    await backend.start()
    chunks = [chunk async for chunk in backend.stream(QUERY, 5.0)]
    await backend.close()
    answer = chunks[-1].answer
    assert answer is not None
    assert chunks == [Chunk(answer.text), Chunk(end="complete", answer=answer)]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "results",
    [
        [],
        [None, 3],
        [{"title": "t", "url": "https://x.example/", "snippet": "  "}],
        [{"title": "t", "url": "javascript:1", "snippet": "text"}],
    ],
    ids=repr,
)
async def test_nothing_usable_found_is_no_answer(
    up: PerplexityEmulator, results: list[object]
) -> None:
    up.faults = [Fault.status(200, body={"results": results})]
    with pytest.raises(NoAnswer) as caught:
        await asked(search(up))
    assert caught.value.reason == "not_found"


@pytest.mark.asyncio
async def test_more_results_than_asked_for_are_left_out(up: PerplexityEmulator) -> None:
    result = {"title": "t", "url": "https://x.example/", "snippet": "text"}
    up.faults = [Fault.status(200, body={"results": [result] * 9})]
    assert len((await asked(search(up, max_results=3))).sources) == 3


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.status(200, body={"results": None}), BadAnswer),
        (Fault.status(200, body=[]), BadAnswer),
        (Fault.status(200, body=b"<html>"), BadAnswer),
        (Fault.status(401), BackendMisconfigured),
        (Fault.status(429), BackendBusy),
    ],
    ids=lambda value: getattr(value, "name", repr(value)),
)
async def test_a_broken_search_is_the_backends_failure(
    up: PerplexityEmulator, fault: Fault, error: type[Exception]
) -> None:
    up.faults = [fault]
    with pytest.raises(error):
        await asked(search(up))


@pytest.mark.asyncio
async def test_a_probe_does_not_search(up: PerplexityEmulator) -> None:
    backend = search(up)
    await backend.start()
    probe = await backend.ping(5.0)
    await backend.close()
    assert probe.ok
    assert not up.book


def test_more_than_twenty_results_are_refused(up: PerplexityEmulator) -> None:
    with pytest.raises(ConfigError, match=r"backend\.found\.max_results"):
        search(up, max_results=21)


def test_the_plugin_registers_under_its_name() -> None:
    assert plb_register_backend().name == "perplexity_search"
