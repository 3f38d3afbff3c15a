"""What a body may hold, field by field; every refusal names the field."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.gateway_raw import QUESTION, chat, refusal, send
from tests.gateway.gateway_setup import Served

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


VALUE = "invalid_value"
WRONG_CHAT = [
    ({}, "missing_field", "messages"),
    ({"messages": None}, VALUE, "messages"),
    ({"messages": "hi"}, VALUE, "messages"),
    ({"messages": []}, VALUE, "messages"),
    ({"messages": ["hi"]}, VALUE, "messages[0]"),
    ({"messages": [QUESTION] * 2049}, VALUE, "messages"),
    ({"messages": [{"content": "x"}]}, VALUE, "messages[0].role"),
    ({"messages": [{"role": "god", "content": "x"}]}, VALUE, "messages[0].role"),
    ({"messages": [{"role": ["user"], "content": "x"}]}, VALUE, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "missing_field", "messages[0].content"),
    (
        {"messages": [{"role": "user", "content": None}]},
        "missing_field",
        "messages[0].content",
    ),
    ({"messages": [{"role": "user", "content": 3}]}, VALUE, "messages[0].content"),
    ({"messages": [{"role": "user", "content": " \n"}]}, VALUE, "messages"),
    ({"messages": [{"role": "system", "content": "x"}]}, VALUE, "messages"),
    (
        {"messages": [{"role": "user", "content": ["x"]}]},
        VALUE,
        "messages[0].content[0]",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
        VALUE,
        "messages[0].content[0].text",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        "unsupported_field",
        "messages[0].content[0].type",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": 3}]}]},
        "unsupported_field",
        "messages[0].content[0].type",
    ),
    (
        {"messages": [{**QUESTION, "api_base": "http://x"}]},
        "unknown_field",
        "messages[0].api_base",
    ),
    ({"messages": [{**QUESTION, "name": 3}]}, VALUE, "messages[0].name"),
    (
        {"messages": [{**QUESTION, "tool_calls": [{}]}]},
        VALUE,
        "messages[0].tool_calls",
    ),
    (
        {"messages": [{"role": "tool", "content": "x"}]},
        "missing_field",
        "messages[0].tool_call_id",
    ),
    (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "image_url",
                            "image_url": {"url": "http://127.0.0.1/x"},
                        }
                    ],
                }
            ]
        },
        "unsupported_field",
        "messages[0].content[0].image_url.url",
    ),
    (chat(model=3), VALUE, "model"),
    (chat(model=""), VALUE, "model"),
    (chat(model="a" * 201), VALUE, "model"),
    (chat(model="a\nb"), VALUE, "model"),
    (chat(model="http://evil.example/v1"), VALUE, "model"),
    (chat(model="//evil.example"), VALUE, "model"),
    (chat(model="\\\\evil\\x"), VALUE, "model"),
    (chat(stream="yes"), VALUE, "stream"),
    (chat(stream=1), VALUE, "stream"),
    (chat(stream_options=[]), VALUE, "stream_options"),
    (
        chat(stream_options={"include_usage": "x"}),
        VALUE,
        "stream_options.include_usage",
    ),
    (chat(stream_options={"x": 1}), "unknown_field", "stream_options.x"),
    (chat(temperature="hot"), VALUE, "temperature"),
    (chat(temperature=True), VALUE, "temperature"),
    (chat(temperature=2.1), VALUE, "temperature"),
    (chat(top_p=-0.1), VALUE, "top_p"),
    (chat(max_tokens=0), VALUE, "max_tokens"),
    (chat(max_tokens=1.5), VALUE, "max_tokens"),
    (chat(max_tokens=True), VALUE, "max_tokens"),
    (chat(max_completion_tokens="9"), VALUE, "max_completion_tokens"),
    (chat(stop=3), VALUE, "stop"),
    (chat(stop=["a", 3]), VALUE, "stop"),
    (chat(stop=["a"] * 17), VALUE, "stop"),
    (chat(stop={}), VALUE, "stop"),
    (chat(seed="x"), VALUE, "seed"),
    (chat(tools={}), VALUE, "tools"),
    (chat(tools=[1]), VALUE, "tools[0]"),
    (chat(tool_choice=1), VALUE, "tool_choice"),
    (chat(response_format="json"), VALUE, "response_format"),
    (chat(user=7), VALUE, "user"),
    (chat(user="a" * 257), VALUE, "user"),
    (chat(n=2), "unsupported_field", "n"),
    (chat(n=True), "unsupported_field", "n"),
    (chat(logprobs=True), "unsupported_field", "logprobs"),
    (chat(top_logprobs=3), "unsupported_field", "top_logprobs"),
    (chat(modalities=["text", "audio"]), "unsupported_field", "modalities"),
    (chat(functions=[]), "unsupported_field", "functions"),
    (chat(function_call="auto"), "unsupported_field", "function_call"),
    (chat(web_search_options={}), "unsupported_field", "web_search_options"),
]
DANGEROUS = [
    "api_base",
    "base_url",
    "custom_host",
    "api_key",
    "api_version",
    "custom_llm_provider",
    "extra_headers",
    "headers",
    "proxy",
    "url",
    "organization",
    "fallbacks",
    "mock_response",
    "__proto__",
]


@pytest.mark.parametrize(("body", "code", "param"), WRONG_CHAT)
@pytest.mark.asyncio
async def test_a_wrong_chat_field_is_named(
    served: Served, body: Any, code: str, param: str
) -> None:
    assert await refusal(served, body) == (code, param)


@pytest.mark.parametrize("name", DANGEROUS)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat()),
        ("/v1/responses", {"input": "x"}),
        ("/v1/embeddings", {"input": "x"}),
        ("/api/query", {"question": "x"}),
        ("/api/feedback", {"request_id": "x", "rating": 1}),
    ],
)
@pytest.mark.asyncio
async def test_a_field_that_could_redirect_is_refused(
    served: Served, path: str, body: dict[str, Any], name: str
) -> None:
    body = {**body, name: "http://evil.example"}
    assert await refusal(served, body, path) == ("unknown_field", name)


@pytest.mark.asyncio
async def test_a_very_long_unknown_name_is_not_echoed_whole(served: Served) -> None:
    _, param = await refusal(served, chat(**{"x" * 5000: 1}))
    assert param == "x" * 256


@pytest.mark.asyncio
async def test_harmless_and_neutral_fields_are_accepted(served: Served) -> None:
    body = chat(
        user="u",
        metadata={"a": "b"},
        store=True,
        n=1,
        logprobs=False,
        top_logprobs=None,
        modalities=["text"],
        audio=None,
        service_tier="auto",
        prompt_cache_key="k",
        safety_identifier="s",
        stream=False,
        stream_options=None,
        temperature=None,
        tools=[],
        response_format={"type": "text"},
        stop="a",
        seed=7,
    )
    status, _ = await send(served, body)
    assert status == 200
    query = served.one.queries[0]
    assert query.options == {"stop": "a", "seed": 7}
    assert query.needs == frozenset()


@pytest.mark.asyncio
async def test_text_parts_are_joined_and_old_answers_cleaned(served: Served) -> None:
    parts = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two?"}]
    earlier = {
        "role": "assistant",
        "content": [{"type": "refusal", "refusal": "No."}],
        "annotations": [],
        "refusal": None,
        "audio": None,
    }
    asked = {"role": "user", "content": parts, "name": "ann"}
    status, _ = await send(served, {"messages": [QUESTION, earlier, asked]})
    assert status == 200
    query = served.one.queries[0]
    assert query.text == "One.\nTwo?"
    assert query.messages[1] == {"role": "assistant", "content": "No."}
    assert query.messages[2] == {
        "role": "user",
        "content": "One.\nTwo?",
        "name": "ann",
    }


@pytest.mark.asyncio
async def test_images_need_a_backend_that_sees(served: Served) -> None:
    body = {"messages": [{"role": "user", "content": [IMAGE]}]}
    status, _ = await send(served, body)
    assert status == 200
    assert served.one.queries[0].needs == {"images"}
    assert served.one.queries[0].messages[0]["content"] == [IMAGE]


@pytest.mark.asyncio
async def test_a_missing_model_means_auto(served: Served) -> None:
    await send(served, chat(model=None))
    assert served.one.queries[0].model == "auto"


WRONG_RESPONSES = [
    ({}, "missing_field", "input"),
    ({"input": 3}, VALUE, "input"),
    ({"input": []}, VALUE, "messages"),
    ({"input": [3]}, VALUE, "input[0]"),
    ({"input": "x", "instructions": 3}, VALUE, "instructions"),
    ({"input": [{"type": "item_reference"}]}, "unsupported_field", "input[0].type"),
    ({"input": [{"type": 3}]}, "unsupported_field", "input[0].type"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
        "unsupported_field",
        "input[0].content[0].type",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": 1}]}]},
        "unsupported_field",
        "input[0].content[0].type",
    ),
    (
        {
            "input": [
                {
                    "role": "user",
                    "content": [{"type": "input_image", "image_url": "https://x/y"}],
                }
            ]
        },
        "unsupported_field",
        "messages[0].content[0].image_url.url",
    ),
    (
        {"input": "x", "previous_response_id": "resp_1"},
        "unsupported_field",
        "previous_response_id",
    ),
    ({"input": "x", "background": True}, "unsupported_field", "background"),
    ({"input": "x", "background": 0}, "unsupported_field", "background"),
    (
        {"input": "x", "tools": [{"type": "web_search"}]},
        "unsupported_field",
        "tools[0].type",
    ),
    ({"input": "x", "text": 3}, VALUE, "text"),
    ({"input": "x", "text": {"format": 3}}, VALUE, "text.format"),
    ({"input": "x", "reasoning": {"x": 1}}, "unknown_field", "reasoning.x"),
    ({"input": "x", "tool_choice": {"type": "mcp"}}, VALUE, "tool_choice.name"),
]


@pytest.mark.parametrize(("body", "code", "param"), WRONG_RESPONSES)
@pytest.mark.asyncio
async def test_a_wrong_responses_field_is_named(
    served: Served, body: Any, code: str, param: str
) -> None:
    assert await refusal(served, body, "/v1/responses") == (code, param)


@pytest.mark.asyncio
async def test_responses_options_become_chat_options(served: Served) -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
    body = {
        "input": [
            {"type": "search_results", "results": []},
            {"role": "assistant", "content": "Earlier."},
            {"role": "user", "content": [{"type": "input_text", "text": "Cell?"}]},
        ],
        "text": {"format": schema, "verbosity": "low"},
        "reasoning": {"effort": "low"},
        "max_output_tokens": 5,
        "background": False,
        "store": True,
    }
    status, _ = await send(served, body, "/v1/responses")
    assert status == 200
    query = served.one.queries[0]
    assert query.max_output_tokens == 5
    assert query.needs == {"response_format"}
    assert query.options == {
        "reasoning_effort": "low",
        "verbosity": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}},
        },
    }


@pytest.mark.asyncio
async def test_plain_json_formats_pass_through_responses(served: Served) -> None:
    body = {"input": "Cell?", "text": {"format": {"type": "json_object"}}}
    status, _ = await send(served, body, "/v1/responses")
    assert status == 200
    assert served.one.queries[0].options["response_format"] == {"type": "json_object"}


@pytest.mark.asyncio
async def test_a_response_may_be_asked_about_an_image(served: Served) -> None:
    url = "data:image/png;base64,AA=="
    content = [{"type": "input_image", "image_url": url}]
    body = {"input": [{"role": "user", "content": content}], "text": {}}
    status, _ = await send(served, body, "/v1/responses")
    assert status == 200
    assert served.one.queries[0].needs == {"images"}


WRONG_EMBEDDINGS = [
    ({}, "missing_field", "input"),
    ({"input": []}, VALUE, "input"),
    ({"input": ["x"] * 2049}, VALUE, "input"),
    ({"input": ""}, VALUE, "input[0]"),
    ({"input": {}}, VALUE, "input"),
    ({"input": [None]}, VALUE, "input[0]"),
    ({"input": [1, 2]}, "unsupported_field", "input[0]"),
    ({"input": [[1, 2]]}, "unsupported_field", "input[0]"),
    ({"input": "x", "encoding_format": "hex"}, VALUE, "encoding_format"),
    ({"input": "x", "dimensions": 0}, VALUE, "dimensions"),
]


@pytest.mark.parametrize(("body", "code", "param"), WRONG_EMBEDDINGS)
@pytest.mark.asyncio
async def test_a_wrong_embeddings_field_is_named(
    served: Served, body: Any, code: str, param: str
) -> None:
    assert await refusal(served, body, "/v1/embeddings") == (code, param)
