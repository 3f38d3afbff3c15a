"""The Responses form that Perplexity's Agent API and OpenAI share, as events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from plb_core.testing.emulators.facts import words


def message_item(number: int, text: str) -> dict[str, object]:
    """Return the output item that holds an answer's text."""
    return {
        "type": "message",
        "id": f"msg_{number:04d}",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }


def question_of(body: Mapping[str, object]) -> str:
    """Return the last user text of `input` or `messages`, "" when there is none."""
    given = body.get("input", body.get("messages"))
    if isinstance(given, str):
        return given
    turns = (
        [turn for turn in given if isinstance(turn, dict)]
        if isinstance(given, list)
        else []
    )
    for turn in reversed(turns):
        if turn.get("role", "user") == "user":
            return content_text(turn.get("content"))
    return ""


def content_text(content: object) -> str:
    """Return the text of a message's content, a string or a list of parts."""
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def sse(events: Iterable[Mapping[str, object]]) -> tuple[bytes, ...]:
    """Return numbered events in the form of Server-Sent Events, one piece each."""
    pieces = []
    for number, event in enumerate(events):
        data = json.dumps({**event, "sequence_number": number}, ensure_ascii=False)
        pieces.append(f"event: {event['type']}\ndata: {data}\n\n".encode())
    return tuple(pieces)


def text_events(
    final: Mapping[str, object], text: str, index: int, *, deltas: bool = True
) -> list[dict[str, object]]:
    """Return the events from `response.created` to the end of the text.

    `index` is the message's place in the output. Without `deltas` the text is only
    in the terminal object, which the caller adds.
    """
    begun = {**final, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, object]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    if not deltas:
        return events
    place: dict[str, object] = {"output_index": index, "content_index": 0}
    place["item_id"] = f"msg_{index:04d}"
    item: dict[str, object] = {"type": "message", "role": "assistant", "content": []}
    events.append(
        {"type": "response.output_item.added", "output_index": index, "item": item}
    )
    events += [
        {"type": "response.output_text.delta", "delta": piece, **place}
        for piece in words(text)
    ]
    events.append({"type": "response.output_text.done", "text": text, **place})
    output = final["output"]
    assert isinstance(output, list)
    done: dict[str, object] = {"output_index": index, "item": output[-1]}
    events.append({"type": "response.output_item.done", **done})
    return events
