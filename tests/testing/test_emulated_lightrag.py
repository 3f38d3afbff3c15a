"""The emulated LightRAG server, held against recorded exchanges."""

from __future__ import annotations

import io
import json
from typing import Literal

import pytest

from plb_core.testing.emulators import Fault, LightRAGEmulator, Request
from plb_core.types import Price
from tests.testing.emulator_client import SHAPES, Client, shape

QUESTION = {"query": "How do metformin and insulin lower glucose?", "mode": "mix"}
HISTORY: list[object] = ["body", "conversation_history"]
TURN = {"role": "user", "content": "Hello"}


def talk(turns: object) -> dict[str, object]:
    return {"query": "And metformin?", "conversation_history": turns}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "more", "recorded"),
    [
        ("/query", {}, "lightrag /query"),
        ("/query", {"include_chunk_content": True}, "lightrag /query with chunks"),
        ("/query", {"only_need_context": True}, "lightrag /query"),
        ("/query/data", {"mode": "naive"}, "lightrag /query/data"),
    ],
)
async def test_replies_have_the_recorded_shape(
    http: Client, path: str, more: dict[str, object], recorded: str
) -> None:
    async with LightRAGEmulator() as up:
        got = await http(up.url + path, QUESTION | more)
    assert got.status == 200
    assert got.headers["content-type"] == "application/json"
    assert got.headers["server"] == "uvicorn"
    assert shape(got.json) == SHAPES[recorded]


@pytest.mark.asyncio
async def test_the_same_question_gets_the_same_cited_answer(http: Client) -> None:
    async with LightRAGEmulator() as up:
        first = (await http(up.url + "/query", QUESTION)).json
        second = (await http(up.url + "/query", QUESTION)).json
    assert first == second
    assert first["llm_generated"] is True
    assert "[1]" in first["response"]
    assert [entry["file_path"] for entry in first["references"]][:2] == [
        "insulin.md",
        "metformin.md",
    ]
    assert first["response"].endswith(first["references"][-1]["file_path"])


@pytest.mark.asyncio
async def test_a_question_about_nothing_known_is_answered_too(http: Client) -> None:
    async with LightRAGEmulator() as up:
        got = (await http(up.url + "/query", {"query": "zzqx qqzx"})).json
    assert got["references"][0]["file_path"] == "metabolic_pathways.md"


@pytest.mark.asyncio
async def test_a_stream_has_references_then_words_and_no_end_marker(
    http: Client,
) -> None:
    async with LightRAGEmulator() as up:
        whole = (await http(up.url + "/query", QUESTION)).json
        got = await http(up.url + "/query/stream", QUESTION)
    first, *rest = got.lines
    assert got.headers["content-type"] == "application/x-ndjson"
    assert got.headers["cache-control"] == "no-cache"
    assert got.headers["x-accel-buffering"] == "no"
    assert got.headers["transfer-encoding"] == "chunked"
    assert shape(first) == SHAPES["lightrag references line"]
    assert all(list(line) == ["response"] for line in rest)
    assert "".join(line["response"] for line in rest) == whole["response"]


@pytest.mark.asyncio
@pytest.mark.parametrize("cache", ["off", "warm"])
async def test_references_carry_their_text_or_stay_away_as_asked(
    http: Client, cache: Literal["off", "warm"]
) -> None:
    async with LightRAGEmulator(cache=cache) as up:
        body = {**QUESTION, "include_chunk_content": True}
        quoted = (await http(up.url + "/query/stream", body)).lines
        whole = (await http(up.url + "/query", body)).json
        body = {**QUESTION, "include_references": False}
        without = (await http(up.url + "/query/stream", body)).lines
        none = (await http(up.url + "/query", body)).json
    assert quoted[0]["references"] == whole["references"]
    assert quoted[0]["references"][0]["content"][0].startswith("Insulin")
    assert all("references" not in line for line in without)
    assert none["references"] is None


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("mode", "cache", "steps"),
    [
        ("bypass", "off", 0),
        ("naive", "off", 2),
        ("mix", "off", 6),
        ("mix", "warm", 5),
    ],
)
async def test_progress_comes_first_and_the_time_last(
    http: Client, mode: str, cache: Literal["off", "warm"], steps: int
) -> None:
    body = {**QUESTION, "mode": mode, "include_progress": True}
    async with LightRAGEmulator(cache=cache) as up:
        lines = (await http(up.url + "/query/stream", body)).lines
    assert [list(line) for line in lines[:steps]] == [["progress"]] * steps
    assert "references" in lines[steps]
    assert list(lines[-1]) == ["response_time"]


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["/query", "/query/stream"])
@pytest.mark.parametrize(
    ("hidden", "text"),
    [
        ("llm_down", "No relevant context found for the query."),
        ("llm_refused", "No relevant context found for the query."),
        ("embeddings_down", "No relevant context found for the query."),
        ("empty_store", "[no-context]"),
    ],
)
async def test_failures_hide_behind_200_and_bill_nothing(
    http: Client, path: str, hidden: str, text: str
) -> None:
    async with LightRAGEmulator(hidden=hidden, price=Price(1_000_000, 0)) as up:
        got = await http(up.url + path, QUESTION)
        assert up.billed_micro_usd == 0
    (answer,) = got.lines
    assert got.status == 200
    assert answer["response"].endswith(text)
    assert answer["references"] == []
    assert answer["llm_generated"] is False


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("hidden", "mode", "status"),
    [
        ("llm_down", "naive", 200),
        ("llm_down", "mix", 500),
        ("llm_refused", "mix", 500),
        ("embeddings_down", "naive", 500),
        ("stream_breaks", "mix", 200),
    ],
)
async def test_retrieval_fails_only_with_what_it_needs(
    http: Client, hidden: str, mode: str, status: int
) -> None:
    async with LightRAGEmulator(hidden=hidden) as up:
        got = await http(up.url + "/query/data", {**QUESTION, "mode": mode})
    assert got.status == status


