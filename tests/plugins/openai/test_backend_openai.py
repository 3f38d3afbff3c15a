from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import plb_backend_openai
from plb_backend_openai.backend import OpenAIBackend
from plb_backend_openai.settings import OpenAISettings
from plb_core import (
    Answer,
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendRefused,
    BackendTimeout,
    BadAnswer,
    Chunk,
    ConfigError,
    ModelMap,
    NoAnswer,
    Query,
    Source,
    Usage,
)
from plb_core.errors import RequestError
from plb_core.settings import EnvVar
from plb_core.testing import fakes
from plb_core.testing.emulators import Fault, OpenAIEmulator, on_paths
from plb_core.types import NO_ATTRIBUTES

QUERY = Query("What are metabolic pathways?")
CHAT = "/v1/chat/completions"


def make(
    url: str, models: dict[str, str] | None = None, **settings: object
) -> OpenAIBackend:
    values: dict[str, object] = {
        "base_url": f"{url}/v1",
        "allow_private": True,
        "model": "gpt-6-mini",
        **settings,
    }
    context = fakes.context(models=ModelMap.from_table(models or {}))
    return OpenAIBackend(OpenAISettings(**values), context)  # type: ignore[arg-type]


@asynccontextmanager
async def pair(
    models: dict[str, str] | None = None, **settings: object
) -> AsyncIterator[tuple[OpenAIEmulator, OpenAIBackend]]:
    async with OpenAIEmulator() as up:
        backend = make(up.url, models, **settings)
        await backend.start()
        try:
            yield up, backend
        finally:
            await backend.close()


def replying(body: object, status: int = 200, kind: str = "") -> Fault:
    headers = {"retry-after": "3"} | ({"content-type": kind} if kind else {})
    return Fault.status(status, body=body, headers=headers)


def completed(message: object, finish: object = "stop", **more: object) -> object:
    return {"choices": [{"message": message, "finish_reason": finish}], **more}


def sse(*events: object) -> Fault:
    parts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    body = "".join(f"data: {part}\n\n" for part in parts).encode()
    return replying(body, kind="text/event-stream")


def piece(text: object = None, finish: object = None, **delta: object) -> object:
    if text is not None:
        delta["content"] = text
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


async def ask(fault: Fault, query: Query = QUERY) -> Answer:
    async with pair() as (up, backend):
        up.faults = [fault]
        return await backend.ask(query, 10)


async def stream(fault: Fault, query: Query = QUERY) -> list[Chunk]:
    async with pair() as (up, backend):
        up.faults = [fault]
        return [chunk async for chunk in backend.stream(query, 10)]


# What is sent


@pytest.mark.asyncio
async def test_sends_the_question_and_nothing_of_the_client_else() -> None:
    hostile = {
        "temperature": 0.5,
        "stop": ["x"],
        "n": 10,
        "stream": True,
        "model": "http://evil.example/",
        "api_base": "http://evil.example/",
        "base_url": "http://evil.example/",
        "extra_headers": {"X-Api-Key": "k"},
        "max_tokens": 9,
    }
    query = Query("Why?", options=hostile, max_output_tokens=500, model="gpt-6-mini")
    async with pair() as (up, backend):
        await backend.ask(query, 10)
        [request] = up.requests
    assert request.path == CHAT
    assert request.body == {
        "model": "gpt-6-mini",
        "messages": [{"role": "user", "content": "Why?"}],
        "temperature": 0.5,
        "stop": ["x"],
        "max_tokens": 500,
    }
    assert set(request.headers) == {
        *("host", "user-agent", "accept", "accept-encoding"),
        *("content-type", "content-length"),
    }


