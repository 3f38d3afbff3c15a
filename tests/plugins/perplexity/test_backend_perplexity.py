from __future__ import annotations

from datetime import date

import attrs
import pytest

from plb_backend_perplexity.settings import SearchFilters
from plb_core import (
    BackendBusy,
    BackendMisconfigured,
    BackendRefused,
    BackendTimeout,
    BackendUnreachable,
    BadAnswer,
    NoAnswer,
)
from plb_core.testing.emulators import Fault, PerplexityEmulator
from tests.plugins.perplexity.bench import (
    KEY,
    QUERY,
    asked,
    body_of,
    built,
    streamed,
)


@pytest.mark.asyncio
async def test_an_answer_has_text_sources_usage_and_the_billed_cost(
    up: PerplexityEmulator,
) -> None:
    answer = await asked(built(up))
    assert "[1]" in answer.text
    assert answer.sources[0].url.startswith("https://")
    assert answer.usage is not None
    assert answer.usage.searches == 1
    assert answer.cost_micro_usd == up.billed_micro_usd > 0
    assert up.requests[0].path == "/v1/responses"
    assert up.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert body_of(up) == {"input": QUERY.text, "effort": "fast"}


@pytest.mark.asyncio
async def test_every_setting_reaches_the_request(up: PerplexityEmulator) -> None:
    search = SearchFilters(
        domains=("nature.com", "-example.org"),
        recency="month",
        after=date(2026, 1, 2),
        before=date(2026, 10, 9),
        context_size="low",
        type="fast",
        country="DE",
    )
    backend = built(
        up,
        effort="low@2026-10-16.0",
        model="perplexity/sonar",
        instructions="Be brief.",
        max_steps=3,
        max_output_tokens=700,
        search=search,
    )
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}
    options = {"temperature": 0.1, "top_p": 0.9, "response_format": form, "seed": 1}
    await asked(backend, attrs.evolve(QUERY, options=options))
    assert body_of(up) == {
        "input": QUERY.text,
        "effort": "low@2026-10-16.0",
        "model": "perplexity/sonar",
        "instructions": "Be brief.",
        "max_steps": 3,
        "max_output_tokens": 700,
        "temperature": 0.1,
        "top_p": 0.9,
        "response_format": form,
        "tools": [
            {
                "type": "web_search",
                "search_context_size": "low",
                "search_type": "fast",
                "user_location": {"country": "DE"},
                "filters": {
                    "search_domain_filter": ["nature.com", "-example.org"],
                    "search_recency_filter": "month",
                    "search_after_date_filter": "01/02/2026",
                    "search_before_date_filter": "10/09/2026",
                },
            }
        ],
    }


@pytest.mark.asyncio
async def test_a_bare_model_is_given_a_search_tool(up: PerplexityEmulator) -> None:
    answer = await asked(built(up, effort="", model="perplexity/sonar"))
    assert body_of(up)["tools"] == [{"type": "web_search"}]
    assert "effort" not in body_of(up)
    assert answer.sources


@pytest.mark.asyncio
async def test_the_questions_own_limit_wins_over_the_setting(
    up: PerplexityEmulator,
) -> None:
    query = attrs.evolve(QUERY, max_output_tokens=9)
    await asked(built(up, max_output_tokens=700), query)
    assert body_of(up)["max_output_tokens"] == 9


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("requested", "models", "sent"),
    [
        ("auto", {"*": "*"}, {"effort": "fast"}),
        ("pplx", {"*": "*"}, {"effort": "fast"}),
        ("unlisted", {}, {"effort": "fast"}),
        (
            "sonar",
            {"sonar": "perplexity/sonar"},
            {"effort": "fast", "model": "perplexity/sonar"},
        ),
        ("sonar-pro", {"sonar-pro": "low"}, {"effort": "low"}),
    ],
)
async def test_the_requested_model_is_looked_up(
    up: PerplexityEmulator,
    requested: str,
    models: dict[str, str],
    sent: dict[str, str],
) -> None:
    await asked(built(up, models=models), attrs.evolve(QUERY, model=requested))
    assert body_of(up) == {"input": QUERY.text, **sent}