@pytest.mark.asyncio
async def test_retrieval_from_an_empty_store_says_failure_behind_200(
    http: Client,
) -> None:
    async with LightRAGEmulator(hidden="empty_store") as up:
        got = await http(up.url + "/query/data", QUESTION)
    assert got.status == 200
    assert got.json["status"] == "failure"
    assert got.json["metadata"]["failure_reason"] == "no_results"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("progress", "ends"), [(False, ["error"]), (True, ["error", "response_time"])]
)
async def test_a_broken_stream_ends_with_an_error_line(
    http: Client, progress: bool, ends: list[str]
) -> None:
    async with LightRAGEmulator(faults=[Fault.behind_200("stream_breaks")]) as up:
        body = {**QUESTION, "include_progress": progress}
        lines = (await http(up.url + "/query/stream", body)).lines
    assert [list(line) for line in lines[-len(ends) :]] == [[end] for end in ends]
    assert any("response" in line for line in lines)


def test_inner_retries_delay_only_the_failures_that_are_retried() -> None:
    up = LightRAGEmulator(inner_retry_s=8.2)
    request = Request("POST", "/query", {}, body=QUESTION)
    assert up.handle(request, "llm_down").delay_s == 8.2
    assert up.handle(request, "embeddings_down").delay_s == 8.2
    assert up.handle(request, "llm_refused").delay_s == 0
    assert up.handle(request, "").delay_s == 0


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("body", "kind", "loc"),
    [
        ({"query": ""}, "value_error", ["body", "query"]),
        ({"query": "  "}, "value_error", ["body", "query"]),
        ({"query": "a"}, "value_error", ["body"]),
        ({"query": 7}, "string_type", ["body", "query"]),
        ({"query": "hello", "mode": "zzz"}, "literal_error", ["body", "mode"]),
        ({}, "missing", ["body", "query"]),
        ([1], "missing", ["body", "query"]),
        ({"query": "x" * 70_000}, "string_too_long", ["body", "query"]),
        ({"query": "hello", "top_k": 1001}, "less_than_equal", ["body", "top_k"]),
        (talk("hello"), "list_type", HISTORY),
        (talk(["hello"]), "dict_type", [*HISTORY, 0]),
        (talk([{"role": "user"}]), "value_error", HISTORY),
        (talk([{"content": "Hello"}]), "value_error", HISTORY),
        (talk([TURN | {"content": None}]), "value_error", HISTORY),
    ],
)
@pytest.mark.parametrize("path", ["/query", "/query/stream", "/query/data"])
async def test_what_it_cannot_take_is_a_422_that_echoes_the_input(
    http: Client, body: object, kind: str, loc: list[object], path: str
) -> None:
    async with LightRAGEmulator() as up:
        got = await http(up.url + path, body)
        assert up.book == []
    (detail,) = got.json["detail"]
    assert got.status == 422
    assert (detail["type"], detail["loc"]) == (kind, loc)
    assert "input" in detail


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("turns", "loc", "limit"),
    [
        ([TURN] * 129, HISTORY, "at most 128 messages"),
        ([TURN | {"content": "x" * 32_769}], HISTORY, "at most 32768 characters"),
        ([TURN | {"content": "x" * 32_768}] * 4, ["body"], "131072 character limit"),
    ],
    ids=["too many", "one too long", "too much in all"],
)
async def test_a_conversation_over_a_limit_is_a_422_that_names_it(
    http: Client, turns: list[object], loc: list[object], limit: str
) -> None:
    async with LightRAGEmulator() as up:
        got = await http(up.url + "/query", talk(turns))
    (detail,) = got.json["detail"]
    assert got.status == 422
    assert (detail["type"], detail["loc"]) == ("value_error", loc)
    assert limit in detail["msg"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "turns", [[TURN] * 128, [TURN | {"content": "x" * 32_768}] * 3]
)
async def test_a_conversation_within_the_limits_is_answered(
    http: Client, turns: list[object]
) -> None:
    async with LightRAGEmulator() as up:
        assert (await http(up.url + "/query", talk(turns))).status == 200


