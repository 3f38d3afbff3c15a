from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

from plb_core import (
    Answer,
    BackendBusy,
    BackendMisconfigured,
    BackendRefused,
    BackendTimeout,
    BadAnswer,
    Chunk,
    NoAnswer,
)
from tests.gateway.gateway_setup import TWO, Serve, Served

QUESTION = [{"role": "user", "content": "What is a cell?"}]
LISTED = (
    "An answer by one.\n\nSources:\n1. Cells - https://example.org/cells\n"
    "2. Notes on enzymes - notes/enzymes.md"
)
TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "look", "arguments": '{"x":1}'},
}


def client(served: Served, **more: Any) -> Any:
    # Any: the client's types know only OpenAI's own models and fields.
    return openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="unused", **more)


@pytest.mark.asyncio
async def test_answers_a_chat_completion_with_sources_and_headers(
    served: Served,
) -> None:
    async with client(served) as ai:
        raw = await ai.chat.completions.with_raw_response.create(
            model="auto", messages=QUESTION, user="s1", temperature=0.5, max_tokens=9
        )
    answer = raw.parse()
    assert answer.choices[0].message.content == LISTED
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "upstream-model"
    assert answer.system_fingerprint == "one"
    assert answer.usage.total_tokens == 18
    assert answer.citations == ["https://example.org/cells", "notes/enzymes.md"]
    assert answer.search_results[0]["snippet"] == "Cells live."
    headers = raw.headers
    assert headers["x-plb-backend"] == "one"
    assert headers["x-plb-track"] == "main"
    assert headers["x-plb-algorithm"] == "round_robin"
    assert headers["x-plb-attempts"] == "1"
    assert int(headers["x-plb-overhead-us"]) > 0
    assert headers["x-request-id"] == answer.id == answer._request_id
    query = served.one.queries[0]
    assert query.text == "What is a cell?"
    assert query.session == "s1"
    assert query.max_output_tokens == 9
    assert query.options == {"temperature": 0.5}
    assert query.messages == tuple(QUESTION)


@pytest.mark.asyncio
async def test_the_synchronous_client_works_too(served: Served) -> None:
    def ask() -> str:
        ai: Any
        with openai.OpenAI(base_url=f"{served.url}/v1", api_key="unused") as ai:
            answer = ai.chat.completions.create(model="one", messages=QUESTION)
            pieces = ai.chat.completions.create(
                model="one", messages=QUESTION, stream=True
            )
            text = "".join(p.choices[0].delta.content or "" for p in pieces)
            assert text == answer.choices[0].message.content
            return text

    assert await asyncio.to_thread(ask) == LISTED


@pytest.mark.asyncio
async def test_a_base_url_without_v1_is_served(served: Served) -> None:
    ai: Any
    async with openai.AsyncOpenAI(base_url=served.url, api_key="unused") as ai:
        answer = await ai.chat.completions.create(model="auto", messages=QUESTION)
    assert answer.choices[0].message.content == LISTED


@pytest.mark.parametrize("model", ["auto", "main", "spare", "one", "gpt-x", "fast/one"])
@pytest.mark.asyncio
async def test_model_names_a_route_track_backend_or_served_model(
    served: Served, model: str
) -> None:
    async with client(served) as ai:
        answer = await ai.chat.completions.create(model=model, messages=QUESTION)
        assert (await ai.models.retrieve(model)).id == model
        listed = [each.id async for each in ai.models.list()]
    assert answer.system_fingerprint == "one"
    assert model in listed
    assert served.one.queries[0].model == model