@pytest.mark.asyncio
async def test_an_unknown_model_blames_whoever_named_it(
    up: PerplexityEmulator,
) -> None:
    with pytest.raises(BackendMisconfigured):
        await asked(built(up, model="no/such-model"))
    query = attrs.evolve(QUERY, model="no/such-model")
    with pytest.raises(NoAnswer):
        await asked(built(up, models={"*": "*"}), query)
    with pytest.raises(BackendMisconfigured):
        await asked(built(up, models={"no/such-model": "*"}), query)
    with pytest.raises(NoAnswer):
        await streamed(built(up, models={"*": "*"}), query)


@pytest.mark.asyncio
async def test_a_conversation_keeps_its_roles_and_loses_its_parts(
    up: PerplexityEmulator,
) -> None:
    parts = [{"type": "text", "text": "What"}, {"type": "text", "text": "now?"}]
    talk = (
        {"role": "system", "content": "Be kind."},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": parts, "name": "dropped"},
    )
    await asked(built(up), attrs.evolve(QUERY, messages=talk))
    assert body_of(up)["input"] == [
        {"type": "message", "role": "system", "content": "Be kind."},
        {"type": "message", "role": "assistant", "content": "Hello."},
        {"type": "message", "role": "user", "content": "What\nnow?"},
    ]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "42"},
        {"role": ["user"], "content": "x"},
        {"content": "x"},
        {"role": "assistant", "content": "x", "tool_calls": [{}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
        {"role": "user", "content": []},
        {"role": "user", "content": None},
    ],
    ids=repr,
)
async def test_what_cannot_be_said_to_perplexity_is_no_answer(
    up: PerplexityEmulator, message: dict[str, object]
) -> None:
    with pytest.raises(NoAnswer) as caught:
        await asked(built(up), attrs.evolve(QUERY, messages=(message,)))
    assert caught.value.reason == "invalid_request"
    assert not up.requests


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "hidden", ["failed", "incomplete", "cancelled", "requires_action", "no_text"]
)
async def test_a_failure_behind_200_is_a_bad_answer(
    up: PerplexityEmulator, hidden: str
) -> None:
    up.hidden = hidden
    with pytest.raises(BadAnswer):
        await asked(built(up))
    with pytest.raises(BadAnswer):
        await streamed(built(up))
    with pytest.raises(BadAnswer):
        await asked(built(up, effort="high"))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.status(401), BackendMisconfigured),
        (Fault.status(402), BackendMisconfigured),
        (Fault.status(403), BackendMisconfigured),
        (Fault.status(429), BackendBusy),
        (Fault.status(500), BackendRefused),
        (Fault.status(503), BackendRefused),
        (Fault.redirect("http://127.0.0.1:9/"), BackendRefused),
        (Fault.status(200, body=b"<html>"), BadAnswer),
        (Fault.status(200, body=b""), BadAnswer),
        (Fault.status(204, body=b""), BadAnswer),
        (Fault.status(200, body=b'{"status":"completed","a":1,"a":2}'), BadAnswer),
        (Fault.cut(40), BadAnswer),
        (Fault.reset(), BackendUnreachable),
    ],
    ids=lambda value: getattr(value, "name", repr(value)),
)
async def test_a_broken_answer_is_the_backends_failure_streamed_or_not(
    up: PerplexityEmulator, fault: Fault, error: type[Exception]
) -> None:
    up.faults = [fault]
    with pytest.raises(error) as caught:
        await asked(built(up))
    assert KEY not in str(caught.value)
    up.faults = [fault]
    with pytest.raises(error):
        await streamed(built(up))


@pytest.mark.asyncio
async def test_a_silent_backend_times_out(up: PerplexityEmulator) -> None:
    up.faults = [Fault.hang()]
    with pytest.raises(BackendTimeout):
        await asked(built(up, first_byte_timeout_s=0.1))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "ok", "detail"),
    [
        (None, True, ""),
        (Fault.status(401), False, "status 401"),
        (Fault.status(404), False, "status 404"),
        (Fault.reset(), False, "backend_unreachable"),
        (Fault.hang(), False, "timeout"),
    ],
    ids=lambda value: getattr(value, "name", repr(value)),
)
async def test_a_probe_asks_for_the_models_and_bills_nothing(
    up: PerplexityEmulator, fault: Fault | None, ok: bool, detail: str
) -> None:
    up.faults = [fault]
    backend = built(up)
    await backend.start()
    probe = await backend.ping(0.3)
    await backend.close()
    assert probe.ok is ok
    assert detail in probe.detail
    assert not up.book
    assert up.requests[0].path == "/v1/models"