@pytest.mark.asyncio
async def test_malformed_json_is_a_422(http: Client) -> None:
    async with LightRAGEmulator() as up:
        headers = {"content-type": "application/json"}
        got = await http(up.url + "/query", headers=headers, data=b'{"query": "a" x')
    assert got.status == 422
    assert got.json["detail"][0]["type"] == "json_invalid"


@pytest.mark.asyncio
async def test_a_short_question_is_fine_when_nothing_is_retrieved(http: Client) -> None:
    async with LightRAGEmulator() as up:
        got = await http(up.url + "/query", {"query": "hi", "mode": "bypass"})
    assert got.status == 200
    assert got.json["references"] == []
    assert "### References" not in got.json["response"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/query", 405), ("POST", "/nowhere", 404), ("GET", "/health", 200)],
)
async def test_paths_and_methods(
    http: Client, method: str, path: str, status: int
) -> None:
    async with LightRAGEmulator() as up:
        got = await http(up.url + path, method=method)
    assert got.status == status


@pytest.mark.asyncio
async def test_a_body_over_one_mebibyte_is_refused(http: Client) -> None:
    async with LightRAGEmulator() as up:
        body = b'{"query": "' + b"x" * (1024 * 1024) + b'"}'
        got = await http(up.url + "/query", data=io.BytesIO(body))
    assert got.status == 413
    assert got.json["detail"].endswith("1048576 bytes.")


@pytest.mark.asyncio
async def test_an_api_key_is_asked_for_where_the_server_asks(http: Client) -> None:
    async with LightRAGEmulator(api_key="canary") as up:

        async def verify(**headers: str) -> tuple[int, object]:
            dashed = {key.replace("_", "-"): value for key, value in headers.items()}
            url = up.url + "/auth/verify"
            got = await http(url, method="GET", headers=dashed)
            return got.status, got.json.get("detail")

        assert await verify() == (403, "API Key required")
        assert await verify(x_api_key="wrong") == (403, "Invalid API Key")
        assert await verify(x_api_key="canary") == (200, None)
        assert await verify(authorization="Bearer canary") == (401, "Invalid token")
        assert await verify(x_api_key="canary", authorization="Bearer junk") == (
            401,
            "Invalid token",
        )
        assert (await http(up.url + "/health", method="GET")).status == 200


@pytest.mark.asyncio
async def test_a_login_gives_a_token_that_can_expire_and_be_renewed(
    http: Client,
) -> None:
    async with LightRAGEmulator(accounts={"ada": "pw"}, renew_tokens=True) as up:
        verify = up.url + "/auth/verify"
        assert (await http(verify, method="GET")).status == 401
        form = {"username": "ada", "password": "pw"}
        login = (await http(up.url + "/login", data=form)).json
        assert up.requests[-1].body == form
        assert login["token_type"] == "bearer"
        assert login["access_token"].count(".") == 2
        headers = {"authorization": f"Bearer {login['access_token']}"}
        got = await http(verify, method="GET", headers=headers)
        assert got.status == 200
        headers = {"authorization": f"Bearer {got.headers['x-new-token']}"}
        assert (await http(verify, method="GET", headers=headers)).status == 200
        up.expire_tokens()
        expired = await http(verify, method="GET", headers=headers)
        assert (expired.status, expired.json) == (401, {"detail": "Invalid token"})


@pytest.mark.asyncio
async def test_the_sixth_bad_login_is_locked_out(http: Client) -> None:
    async with LightRAGEmulator(accounts={"ada": "pw"}) as up:
        url = up.url + "/login"
        wrong = {"username": "ada", "password": "guess"}
        bad = [(await http(url, data=wrong)).status for _ in range(5)]
        locked = await http(url, data={"username": "ada", "password": "pw"})
    assert bad == [401] * 5
    assert locked.status == 429
    assert locked.headers["retry-after"] == "299"


@pytest.mark.asyncio
async def test_a_login_with_json_is_a_422(http: Client) -> None:
    async with LightRAGEmulator(accounts={"ada": "pw"}) as up:
        got = await http(up.url + "/login", {"username": "ada", "password": "pw"})
    assert got.status == 422


@pytest.mark.asyncio
async def test_the_book_holds_what_its_language_model_would_bill(http: Client) -> None:
    async with LightRAGEmulator(price=Price(request_micro_usd=400)) as up:
        await http(up.url + "/query", QUESTION)
        await http(up.url + "/query/data", {**QUESTION, "mode": "naive"})
        got = await http(up.url + "/query/stream", QUESTION)
    assert [call.micro_usd for call in up.book] == [400, 0, 400]
    assert up.book[-1].bytes == len(got.text)
    assert not set(json.loads(json.dumps(got.lines[0]))) & {"usage", "cost"}