@pytest.mark.asyncio
async def test_streams_role_text_sources_finish_and_usage(served: Served) -> None:
    async with client(served) as ai:
        stream = await ai.chat.completions.create(
            model="auto",
            messages=QUESTION,
            stream=True,
            stream_options={"include_usage": True},
        )
        assert stream.response.headers["x-plb-backend"] == "one"
        assert stream.response.headers["content-type"] == "text/event-stream"
        chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == LISTED
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-2].model == "upstream-model"
    assert chunks[-2].citations[1] == "notes/enzymes.md"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 18
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.asyncio
async def test_a_stream_without_the_option_has_no_usage_chunk(served: Served) -> None:
    async with client(served) as ai:
        stream = await ai.chat.completions.create(
            model="auto", messages=QUESTION, stream=True
        )
        chunks = [chunk async for chunk in stream]
    assert all(chunk.choices for chunk in chunks)
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)


@pytest.mark.asyncio
async def test_tool_calls_pass_plain_and_streamed(served: Served) -> None:
    delta = {"index": 0, **CALL}
    served.one.answer = Answer("", finish_reason="tool_calls", tool_calls=(CALL,))
    served.one.pieces = [Chunk(tool_calls=(delta,))]
    async with client(served) as ai:
        answer = await ai.chat.completions.create(
            model="auto", messages=QUESTION, tools=[TOOL], tool_choice="auto"
        )
        stream = await ai.chat.completions.create(
            model="auto", messages=QUESTION, tools=[TOOL], stream=True
        )
        chunks = [chunk async for chunk in stream]
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls[0].function.arguments == '{"x":1}'
    assert chunks[1].choices[0].delta.tool_calls[0].function.name == "look"
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert served.one.queries[0].needs == {"tools"}
    assert served.one.queries[0].options["tools"] == [TOOL]


@pytest.mark.asyncio
async def test_structured_output_gets_nothing_appended(served: Served) -> None:
    served.one.answer = Answer('{"a":1}', sources=served.one.answer.sources)
    async with client(served) as ai:
        answer = await ai.chat.completions.create(
            model="auto", messages=QUESTION, response_format={"type": "json_object"}
        )
    assert json.loads(answer.choices[0].message.content) == {"a": 1}
    assert served.one.queries[0].needs == {"response_format"}


@pytest.mark.asyncio
async def test_the_label_is_shown_with_the_text(served: Served) -> None:
    served.one.answer = Answer("Text.", label="Starter collection.")
    async with client(served) as ai:
        answer = await ai.chat.completions.create(model="auto", messages=QUESTION)
    assert answer.choices[0].message.content == "Text.\n\nStarter collection."


@pytest.mark.asyncio
async def test_sources_in_text_can_be_switched_off(serve: Serve) -> None:
    served = await serve(gateway="sources_in_text = false")
    async with client(served) as ai:
        answer = await ai.chat.completions.create(model="auto", messages=QUESTION)
    assert answer.choices[0].message.content == "An answer by one."
    assert len(answer.citations) == 2


@pytest.mark.asyncio
async def test_fails_over_before_the_first_text(serve: Serve) -> None:
    served = await serve(more=TWO)
    served.one.failures = [BadAnswer("x"), BadAnswer("x")]
    async with client(served) as ai:
        raw = await ai.chat.completions.with_raw_response.create(
            model="auto", messages=QUESTION
        )
        stream = await ai.chat.completions.create(
            model="auto", messages=QUESTION, stream=True
        )
        text = [c.choices[0].delta.content async for c in stream]
    assert raw.headers["x-plb-attempts"] == "2"
    assert raw.headers["x-plb-backend"] == "two"
    assert "two." in "".join(each or "" for each in text)


