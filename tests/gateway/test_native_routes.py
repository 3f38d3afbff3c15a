from __future__ import annotations

import json
from typing import Any

import pytest

from plb_core import Answer, NoAnswer
from tests.gateway.gateway_raw import get, parsed, post, refusal, send
from tests.gateway.gateway_setup import Serve, Served


@pytest.mark.asyncio
async def test_a_question_gets_an_answer_with_its_story(served: Served) -> None:
    body = {
        "question": "What is a cell?",
        "model": "main",
        "session": "s",
        "region": "eu-west",
        "max_cost_usd": 0.29,
        "max_output_tokens": 50,
        "attributes": {"team": "bio"},
        "stream": False,
    }
    status, answer = await send(served, body, "/api/query")
    assert status == 200
    assert answer["answer"] == "An answer by one."
    assert answer["sources"][0] == {
        "title": "Cells",
        "url": "https://example.org/cells",
        "quote": "Cells live.",
        "published": "2026-01-02",
    }
    assert answer["backend"] == "one"
    assert answer["track"] == "main"
    assert answer["algorithm"] == "round_robin"
    assert answer["usage"]["output_tokens"] == 7
    assert answer["latency_ms"] > 0
    assert answer["cost_usd"] is None
    query = served.one.queries[0]
    assert query.budget_micro_usd == 290_000
    assert query.session == "s"
    assert query.region == "eu-west"
    assert query.attributes == {"team": "bio"}
    assert query.max_output_tokens == 50


@pytest.mark.asyncio
async def test_cost_quality_and_label_are_shown(served: Served) -> None:
    served.one.answer = Answer("Text.", cost_micro_usd=1500, label="Starter.")
    _, answer = await send(served, {"question": "x"}, "/api/query")
    assert answer["cost_usd"] == 0.0015
    assert answer["label"] == "Starter."
    assert answer["answer"] == "Text."
    assert answer["usage"] is None
    assert answer["quality"] is None


VALUE = "invalid_value"
WRONG_QUERIES = [
    ({}, "missing_field", "question"),
    ({"question": None}, "missing_field", "question"),
    ({"question": 3}, VALUE, "question"),
    ({"question": "  "}, VALUE, "question"),
    ({"question": "x", "model": "ftp://x"}, VALUE, "model"),
    ({"question": "x", "session": 3}, VALUE, "session"),
    ({"question": "x", "region": "a\nb"}, VALUE, "region"),
    ({"question": "x", "max_cost_usd": -1}, VALUE, "max_cost_usd"),
    ({"question": "x", "max_output_tokens": 0}, VALUE, "max_output_tokens"),
    ({"question": "x", "attributes": []}, VALUE, "attributes"),
    ({"question": "x", "attributes": {"a": 1}}, VALUE, "attributes.a"),
    (
        {"question": "x", "attributes": {str(n): "x" for n in range(17)}},
        VALUE,
        "attributes",
    ),
    ({"question": "x", "stream": True}, "unsupported_field", "stream"),
]


@pytest.mark.parametrize(("body", "code", "param"), WRONG_QUERIES)
@pytest.mark.asyncio
async def test_a_wrong_query_field_is_named(
    served: Served, body: Any, code: str, param: str
) -> None:
    assert await refusal(served, body, "/api/query") == (code, param)


@pytest.mark.parametrize(
    ("verdict", "taken"),
    [
        ({"rating": 1}, {"user_satisfaction": 1}),
        ({"rating": 0.25}, {"user_satisfaction": 0.25}),
        ({"dimensions": {"relevance": 0.5}}, {"relevance": 0.5}),
    ],
)
@pytest.mark.asyncio
async def test_feedback_reaches_the_backends_quality(
    served: Served, verdict: dict[str, Any], taken: dict[str, float]
) -> None:
    _, answer = await send(served, {"question": "x"}, "/api/query")
    body = {"request_id": answer["request_id"], **verdict}
    status, accepted = await send(served, body, "/api/feedback")
    assert status == 200
    assert accepted == {"request_id": answer["request_id"], "accepted": taken}
    (quality,) = taken.values()
    assert served.balancer.plan.candidates["one"].quality_mean == quality


@pytest.mark.asyncio
async def test_feedback_on_an_unknown_request_is_404(served: Served) -> None:
    body = {"request_id": "req_none", "rating": 1}
    status, answer = await send(served, body, "/api/feedback")
    assert status == 404
    assert answer["error"]["code"] == "request_not_found"


WRONG_FEEDBACK = [
    ({"rating": 1}, "missing_field", "request_id"),
    ({"request_id": 1, "rating": 1}, VALUE, "request_id"),
    ({"request_id": "x"}, VALUE, "rating"),
    ({"request_id": "x", "rating": 1, "dimensions": {"a": 1}}, VALUE, "rating"),
    ({"request_id": "x", "rating": 1.1}, VALUE, "rating"),
    ({"request_id": "x", "rating": "good"}, VALUE, "rating"),
    ({"request_id": "x", "dimensions": {}}, VALUE, "dimensions"),
    ({"request_id": "x", "dimensions": {"a": 2}}, VALUE, "dimensions.a"),
]


@pytest.mark.parametrize(("body", "code", "param"), WRONG_FEEDBACK)
@pytest.mark.asyncio
async def test_a_wrong_feedback_field_is_named(
    served: Served, body: Any, code: str, param: str
) -> None:
    assert await refusal(served, body, "/api/feedback") == (code, param)


@pytest.mark.asyncio
async def test_explains_answered_and_failed_requests(served: Served) -> None:
    _, answer = await send(served, {"question": "x"}, "/api/query")
    status, _, why = await get(served, f"/api/explain/{answer['request_id']}")
    assert status == 200
    assert why["attempts"][0]["backend"] == "one"
    served.one.failures = [NoAnswer("x")]
    start = b"POST /api/query HTTP/1.1\r\n"
    refused = await served.raw(post(b'{"question":"x"}', start=start))
    _, headers, _ = parsed(refused)
    _, _, why = await get(served, f"/api/explain/{headers['x-request-id']}")
    assert why["attempts"][0]["result"] == "no_answer"


@pytest.mark.asyncio
async def test_readiness_follows_the_backends(served: Served) -> None:
    assert (await get(served, "/readyz"))[0] == 200
    served.balancer.plan.candidates["one"].health = "unhealthy"
    status, headers, body = await get(served, "/readyz")
    assert status == 503
    assert headers["retry-after"] == "1"
    assert body["error"]["code"] == "not_ready"
    assert (await get(served, "/healthz"))[0] == 200


@pytest.mark.asyncio
async def test_a_name_unfit_for_a_header_is_escaped(serve: Serve) -> None:
    served = await serve(more='[track."é x"]\nalgorithm = "round_robin"\n')
    data = json.dumps({"question": "x", "model": "é x"}).encode()
    answer = await served.raw(post(data, start=b"POST /api/query HTTP/1.1\r\n"))
    status, headers, body = parsed(answer)
    assert status == 200
    assert headers["x-plb-track"] == "%C3%A9 x"
    assert body["track"] == "é x"
