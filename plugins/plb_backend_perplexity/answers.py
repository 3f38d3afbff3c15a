"""Turn a complete response into an answer, or say why it is none.

A status code decides nothing here: failed, cut and unfinished runs all come with 200.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from plb_backend_perplexity import bills, sources, wire
from plb_core import Answer, BackendBusy, BackendError, BadAnswer, NoAnswer
from plb_core.types import FinishReason

_BUSY_TYPES: Final = frozenset({"overloaded", "rate_limit_exceeded", "rate_limit"})
_UNFINISHED: Final = frozenset(
    {"queued", "in_progress", "cancelled", "cancelling", "requires_action"}
)
_CHAT_ENDS: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
}
_MODEL_CHARACTERS: Final = 200


def is_busy(error: Mapping[str, object]) -> bool:
    """Return whether an error object reports load rather than sickness."""
    return wire.text(error.get("type")) in _BUSY_TYPES or error.get("code") in (
        429,
        "429",
    )


def failure(error: object) -> BackendError:
    """Return what a failed run raises; the far side's text stays out of it."""
    if is_busy(wire.table(error)):
        return BackendBusy("Perplexity is overloaded and gave up this run")
    return BadAnswer("Perplexity reports that the run failed")


def output_text(output: object) -> str:
    """Return the text of all message items, joined."""
    return "".join(
        wire.text(wire.table(part).get("text"))
        for item in map(wire.table, wire.items(output))
        if item.get("type") == "message" and item.get("role") in (None, "assistant")
        for part in wire.items(item.get("content"))
    )


def agent_answer(data: object, flag: bills.Flag, streamed: str = "") -> Answer:
    """Return the answer in an Agent API response.

    `streamed` is text that was already shown; where the response does not continue
    it, it is the answer's text. Raises `BadAnswer`, `BackendBusy` or `NoAnswer`.
    """
    if not isinstance(data, Mapping):
        message = "Perplexity sent no JSON object"
        raise BadAnswer(message)
    text = sources.plain_marks(output_text(data.get("output")))
    if not text.startswith(streamed):
        text = streamed
    finish_reason = _finish_reason(data, bool(text.strip()))
    return Answer(
        text=text,
        sources=sources.from_output(wire.items(data.get("output"))),
        usage=bills.usage(data.get("usage"), flag),
        model=wire.one_line(data.get("model"), _MODEL_CHARACTERS),
        finish_reason=finish_reason,
        cost_micro_usd=bills.cost_micro_usd(data.get("usage"), flag),
    )


def _finish_reason(data: Mapping[str, object], has_text: bool) -> FinishReason:
    status = data.get("status")
    if status == "failed" or (status is None and data.get("error")):
        raise failure(data.get("error"))
    if status == "incomplete":
        return _cut(data, has_text)
    if status != "completed":
        shown = status if wire.text(status) in _UNFINISHED else "unknown"
        message = f"Perplexity ended the run with status {shown}"
        raise BadAnswer(message)
    if not has_text:
        message = "Perplexity completed the run without any text"
        raise BadAnswer(message)
    return "stop"


def _cut(data: Mapping[str, object], has_text: bool) -> FinishReason:
    reason = wire.table(data.get("incomplete_details")).get("reason")
    if reason == "content_filter":
        if has_text:
            return "content_filter"
        message = "Perplexity's content filter declined"
        raise NoAnswer(message, reason="content_filter")
    if reason == "max_output_tokens" and has_text:
        return "length"
    message = "Perplexity broke the run off"
    if reason == "max_output_tokens":
        message = "Perplexity used up max_output_tokens before any text"
    raise BadAnswer(message)


def chat_answer(data: object, flag: bills.Flag) -> Answer:
    """Return the answer in a chat-completions body; raises like `agent_answer`."""
    if not isinstance(data, Mapping):
        message = "the relay sent no JSON object"
        raise BadAnswer(message)
    if data.get("error"):
        raise failure(data.get("error"))
    choice = next(map(wire.table, wire.items(data.get("choices"))), {})
    text = sources.plain_marks(
        wire.text(wire.table(choice.get("message")).get("content"))
    )
    return Answer(
        text=text,
        sources=sources.from_chat(data),
        usage=bills.usage(data.get("usage"), flag),
        model=wire.one_line(data.get("model"), _MODEL_CHARACTERS),
        finish_reason=chat_end(choice.get("finish_reason"), bool(text.strip())),
        cost_micro_usd=bills.cost_micro_usd(data.get("usage"), flag),
    )


def chat_end(reason: object, has_text: bool) -> FinishReason:
    """Return why a chat answer ended; raises when that makes it no answer."""
    end = _CHAT_ENDS.get(wire.text(reason)) if reason is not None else "stop"
    if end == "content_filter" and not has_text:
        message = "the content filter declined"
        raise NoAnswer(message, reason="content_filter")
    if end is None or not has_text:
        message = "the relay's answer has no text" if end else "unknown finish_reason"
        raise BadAnswer(message)
    return end