@pytest.mark.asyncio
async def test_sends_the_whole_conversation_and_asks_for_counts() -> None:
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user"})
    async with pair() as (up, backend):
        query = Query("?", messages=messages)
        async for _ in backend.stream(query, 10):
            pass
        body = up.requests[0].body
    assert body == {
        "model": "gpt-6-mini",
        "messages": list(messages),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    async with pair(stream_usage=False) as (up, backend):
        chunks = [chunk async for chunk in backend.stream(QUERY, 10)]
        assert "stream_options" not in up.requests[0].fields
    answer = chunks[-1].answer
    assert answer is not None
    assert answer.usage is not None
    assert answer.usage.estimated


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("base_url", "chosen", "sent"),
    [
        ("https://api.openai.com/v1", "auto", "max_completion_tokens"),
        ("https://api.openai.com.evil.example/v1", "auto", "max_tokens"),
        ("https://api.openai.com/v1", "max_tokens", "max_tokens"),
        ("https://llm.example.org/v1", "max_completion_tokens", None),
    ],
)
async def test_names_the_token_limit_as_the_endpoint_wants_it(
    base_url: str, chosen: str, sent: str | None
) -> None:
    settings = OpenAISettings(base_url=base_url, model="m", token_limit_field=chosen)  # type: ignore[arg-type]
    backend = OpenAIBackend(settings, fakes.context())
    assert backend._limit_field == (sent or chosen)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("models", "default", "requested", "sent"),
    [
        ({}, "gpt-6-mini", "auto", "gpt-6-mini"),
        ({}, "gpt-6-mini", "track-name", "gpt-6-mini"),
        ({"small": "gpt-6-mini"}, "other", "small", "gpt-6-mini"),
        ({"small": "gpt-6-mini"}, "", "auto", "gpt-6-mini"),
        ({"gpt-*": "*"}, "", "gpt-6-mini", "gpt-6-mini"),
        ({"*": "*"}, "gpt-6-mini", "auto", "gpt-6-mini"),
    ],
)
async def test_asks_for_the_mapped_model(
    models: dict[str, str], default: str, requested: str, sent: str
) -> None:
    async with pair(models, model=default) as (up, backend):
        answer = await backend.ask(Query("Why?", model=requested), 10)
        assert up.requests[0].fields["model"] == sent
        assert answer.model == sent


@pytest.mark.asyncio
async def test_needs_some_model() -> None:
    with pytest.raises(ConfigError, match="set model"):
        make("http://127.0.0.1:9", model="")
    async with pair({"gpt-*": "*"}, model="") as (up, backend):
        with pytest.raises(BackendMisconfigured) as caught:
            await backend.ask(Query("Why?", model="auto"), 10)
        assert not caught.value.sent
        assert up.requests == []


@pytest.mark.asyncio
async def test_half_an_emoji_is_refused_without_being_sent() -> None:
    async with pair() as (up, backend):
        for call in (backend.ask(Query("\ud83d"), 10), anext(_chunks(backend))):
            with pytest.raises(NoAnswer) as caught:
                await call
            assert caught.value.reason == "invalid_request"
        assert up.requests == []


def _chunks(backend: OpenAIBackend) -> AsyncIterator[Chunk]:
    return backend.stream(Query("\ud83d"), 10)


def test_the_provider_builds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K", "sk-CANARY-1\n")
    provider = plb_backend_openai.plb_register_backend()
    assert provider.name == "openai"
    settings = provider.settings(model="m", api_key_env=EnvVar("K"))
    with pytest.raises(ConfigError, match="line break") as caught:
        provider.build(settings, fakes.context())
    assert "CANARY" not in str(caught.value)
    with pytest.raises(ValueError, match="never contacted"):
        provider.settings(base_url="http://169.254.169.254/v1")


# Whole answers


@pytest.mark.asyncio
async def test_reads_everything_around_an_answer() -> None:
    url = "https://example.org/a"
    body = completed(
        {"content": "Yes. [1]"},
        model="gpt-6-mini-2026",
        usage={"prompt_tokens": 7, "completion_tokens": 3, "cost": 0.0000121},
        citations=["ignored"],
        search_results=[
            {"title": " A\n page ", "url": url, "date": "2026-01-02", "snippet": "q"},
            {"title": "no link"},
            {"url": "javascript:alert(1)"},
            7,
            {"url": url + "b"},
        ],
    )
    assert await ask(replying(body)) == Answer(
        text="Yes. [1]",
        sources=(
            Source("A page", url, "q", "2026-01-02"),
            Source(url + "b", url + "b"),
        ),
        usage=Usage(7, 3),
        model="gpt-6-mini-2026",
        cost_micro_usd=13,
    )


