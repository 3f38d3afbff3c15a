"""What an emulated OpenAI-compatible endpoint says, whole and as chunks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from plb_core.testing.emulators.base import Tokens
from plb_core.testing.emulators.facts import answer_text, words

CALL: Final = {
    "id": "call_0001",
    "type": "function",
    "function": {"name": "look_up", "arguments": '{"term":"ATP"}'},
}

_FAILURE: Final = {
    "message": "The server had an error.",
    "type": "server_error",
    "param": None,
    "code": "internal_error",
}


def completion(
    question: str, body: Mapping[str, object], hidden: str
) -> tuple[str, str]:
    """Return the text and the finish reason."""
    if hidden in ("empty", "content_filter"):
        return "", "content_filter" if hidden == "content_filter" else "stop"
    if hidden == "tool_call":
        return "", "tool_calls"
    text = answer_text(question)
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    limit = body.get("max_output_tokens", limit)
    if hidden == "length":
        limit = 5
    if isinstance(limit, int) and len(text) > limit * 4:
        return text[: limit * 4], "length"
    return text, "stop"


def _delta(
    frame: Mapping[str, object], delta: Mapping[str, object], finish: str | None = None
) -> dict[str, object]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {**frame, "choices": [choice]}


def chat_events(
    frame: Mapping[str, object],
    text: str,
    finish: str,
    usage: Mapping[str, int] | None,
    hidden: str,
) -> tuple[bytes, ...]:
    """Return the chunks of a streamed completion; `usage` None asks for no count."""
    frame = {**frame, "object": "chat.completion.chunk"}
    chunks: list[object] = [_delta(frame, {"role": "assistant", "content": ""})]
    chunks += [_delta(frame, {"content": piece}) for piece in words(text)]
    if finish == "tool_calls":
        chunks.append(_delta(frame, {"tool_calls": [{"index": 0, **CALL}]}))
    chunks.append(_delta(frame, {}, finish))
    if usage is not None:
        chunks.append({**frame, "choices": [], "usage": usage})
    broken = hidden in ("stream_fails", "stream_ends")
    if broken:
        del chunks[len(chunks) // 2 :]
    if hidden == "stream_fails":
        chunks.append({"error": _FAILURE})
    pieces = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks]
    if not broken and hidden != "no_done":
        pieces.append(b"data: [DONE]\n\n")
    return tuple(pieces)


def chat_usage(tokens: Tokens) -> dict[str, int]:
    """Return the counts under the names of chat completions."""
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
    }
