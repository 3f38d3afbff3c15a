"""Check a conversation in OpenAI's chat form and find the question in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeGuard

from plb_gateway import fields
from plb_gateway.errors import Refusal

_ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool"})
# A tuple: an unhashable role from the body must not raise.
_PLAIN_ROLES: Final = ("user", "assistant", "system", "developer")
_SENT_ON: Final = ("role", "content", "name", "tool_calls", "tool_call_id")
# What clients send back from earlier answers; no backend needs it.
_DROPPED: Final = frozenset(
    {
        "annotations",
        "audio",
        "function_call",
        "reasoning",
        "reasoning_content",
        "refusal",
    }
)
_KNOWN: Final = frozenset(_SENT_ON) | _DROPPED
_MOST_MESSAGES: Final = 2048


class Conversation(NamedTuple):
    """A checked conversation: what is sent on, the last question, what it takes."""

    messages: tuple[Mapping[str, object], ...]
    question: str
    has_images: bool


def read_messages(value: object, param: str = "messages") -> Conversation:
    """Return the checked conversation; raise `Refusal` naming what is wrong."""
    entries = fields.listing(value, param)
    if not 1 <= len(entries) <= _MOST_MESSAGES:
        raise fields.wrong(param, f"1 to {_MOST_MESSAGES} messages")
    messages: list[Mapping[str, object]] = []
    question: str | None = None
    has_images = False
    for index, entry in enumerate(entries):
        if _is_plain(entry):
            message: Mapping[str, object] = entry
            text = entry["content"]
        else:
            message, text, images = _read_message(entry, f"{param}[{index}]")
            has_images = has_images or images
        messages.append(message)
        if message["role"] == "user":
            question = text
    if question is None:
        raise fields.wrong(param, "a message of the role 'user'")
    if not question.strip() and not has_images:
        raise fields.wrong(param, "a last question that is not empty")
    return Conversation(tuple(messages), question, has_images)


def _is_plain(entry: object) -> TypeGuard[dict[str, str]]:
    """Tell whether a message has a role and a text only: the usual case, sent as is."""
    return (
        isinstance(entry, dict)
        and len(entry) == 2  # noqa: PLR2004 - these two and no other
        and isinstance(entry.get("content"), str)
        and entry.get("role") in _PLAIN_ROLES
    )


def _read_message(value: object, place: str) -> tuple[Mapping[str, object], str, bool]:
    entry = fields.mapping(value, place)
    role = entry.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        expected = "one of " + ", ".join(sorted(_ROLES))
        raise fields.wrong(f"{place}.role", expected)
    fields.only_known(entry, _KNOWN, place)
    content = entry.get("content")
    message = {name: entry[name] for name in _SENT_ON if entry.get(name) is not None}
    _check_companions(message, role, place)
    if content is None:
        if role != "assistant" or "tool_calls" not in message:
            raise fields.missing(f"{place}.content")
        return message, "", False
    text, parts = _read_content(content, f"{place}.content")
    message["content"] = text if parts is None else parts
    return message, text, parts is not None


def _check_companions(message: Mapping[str, object], role: str, place: str) -> None:
    if "name" in message:
        fields.key(message["name"], f"{place}.name")
    if "tool_calls" in message:
        if role != "assistant":
            raise fields.wrong(f"{place}.tool_calls", "the role 'assistant'")
        fields.objects(message["tool_calls"], f"{place}.tool_calls")
    if role == "tool":
        if "tool_call_id" not in message:
            raise fields.missing(f"{place}.tool_call_id")
        fields.key(message["tool_call_id"], f"{place}.tool_call_id")


def _read_content(
    content: object, place: str
) -> tuple[str, list[dict[str, object]] | None]:
    """Return the joined text, and the parts when they hold more than text."""
    if isinstance(content, str):
        return content, None
    if not isinstance(content, list):
        raise fields.wrong(place, "a string or a list of parts")
    parts = fields.objects(content, place)
    texts = []
    has_images = False
    for index, part in enumerate(parts):
        kind = part.get("type")
        where = f"{place}[{index}]"
        if kind == "text":
            texts.append(fields.text(part.get("text"), f"{where}.text"))
        elif kind == "image_url":
            _check_image(part.get("image_url"), f"{where}.image_url")
            has_images = True
        elif kind == "refusal":
            texts.append(fields.text(part.get("refusal"), f"{where}.refusal"))
        else:
            shown = kind if isinstance(kind, str) else "of this kind"
            message = f"{where}.type: parts {shown[:40]!r} are not supported."
            raise Refusal("unsupported_field", message, param=f"{where}.type")
    return "\n".join(texts), parts if has_images else None


def _check_image(value: object, place: str) -> None:
    image = fields.mapping(value, place)
    fields.only_known(image, frozenset({"url", "detail"}), place)
    url = fields.text(image.get("url"), f"{place}.url")
    # plb never fetches it; an address would make a backend do so in plb's name.
    if not url.startswith("data:image/"):
        raise fields.unsupported(f"{place}.url", "send the image as a data: URL.")