URL = "https://example.org/x"
NOTE = {"type": "url_citation", "url_citation": {"url": URL, "title": "X"}}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("body", "sources"),
    [
        (completed({"content": "a"}, citations=[URL, URL]), [Source(URL, URL)]),
        (completed({"content": "a", "citations": [URL]}), [Source(URL, URL)]),
        (completed({"content": "a", "annotations": [NOTE]}), [Source("X", URL)]),
        (
            completed(
                {
                    "content": "a",
                    "annotations": [
                        {"type": "url_citation", "url": URL},
                        {"type": "f"},
                    ],
                }
            ),
            [Source(URL, URL)],
        ),
        (completed({"content": "a"}, citations="junk", search_results={}), []),
    ],
)
async def test_takes_sources_from_any_form(body: object, sources: list[Source]) -> None:
    assert list((await ask(replying(body))).sources) == sources


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("message", "finish", "text", "reason"),
    [
        ({"content": "a"}, "stop", "a", "stop"),
        ({"content": "a"}, None, "a", "stop"),
        ({"content": "a"}, "eos", "a", "stop"),
        ({"content": "a"}, 7, "a", "stop"),
        ({"content": "a"}, "length", "a", "length"),
        ({"content": "a"}, "content_filter", "a", "content_filter"),
        (
            {"content": [{"type": "text", "text": "a"}, {"text": "b"}, {}]},
            "stop",
            "ab",
            "stop",
        ),
    ],
)
async def test_reads_text_and_how_it_ended(
    message: object, finish: object, text: str, reason: str
) -> None:
    answer = await ask(replying(completed(message, finish)))
    assert (answer.text, answer.finish_reason) == (text, reason)


@pytest.mark.asyncio
async def test_the_smallest_body_that_clients_accept_is_an_answer() -> None:
    answer = await ask(replying({"choices": [{"message": {"content": "abcde"}}]}))
    assert answer.text == "abcde"
    assert answer.model == "gpt-6-mini"
    assert answer.usage == Usage(7, 2, estimated=True)
    assert answer.cost_micro_usd is None


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "counts",
    [
        None,
        [],
        {},
        {"prompt_tokens": 5},
        {"prompt_tokens": -5, "completion_tokens": 5},
        {"prompt_tokens": 5, "completion_tokens": 10**12},
        {"prompt_tokens": "5", "completion_tokens": 5},
        {"prompt_tokens": True, "completion_tokens": 5},
        {"prompt_tokens": 5.5, "completion_tokens": 5},
        {"prompt_tokens": None, "completion_tokens": None},
    ],
)
async def test_absurd_counts_are_replaced_by_estimates(counts: object) -> None:
    messages = (
        {"role": "user", "content": "12345678"},
        {"role": "user", "content": [{"type": "text", "text": "1234"}, {"type": "i"}]},
        {"role": "assistant", "content": None},
    )
    answer = await ask(
        replying(completed({"content": "1234"}, usage=counts)),
        Query("?", messages=messages),
    )
    assert answer.usage == Usage(3, 1, estimated=True)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("cost", "micro_usd"),
    [
        (0, 0),
        (0.00125, 1250),
        (0.1, 100_000),
        (1e-9, 1),
        ({"total_cost": 0.5}, 500_000),
        (-1, None),
        (1e9, None),
        (True, None),
        ("0.1", None),
        (None, None),
        ({"total_cost": []}, None),
    ],
)
async def test_takes_the_bill_when_it_can_be_true(
    cost: object, micro_usd: int | None
) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "cost": cost}
    answer = await ask(replying(completed({"content": "a"}, usage=usage)))
    assert answer.cost_micro_usd == micro_usd


CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "look_up", "arguments": "{}"},
}


