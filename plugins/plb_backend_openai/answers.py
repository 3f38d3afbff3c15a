"""Turn a completion into an answer, or into the error it hides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from plb_backend_openai import fields
from plb_backend_openai.refusals import WHAT, reported
from plb_backend_openai.request import prompt_characters
from plb_core import Answer, BadAnswer, NoAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plb_core.http.client import HttpAnswer
    from plb_core.types import FinishReason, Query

_FINISH: Final[Mapping[str, FinishReason]] = {
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
"""Words for an end that is not simply the end; unknown ones count as "stop"."""

JSON_TYPES: Final = frozenset({"", "application/json", "text/plain"})


class Asked(NamedTuple):
    """What has to be known of the question to read its answer."""

    model: str
    query: Query


def completion(answer: HttpAnswer, asked: Asked) -> Answer:
    """Return the answer in a chat completion; raise what is hidden behind its 200."""
    data = json_object(answer)
    choices = fields.items(data.get("choices"))
    choice = fields.table(choices[0]) if choices else {}
    message = choice.get("message")
    if not isinstance(message, dict):
        raise BadAnswer(f"{WHAT} answered without a message")
    calls = tuple(filter(is_call, fields.items(message.get("tool_calls"))))
    return finished(
        data,
        message,
        text=content(message.get("content")),
        calls=calls,
        finish=fields.text(choice.get("finish_reason")),
        asked=asked,
    )


def json_object(answer: HttpAnswer) -> Mapping[str, object]:
    """Return the object in a successful answer; raise the error it may hold."""
    data = answer.data
    kind = answer.content_type
    if not (kind in JSON_TYPES or kind.endswith("+json")):
        raise BadAnswer(f"{WHAT} answered with a content type that is not JSON")
    if not isinstance(data, dict):
        raise BadAnswer(f"{WHAT} answered with something that is no JSON object")
    if data.get("error"):
        raise reported(data["error"], answer.headers)
    return data


def content(value: object) -> str:
    """Return the text of a message: a string, text parts, or nothing."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = [fields.table(part).get("text", "") for part in value]
        if all(isinstance(part, str) for part in parts):
            return "".join(map(str, parts))
    raise BadAnswer(f"{WHAT} answered with content that is no text")


def is_call(value: object) -> bool:
    """Say whether this is a whole tool call."""
    function = fields.table(fields.table(value).get("function"))
    name = function.get("name")
    return isinstance(name, str) and name != ""


def finished(
    data: Mapping[str, object],
    message: Mapping[str, object],
    *,
    text: str,
    calls: tuple[Mapping[str, object], ...] | tuple[object, ...],
    finish: str,
    asked: Asked,
) -> Answer:
    """Return the answer with everything around it; raise when there is none."""
    if finish == "error":
        raise BadAnswer(f"{WHAT} failed while it answered")
    reason = _FINISH.get(finish, "stop")
    if not text.strip() and not calls:
        raise _nothing(reason, fields.text(message.get("refusal")), asked)
    if calls and reason == "stop":
        reason = "tool_calls"
    return Answer(
        text=text,
        sources=fields.sources(data, message),
        usage=fields.usage(data.get("usage"))
        or fields.estimated_usage(prompt_characters(asked.query), len(text)),
        model=fields.text(data.get("model"))[:200] or asked.model,
        finish_reason=reason,
        cost_micro_usd=fields.cost_micro_usd(data.get("usage")),
        tool_calls=tuple(dict(fields.table(call)) for call in calls) if calls else (),
    )


def _nothing(reason: str, refused: str, asked: Asked) -> Exception:
    if reason == "content_filter" or refused:
        return NoAnswer(f"{WHAT} declined to answer", reason="content_filter")
    if reason == "length" and asked.query.max_output_tokens is not None:
        return NoAnswer(
            "the token limit of the question left no room for an answer",
            reason="invalid_request",
        )
    return BadAnswer(f"{WHAT} answered with nothing")
