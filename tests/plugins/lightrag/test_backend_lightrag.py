from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

import plb_backend_lightrag
from plb_backend_lightrag import LightRAGSettings
from plb_backend_lightrag.replies import (
    Reply,
    read_reply,
    request_body,
    shorten,
)
from plb_core.settings import EnvVar
from plb_core.testing import fakes
from plb_core.types import Query, Source
from tests.plugins.lightrag.upstream import (
    ANSWERED,
    QUESTION,
    SECRET,
    Upstream,
    open_backend,
    says,
)


@pytest.mark.asyncio
async def test_asks_with_the_settings_and_returns_text_and_sources(
    upstream: Upstream,
) -> None:
    upstream.on("/query", says(ANSWERED))
    async with open_backend(
        upstream.url,
        mode="hybrid",
        top_k=7,
        chunk_top_k=3,
        response_type="Bullet Points",
    ) as backend:
        answer = await backend.ask(QUESTION, 5.0)
    assert answer.text == ANSWERED["response"]
    assert answer.sources == (
        Source(
            "glycolysis.md", "notes/glycolysis.md", "Phosphofructokinase sets the pace."
        ),
        Source("krebs.md", "krebs.md"),
    )
    assert answer.usage is None
    assert answer.cost_micro_usd is None
    assert answer.llm_generated
    assert upstream.seen[0].body == {
        "query": QUESTION.text,
        "mode": "hybrid",
        "include_references": True,
        "include_chunk_content": True,
        "top_k": 7,
        "chunk_top_k": 3,
        "response_type": "Bullet Points",
    }


@pytest.mark.asyncio
async def test_asks_for_no_passages_when_it_asks_for_no_references(
    upstream: Upstream,
) -> None:
    upstream.on("/query", says({**ANSWERED, "references": None}))
    async with open_backend(upstream.url, include_references=False) as backend:
        answer = await backend.ask(QUESTION, 5.0)
    assert answer.sources == ()
    body = upstream.seen[0].body
    assert (body["include_references"], body["include_chunk_content"]) == (False, False)


@pytest.mark.asyncio
async def test_sends_the_key_and_nothing_of_the_caller(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_LIGHTRAG_KEY", SECRET)
    upstream.on("/query", says(ANSWERED))
    query = Query(
        "Which?", attributes={"authorization": "Bearer caller"}, session="caller"
    )
    async with open_backend(
        upstream.url, api_key_env=EnvVar("TEST_LIGHTRAG_KEY")
    ) as backend:
        await backend.ask(query, 5.0)
        assert SECRET not in repr(vars(backend))
    headers = upstream.seen[0].headers
    assert headers["x-api-key"] == SECRET
    assert "authorization" not in headers
    assert "caller" not in json.dumps([dict(headers), upstream.seen[0].body])


@pytest.mark.asyncio
async def test_answers_without_the_flag_of_older_servers_count_as_generated(
    upstream: Upstream,
) -> None:
    upstream.on("/query", says({"response": "An enzyme.", "unknown_key": 1}))
    async with open_backend(upstream.url) as backend:
        answer = await backend.ask(QUESTION, 5.0)
    assert (answer.text, answer.sources, answer.llm_generated) == (
        "An enzyme.",
        (),
        True,
    )


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("a.md", "a.md"),
        ("/data/notes/a b.pdf", "a b.pdf"),
        ("C:\\notes\\a.md", "a.md"),
        ("https://example.org/wiki/", "wiki"),
        ("unknown_source", "unknown_source"),
        ("", ""),
    ],
)
def test_a_source_is_titled_by_its_file_name(path: str, title: str) -> None:
    reply = read_reply({"response": "x", "references": [{"file_path": path}]})
    assert reply.sources == (Source(title, path),)


@pytest.mark.parametrize(
    ("content", "quote"),
    [
        (None, ""),
        ("One\n passage.", "One passage."),
        ([], ""),
        ([None, "Second."], "Second."),
        (["First.", "Second."], "First."),
        (7, ""),
    ],
)
def test_a_source_quotes_its_first_passage(content: object, quote: str) -> None:
    reply = read_reply(
        {"response": "x", "references": [{"file_path": "a", "content": content}]}
    )
    assert reply.sources == (Source("a", "a", quote),)


def test_long_quotes_are_cut_between_words() -> None:
    text = shorten("word " * 500, 21)
    assert text == "word word word word…"
    assert len(shorten("x" * 500, 21)) == 21


def test_the_text_of_a_reply_stays_out_of_its_repr() -> None:
    assert SECRET not in repr(Reply(SECRET))


def test_the_conversation_before_the_question_is_its_history() -> None:
    query = Query(
        "And the second?",
        messages=(
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "In French."}]},
            {"role": "user", "content": "Name the first step."},
            {"role": "assistant", "content": "Hexokinase.", "name": "x"},
            {"role": "assistant", "content": None, "tool_calls": [{}]},
            {"role": "tool", "content": "42"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "And the"},
                    {"type": "image_url", "image_url": {"url": "data:"}},
                    {"type": "text", "text": "second?"},
                    "odd",
                ],
            },
        ),
    )
    assert request_body(query, {"mode": "mix"}) == {
        "query": "And the second?",
        "mode": "mix",
        "conversation_history": [
            {"role": "user", "content": "Name the first step."},
            {"role": "assistant", "content": "Hexokinase."},
        ],
        "user_prompt": "Be brief.\n\nIn French.",
    }


@pytest.mark.parametrize(
    "messages",
    [
        (),
        ({"role": "user", "content": "Which?"},),
        ({"role": "assistant", "content": "Hello."},),
        ({"content": "no role"}, {"role": "user", "content": 7}),
    ],
)
def test_without_earlier_turns_there_is_no_history(
    messages: tuple[Mapping[str, object], ...],
) -> None:
    query = Query("Which?", messages=messages)
    assert request_body(query, {}) == {"query": "Which?"}


def test_is_registered_with_small_concurrency_and_graph_knowledge() -> None:
    provider = plb_backend_lightrag.plb_register_backend()
    assert provider.name == "lightrag"
    assert provider.settings is LightRAGSettings
    assert provider.summary
    made = provider.build(LightRAGSettings(), fakes.context())
    assert made.traits.max_in_flight == 4
    assert made.traits.knowledge == "graph"
    assert made.traits.capabilities == {"chat", "stream"}
    assert made.traits.price is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_k": 0},
        {"chunk_top_k": 0},
        {"response_type": " "},
        {"base_url": "ftp://x"},
        {"base_url": "http://user:pw@host"},
        {"idle_timeout_s": 0.0},
        {"first_byte_timeout_s": -1.0},
    ],
)
def test_refuses_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        LightRAGSettings(**wrong)


def test_every_setting_has_a_help_text() -> None:
    assert all("doc" in field.metadata for field in attrs.fields(LightRAGSettings))