@pytest.mark.asyncio
async def test_a_tool_call_is_an_answer_without_text() -> None:
    answer = await ask(replying(completed({"content": None, "tool_calls": [CALL]})))
    assert answer.text == ""
    assert answer.tool_calls == (CALL,)
    assert answer.finish_reason == "tool_calls"
    with pytest.raises(BadAnswer, match="nothing"):
        await ask(replying(completed({"tool_calls": [{"id": "x"}, 7]}, "tool_calls")))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b'{"a":1,"a":2}',
        b'{"choices":[{"message":{"content":"a"}}],"x":NaN}',
        {},
        {"choices": []},
        {"choices": None},
        {"choices": {"0": 1}},
        {"choices": ["a"]},
        {"choices": [{}]},
        {"choices": [{"message": "a"}]},
        completed({}),
        completed({"content": None}),
        completed({"content": ""}),
        completed({"content": " \n"}),
        completed({"content": 7}),
        completed({"content": {"text": "a"}}),
        completed({"content": [{"text": 7}]}),
        completed({"content": "a"}, "error"),
        completed({"content": ""}, "length"),
        {"error": "oops"},
        {"error": {"message": "oops"}},
        {"error": {"code": 200}},
    ],
    ids=lambda body: repr(body)[:50],
)
async def test_what_is_no_answer_behind_200_is_a_failure(body: object) -> None:
    with pytest.raises(BadAnswer):
        await ask(replying(body))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("kind", "fits"),
    [
        ("application/json; charset=utf-8", True),
        ("application/problem+json", True),
        ("text/plain", True),
        ("text/html", False),
        ("application/octet-stream", False),
        ("text/event-stream", False),
    ],
)
async def test_the_content_type_has_to_fit(kind: str, fits: bool) -> None:
    fault = replying(completed({"content": "a"}), kind=kind)
    if fits:
        assert (await ask(fault)).text == "a"
    else:
        with pytest.raises(BadAnswer, match="content type"):
            await ask(fault)


@pytest.mark.asyncio
async def test_a_token_limit_that_leaves_no_room_is_not_the_endpoints_fault() -> None:
    fault = replying(completed({"content": ""}, "length"))
    with pytest.raises(NoAnswer) as caught:
        await ask(fault, Query("Why?", max_output_tokens=1))
    assert caught.value.reason == "invalid_request"


# Refusals


def error(
    code: object = None, message: str = "sk-CANARY-1", **more: object
) -> dict[str, object]:
    return {"error": {"message": message, "code": code, **more}}


TOO_LONG = "This model's maximum context length is 8192 tokens."
REFUSALS: list[tuple[int, object, type[RequestError], str]] = [
    (400, error("context_length_exceeded"), NoAnswer, "context_length"),
    (400, error(None, TOO_LONG), NoAnswer, "context_length"),
    (400, error(400, "Prompt is too long"), NoAnswer, "context_length"),
    (400, {"object": "error", "message": TOO_LONG}, NoAnswer, "context_length"),
    (400, {"error": TOO_LONG}, NoAnswer, "context_length"),
    (413, error(), NoAnswer, "context_length"),
    (400, error("content_filter"), NoAnswer, "content_filter"),
    (400, error(None, type="content_policy_violation"), NoAnswer, "content_filter"),
    (403, error(403, metadata={"reasons": ["x"]}), NoAnswer, "content_filter"),
    (400, error("invalid_value"), NoAnswer, "invalid_request"),
    (422, {"detail": [{"input": "sk-CANARY-1"}]}, NoAnswer, "invalid_request"),
    (400, b"<html>", NoAnswer, "invalid_request"),
    (400, error("model_not_found"), BackendMisconfigured, ""),
    (404, error("model_not_found"), BackendMisconfigured, ""),
    (404, {"detail": "Not Found"}, BackendMisconfigured, ""),
    (401, error("invalid_api_key"), BackendMisconfigured, ""),
    (400, error("invalid_api_key"), BackendMisconfigured, ""),
    (403, error(), BackendMisconfigured, ""),
    (402, error(), BackendMisconfigured, ""),
    (429, error("rate_limit_exceeded"), BackendBusy, ""),
    (429, error("insufficient_quota"), BackendMisconfigured, ""),
    (429, error(None, type="insufficient_quota"), BackendMisconfigured, ""),
    (500, error("server_error"), BackendRefused, ""),
    (503, b"", BackendRefused, ""),
    (529, error("overloaded_error"), BackendRefused, ""),
    (202, completed({"content": "a"}), BadAnswer, ""),
    (200, error("context_length_exceeded"), NoAnswer, "context_length"),
    (200, error("rate_limit_exceeded"), BackendBusy, ""),
    (200, error(429), BackendBusy, ""),
    (200, error(None, type="server_error"), BackendRefused, ""),
    (200, error(502), BackendRefused, ""),
    (200, error("odd"), BadAnswer, ""),
    (200, error("content_filter"), NoAnswer, "content_filter"),
    (200, completed({"content": None, "refusal": "No."}), NoAnswer, "content_filter"),
    (200, completed({"content": ""}, "content_filter"), NoAnswer, "content_filter"),
]