ERRORS = [
    (NoAnswer("x"), openai.UnprocessableEntityError, "no_answer", 1),
    (
        NoAnswer("x", reason="context_length"),
        openai.BadRequestError,
        "context_length_exceeded",
        1,
    ),
    (
        NoAnswer("x", reason="content_filter"),
        openai.BadRequestError,
        "content_filter",
        1,
    ),
    (
        NoAnswer("x", reason="invalid_request"),
        openai.BadRequestError,
        "invalid_request",
        1,
    ),
    (BackendTimeout("x"), openai.InternalServerError, "all_backends_failed", 1),
    (
        BackendRefused("secret-address", status=500),
        openai.InternalServerError,
        "all_backends_failed",
        1,
    ),
    (
        BackendMisconfigured("secret-address"),
        openai.InternalServerError,
        "backend_misconfigured",
        1,
    ),
    (
        BackendBusy("x", retry_after_s=0.01),
        openai.RateLimitError,
        "backends_busy",
        3,
    ),
]


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.asyncio
async def test_errors_become_the_clients_classes_with_its_retries(
    served: Served, case: tuple[Exception, type[Exception], str, int], stream: bool
) -> None:
    failure, kind, code, attempts = case
    sent = []

    async def count(request: object) -> None:
        sent.append(request)

    served.one.failures = [failure] * 3
    async with client(served) as ai:
        ai._client.event_hooks["request"].append(count)
        with pytest.raises(kind) as raised:
            await ai.chat.completions.create(
                model="auto", messages=QUESTION, stream=stream
            )
    error: Any = raised.value
    assert error.code == code
    assert len(sent) == attempts
    assert error.request_id.startswith("req_")
    assert "secret-address" not in str(error)
    assert set(error.body) == {"message", "type", "param", "code"}
    assert served.in_flight == 0


@pytest.mark.asyncio
async def test_nothing_open_is_503_with_a_wait(served: Served) -> None:
    served.balancer.plan.candidates["one"].health = "unhealthy"
    async with client(served, max_retries=0) as ai:
        with pytest.raises(openai.InternalServerError) as raised:
            await ai.chat.completions.create(model="auto", messages=QUESTION)
    answer = raised.value.response
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["retry-after-ms"] == "1000"
    assert "x-should-retry" not in answer.headers
    assert raised.value.code == "no_backend_available"


@pytest.mark.asyncio
async def test_an_unknown_model_is_404(served: Served) -> None:
    async with client(served) as ai:
        with pytest.raises(openai.NotFoundError) as raised:
            await ai.chat.completions.create(model="gpt-9", messages=QUESTION)
        with pytest.raises(openai.NotFoundError):
            await ai.models.retrieve("gpt-9")
    assert raised.value.code == "model_not_found"
    assert raised.value.param == "model"


async def collect(stream: Any, texts: list[str]) -> None:
    async for chunk in stream:
        texts.append(chunk.choices[0].delta.content)  # noqa: PERF401 - kept on a failure


@pytest.mark.parametrize("how", ["raises", "truncated"])
@pytest.mark.asyncio
async def test_a_cut_stream_never_looks_complete(served: Served, how: str) -> None:
    if how == "raises":
        served.one.fails_midway = BadAnswer("cut")
    else:
        served.one.ends = "truncated"
    texts: list[str] = []
    async with client(served) as ai:
        stream = await ai.chat.completions.create(
            model="auto", messages=QUESTION, stream=True
        )
        with pytest.raises(openai.APIError) as raised:
            await collect(stream, texts)
    assert raised.value.code == "stream_cut"
    assert "An" in texts
    assert served.in_flight == 0


@pytest.mark.asyncio
async def test_answers_the_responses_api(served: Served) -> None:
    async with client(served) as ai:
        answer = await ai.responses.create(
            model="auto", input="What is a cell?", instructions="Be brief."
        )
    assert answer.output_text == LISTED
    assert answer.status == "completed"
    assert answer.output[0].type == "search_results"
    assert answer.usage.output_tokens == 7
    query = served.one.queries[0]
    assert query.text == "What is a cell?"
    assert query.messages[0] == {"role": "system", "content": "Be brief."}


# The client's stream helper serialises the final response by its closed list of item
# types; plain answers and raw events are parsed without complaint.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
@pytest.mark.asyncio
async def test_streams_the_responses_api(served: Served) -> None:
    async with (
        client(served) as ai,
        ai.responses.stream(model="auto", input="Cell?") as stream,
    ):
        events = [event async for event in stream]
        final = await stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-1] == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert final.output_text == LISTED
    assert final.output[1].type == "search_results"


