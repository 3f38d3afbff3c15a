"""Write the bodies that go to the endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plb_core import Query

CHAT_OPTIONS: Final = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning_effort",
        "response_format",
        "seed",
        "service_tier",
        "stop",
        "temperature",
        "tool_choice",
        "tools",
        "top_p",
        "user",
        "verbosity",
    }
)
"""What a question may set; everything else in `Query.options` stays here."""

EMBEDDING_OPTIONS: Final = frozenset({"dimensions", "user"})


def chat_body(
    query: Query, model: str, token_limit_field: str, *, stream: bool, usage: bool
) -> dict[str, object]:
    """Return the body of a chat completion."""
    messages: object = query.messages or ({"role": "user", "content": query.text},)
    body: dict[str, object] = {"model": model, "messages": messages}
    if query.options:
        body.update(_allowed(query, CHAT_OPTIONS))
    if query.max_output_tokens is not None:
        body[token_limit_field] = query.max_output_tokens
    if stream:
        body["stream"] = True
        if usage:
            body["stream_options"] = {"include_usage": True}
    return body


def embedding_body(
    query: Query, inputs: Sequence[str], model: str
) -> dict[str, object]:
    """Return the body of an embeddings call."""
    body: dict[str, object] = {
        "model": model,
        "input": list(inputs),
        "encoding_format": "float",
    }
    body.update(_allowed(query, EMBEDDING_OPTIONS))
    return body


def prompt_characters(query: Query) -> int:
    """Return the length of what is asked, for estimates."""
    if not query.messages:
        return len(query.text)
    return sum(_characters(message.get("content")) for message in query.messages)


def _characters(content: object) -> int:
    if isinstance(content, str):
        return len(content)
    if isinstance(content, list | tuple):
        return sum(
            len(part["text"])
            for part in content
            if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return 0


def _allowed(query: Query, names: frozenset[str]) -> dict[str, object]:
    return {name: value for name, value in query.options.items() if name in names}