@pytest.mark.asyncio
@pytest.mark.parametrize("call", [ask, stream])
@pytest.mark.parametrize(
    ("status", "body", "kind", "reason"), REFUSALS, ids=lambda v: repr(v)[:40]
)
async def test_a_refusal_becomes_the_right_outcome(
    status: int, body: object, kind: type[RequestError], reason: str, call: object
) -> None:
    fault = replying(body, status)
    with pytest.raises(RequestError) as caught:
        await call(fault)  # type: ignore[operator]
    assert type(caught.value) is kind
    assert getattr(caught.value, "reason", "") == reason
    assert "CANARY" not in repr(caught.value)
    if kind is BackendBusy:
        assert caught.value.retry_after_s == 3.0  # type: ignore[attr-defined]


# Streams


@pytest.mark.asyncio
async def test_a_stream_carries_what_a_whole_answer_does() -> None:
    chunks = await stream(
        sse(
            {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
            piece("Yes"),
            ": not json, a relay keeps alive",
            piece("no", index=1),
            {"choices": [{"index": 1, "delta": {"content": "other"}}]},
            {"choices": None},
            piece(". [1]", annotations=[NOTE]),
            piece(None, "stop"),
            {
                "choices": [],
                "model": "m2",
                "usage": {"prompt_tokens": 4, "completion_tokens": 2, "cost": 0.5},
            },
            "[DONE]",
            "never read",
        )
    )
    assert [chunk.text for chunk in chunks] == ["Yes", "no", ". [1]", ""]
    assert chunks[-1] == Chunk(
        end="complete",
        answer=Answer(
            "Yesno. [1]",
            sources=(Source("X", URL),),
            usage=Usage(4, 2),
            model="m2",
            cost_micro_usd=500_000,
        ),
    )


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "ending", [[piece(None, "stop")], [piece("b", "length"), "[DONE]"], ["[DONE]"]]
)
async def test_a_finish_reason_or_the_end_mark_completes(ending: list[object]) -> None:
    chunks = await stream(sse(piece("a"), *ending))
    assert chunks[-1].end == "complete"


@pytest.mark.asyncio
async def test_a_stream_without_either_was_cut() -> None:
    chunks = await stream(sse(piece("a"), piece("b")))
    assert chunks == [Chunk("a"), Chunk("b"), Chunk(end="truncated")]
    with pytest.raises(BadAnswer, match="without an answer"):
        await stream(sse({"choices": []}))


@pytest.mark.asyncio
@pytest.mark.parametrize("after", range(0, 2600, 130))
@pytest.mark.parametrize("cut", [Fault.cut, Fault.cut_unframed, Fault.reset])
async def test_a_cut_anywhere_is_never_a_whole_answer(after: int, cut: object) -> None:
    async with pair() as (up, backend):
        whole = await backend.ask(QUERY, 10)
        up.faults = [cut(after)]  # type: ignore[operator]
        chunks = []
        try:
            async for chunk in backend.stream(QUERY, 10):
                chunks.append(chunk)  # noqa: PERF401 - kept when it raises
        except BackendError:
            assert not chunks
            return
        text = "".join(chunk.text for chunk in chunks)
        assert chunks[-1].end
        if chunks[-1].end == "complete":
            assert text == whole.text
        else:
            assert whole.text.startswith(text)


@pytest.mark.asyncio
async def test_a_cut_after_the_finish_reason_lost_only_counts() -> None:
    events = [json.dumps(piece("a")), json.dumps(piece(None, "stop"))]
    body = "".join(f"data: {event}\n\n" for event in events).encode()
    fault = replying(body + b"data: ...", kind="text/event-stream")
    cut = Fault("cut", fault.edit, Fault.cut(len(body)).play, drops=True)
    chunks = await stream(cut)
    assert chunks[-1].end == "complete"
    silent = Fault("silent", fault.edit, Fault.stall(len(body)).play, drops=True)
    async with pair(idle_timeout_s=0.2) as (up, backend):
        up.faults = [silent]
        chunks = [chunk async for chunk in backend.stream(QUERY, 10)]
    assert chunks[-1].end == "complete"