@pytest.mark.asyncio
async def test_a_response_cut_short_by_length_is_incomplete(served: Served) -> None:
    served.one.answer = Answer("Half", finish_reason="length")
    async with client(served) as ai:
        answer = await ai.responses.create(model="auto", input="Cell?")
        async with ai.responses.stream(model="auto", input="Cell?") as stream:
            kinds = [event.type async for event in stream]
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert kinds[-1] == "response.incomplete"


@pytest.mark.asyncio
async def test_an_empty_response_is_still_a_message(served: Served) -> None:
    served.one.answer = Answer("")
    served.one.pieces = []
    async with (
        client(served) as ai,
        ai.responses.stream(model="auto", input="Cell?") as stream,
    ):
        final = await stream.get_final_response()
    assert final.output[0].type == "message"
    assert final.output_text == ""


@pytest.mark.asyncio
async def test_a_cut_response_stream_raises(served: Served) -> None:
    served.one.ends = "truncated"
    async with client(served) as ai:
        stream = await ai.responses.create(model="auto", input="Cell?", stream=True)
        with pytest.raises(openai.APIError) as raised:
            async for _ in stream:
                pass
    assert raised.value.code == "stream_cut"


@pytest.mark.asyncio
async def test_function_calls_pass_through_the_responses_api(served: Served) -> None:
    served.one.answer = Answer("", finish_reason="tool_calls", tool_calls=(CALL,))
    served.one.pieces = [Chunk(tool_calls=({"index": 0, **CALL},))]
    tool = {"type": "function", "name": "look", "parameters": {}, "strict": False}
    async with client(served) as ai:
        answer = await ai.responses.create(
            model="auto",
            input=[
                {"role": "user", "content": [{"type": "input_text", "text": "Go"}]},
                {
                    "type": "function_call",
                    "call_id": "call_0",
                    "name": "look",
                    "arguments": "{}",
                },
                {
                    "type": "function_call_output",
                    "call_id": "call_0",
                    "output": "seen",
                },
            ],
            tools=[tool],
            tool_choice={"type": "function", "name": "look"},
        )
        async with ai.responses.stream(
            model="auto", input="Go", tools=[tool]
        ) as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_response()
    assert answer.output[0].type == "function_call"
    assert answer.output[0].arguments == '{"x":1}'
    assert "response.function_call_arguments.delta" in kinds
    assert final.output[0].call_id == "call_1"
    query: Any = served.one.queries[0]
    assert [message["role"] for message in query.messages] == [
        "user",
        "assistant",
        "tool",
    ]
    assert query.text == "Go"
    assert query.options["tools"][0]["function"]["name"] == "look"
    assert query.options["tool_choice"]["function"] == {"name": "look"}


@pytest.mark.asyncio
async def test_embeds_as_base64_and_as_numbers(served: Served) -> None:
    async with client(served) as ai:
        packed = await ai.embeddings.create(model="one", input=["ab", "c"])
        plain = await ai.embeddings.create(
            model="one", input="ab", encoding_format="float", dimensions=2
        )
    assert [each.embedding for each in packed.data] == [[2.0, 0.5], [1.0, 0.5]]
    assert plain.data[0].embedding == [2.0, 0.5]
    assert packed.model == "embedder"
    assert packed.usage.prompt_tokens == 3
    assert served.one.queries[1].options == {"dimensions": 2}


@pytest.mark.asyncio
async def test_the_token_is_asked_for_everywhere_but_the_probes(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN", "s3cret")
    served = await serve(gateway='token_env = "GATEWAY_TOKEN"')
    async with client(served) as ai:
        with pytest.raises(openai.AuthenticationError) as raised:
            await ai.models.list()
        assert raised.value.code == "invalid_token"
        known = ai.with_options(api_key="s3cret")
        assert (await known.models.list()).data
        health = await ai._client.get(f"{served.url}/healthz")
        ready = await ai._client.get(f"{served.url}/readyz")
    assert health.json() == {"status": "ok"}
    assert ready.json() == {"status": "ready"}