@pytest.mark.asyncio
async def test_silence_amid_the_text_is_a_timeout() -> None:
    body = f"data: {json.dumps(piece('a'))}\n\n".encode()
    fault = replying(body + b"x", kind="text/event-stream")
    silent = Fault("silent", fault.edit, Fault.stall(len(body)).play, drops=True)
    async with pair(idle_timeout_s=0.2) as (up, backend):
        up.faults = [silent]
        chunks = backend.stream(QUERY, 10)
        assert await anext(chunks) == Chunk("a")
        with pytest.raises(BackendTimeout):
            await anext(chunks)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "event",
    [
        '{"choices": [',
        '{"a":1,"a":1}',
        '{"a":NaN}',
        {"choices": [{"delta": {"content": 7}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": -1}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": "0"}]}}]},
        error("odd"),
        error("content_filter"),
        {"choices": [{"delta": {}, "finish_reason": "error"}]},
    ],
    ids=lambda event: repr(event)[:40],
)
async def test_a_broken_event_amid_the_text_is_a_failure(event: object) -> None:
    async with pair() as (up, backend):
        up.faults = [sse(piece("a"), event, piece("b", "stop"), "[DONE]")]
        chunks = backend.stream(QUERY, 10)
        assert await anext(chunks) == Chunk("a")
        with pytest.raises(BackendError):
            assert [chunk async for chunk in chunks] == []


@pytest.mark.asyncio
async def test_blank_text_and_then_a_filter_is_a_failure_once_sent() -> None:
    async with pair() as (up, backend):
        up.faults = [sse(piece(" "), piece(None, "content_filter"), "[DONE]")]
        chunks = backend.stream(QUERY, 10)
        assert await anext(chunks) == Chunk(" ")
        with pytest.raises(BadAnswer, match="gave up"):
            await anext(chunks)


@pytest.mark.asyncio
async def test_a_plain_completion_to_a_stream_request_is_one_piece() -> None:
    chunks = await stream(replying(completed({"content": "all"})))
    assert [chunk.text for chunk in chunks] == ["all", ""]
    assert chunks[-1].end == "complete"


@pytest.mark.asyncio
async def test_a_page_instead_of_a_stream_is_a_failure() -> None:
    with pytest.raises(BadAnswer, match="content type"):
        await stream(Fault.wrong_type())


@pytest.mark.asyncio
async def test_tool_calls_are_passed_on_and_put_together() -> None:
    deltas: list[object] = [
        {"index": 0, "id": "c1", "function": {"name": "look_up", "arguments": '{"a'}},
        {"index": 0, "function": {"arguments": '":1}'}},
        {"index": 1, "id": "c2", "type": "function", "function": {"name": "other"}},
    ]
    events = [piece(tool_calls=[delta]) for delta in deltas]
    chunks = await stream(sse(*events, piece(None, "tool_calls"), "[DONE]"))
    assert [chunk.tool_calls for chunk in chunks[:-1]] == [(each,) for each in deltas]
    answer = chunks[-1].answer
    assert answer is not None
    assert answer.finish_reason == "tool_calls"
    assert [call["function"] for call in answer.tool_calls] == [
        {"name": "look_up", "arguments": '{"a":1}'},
        {"name": "other", "arguments": ""},
    ]
    assert [call["id"] for call in answer.tool_calls] == ["c1", "c2"]


@pytest.mark.asyncio
@pytest.mark.parametrize("hidden", sorted(OpenAIEmulator.hidden_failures))
async def test_the_emulators_hidden_failures(hidden: str) -> None:
    expected = {
        "empty": "BadAnswer",
        "length": "complete",
        "content_filter": "NoAnswer",
        "tool_call": "complete",
        "stream_fails": "BackendRefused",
        "stream_ends": "truncated",
        "no_done": "complete",
    }[hidden]
    async with pair() as (up, backend):
        up.hidden = hidden
        try:
            chunks = [chunk async for chunk in backend.stream(QUERY, 10)]
            outcome: str = chunks[-1].end
        except RequestError as error:
            outcome = type(error).__name__
    assert outcome == expected


@pytest.mark.asyncio
async def test_streams_use_their_connection_again() -> None:
    async with pair() as (up, backend):
        for _ in range(5):
            async for _chunk in backend.stream(QUERY, 10):
                pass
        ports = {id(task) for task in up._tasks}
        assert len(ports) == 1


# Embeddings


@pytest.mark.asyncio
async def test_embeds_in_input_order() -> None:
    async with pair(embedding_model="text-embedding-4") as (up, backend):
        assert "embeddings" in backend.traits.capabilities
        query = Query("", options={"dimensions": 3, "n": 4})
        made = await backend.embed(query, ["a", "b"], 10)
        again = await backend.embed(query, ["b"], 10)
        assert made.vectors[1] == again.vectors[0]
        assert [len(vector) for vector in made.vectors] == [3, 3]
        assert made.model == "text-embedding-4"
        assert made.usage is not None
        assert not made.usage.estimated
        assert up.requests[0].body == {
            "model": "text-embedding-4",
            "input": ["a", "b"],
            "encoding_format": "float",
            "dimensions": 3,
        }


@pytest.mark.asyncio
async def test_only_what_is_set_up_is_offered() -> None:
    only = make("http://127.0.0.1:9", model="", embedding_model="e").traits
    assert only.capabilities == {"embeddings"}
    chat = make("http://127.0.0.1:9")
    assert "embeddings" not in chat.traits.capabilities
    with pytest.raises(BackendMisconfigured):
        await chat.embed(Query(""), ["a"], 10)


def vectors(*entries: object) -> dict[str, object]:
    return {"data": list(entries)}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "body",
    [
        {},
        vectors(),
        vectors({"index": 0, "embedding": [1.0]}),
        vectors({"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}),
        vectors({"index": 0, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}),
        vectors({"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1, 2]}),
        vectors({"embedding": [1.0]}, {"embedding": []}),
        vectors({"embedding": [1.0]}, {"embedding": ["1"]}),
        vectors({"embedding": [1.0]}, {"embedding": [True]}),
        vectors({"embedding": [1.0]}, {"embedding": "!"}),
        vectors({"embedding": [1.0]}, {"embedding": "AAAA"}),
        vectors({"embedding": [1.0]}, {"embedding": "AADAfw=="}),
        vectors({"index": "0", "embedding": [1.0]}, {"embedding": [1.0]}),
        vectors({"embedding": [1.0]}, 7),
        {"error": {"code": "odd"}},
    ],
    ids=lambda body: repr(body)[:60],
)
async def test_vectors_that_cannot_be_used_are_a_failure(body: object) -> None:
    async with pair(embedding_model="text-embedding-4") as (up, backend):
        up.faults = [replying(body)]
        with pytest.raises(BadAnswer):
            await backend.embed(Query(""), ["a", "b"], 10)


@pytest.mark.asyncio
async def test_takes_packed_and_unordered_vectors() -> None:
    async with pair(embedding_model="text-embedding-4") as (up, backend):
        up.faults = [
            replying(
                vectors(
                    {"index": 1, "embedding": [2, 3.5]},
                    {"index": 0, "embedding": "AACAPwAAAEA="},
                )
            )
        ]
        made = await backend.embed(Query(""), ["abcd", "b"], 10)
    assert made.vectors == ((1.0, 2.0), (2.0, 3.5))
    assert made.usage == Usage(2, 0, estimated=True)


# Health


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "ok", "detail"),
    [
        (None, True, ""),
        (Fault.status(404), True, "no models"),
        (Fault.status(405), True, "no models"),
        (Fault.wrong_type(), False, "JSON"),
        (Fault.status(401), False, "key"),
        (Fault.status(503), False, "503"),
        (Fault.busy(3), False, "429"),
        (Fault.reset(), False, "lost"),
    ],
)
async def test_a_ping_looks_at_the_list_of_models(
    fault: Fault | None, ok: bool, detail: str
) -> None:
    async with pair() as (up, backend):
        up.faults = on_paths(lambda _: fault, "/v1/models")
        result = await backend.ping(10)
        assert result.ok is ok
        assert detail in result.detail
        assert [request.path for request in up.requests] == ["/v1/models"]
        assert up.book == []


def test_shows_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K", "sk-CANARY-1")
    backend = make("https://example.org", api_key_env=EnvVar("K"), allow_private=False)
    assert "CANARY" not in repr(backend)
    assert NO_ATTRIBUTES == {}
