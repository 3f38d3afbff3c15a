"""Turn the input of a Responses request into a chat conversation."""

from __future__ import annotations

from typing import Final

from plb_gateway import fields
from plb_gateway.errors import Refusal

_PARTS: Final = {
    "input_text": "text",
    "output_text": "text",
    "text": "text",
    "refusal": "refusal",
}
# Items of an earlier output that clients send back; the next answer does without.
_SKIPPED: Final = frozenset({"reasoning", "search_results", "web_search_call"})


def read_input(value: object, instructions: object) -> list[object]:
    """Return chat messages, instructions first; not yet checked in detail."""
    messages: list[object] = []
    if instructions is not None:
        content = fields.text(instructions, "instructions")
        messages.append({"role": "system", "content": content})
    if isinstance(value, str):
        messages.append({"role": "user", "content": value})
        return messages
    if not isinstance(value, list):
        raise fields.wrong("input", "a string or a list of items")
    for index, item in enumerate(fields.objects(value, "input")):
        kind = item.get("type", "message")
        if kind not in _SKIPPED:
            messages.append(_message(item, kind, f"input[{index}]"))
    return messages


def _message(item: dict[str, object], kind: object, place: str) -> object:
    if kind == "message":
        content = item.get("content")
        if isinstance(content, list):
            parts = fields.objects(content, f"{place}.content")
            content = [
                _part(part, f"{place}.content[{i}]") for i, part in enumerate(parts)
            ]
        return {"role": item.get("role"), "content": content}
    if kind == "function_call":
        function = {
            "name": fields.key(item.get("name"), f"{place}.name"),
            "arguments": fields.text(item.get("arguments"), f"{place}.arguments"),
        }
        call_id = fields.key(item.get("call_id"), f"{place}.call_id")
        call = {"id": call_id, "type": "function", "function": function}
        return {"role": "assistant", "tool_calls": [call]}
    if kind == "function_call_output":
        return {
            "role": "tool",
            "tool_call_id": item.get("call_id"),
            "content": item.get("output"),
        }
    shown = kind[:40] if isinstance(kind, str) else "of this kind"
    message = f"{place}.type: items {shown!r} are not supported."
    raise Refusal("unsupported_field", message, param=f"{place}.type")


def _part(part: dict[str, object], place: str) -> dict[str, object]:
    kind = part.get("type")
    if isinstance(kind, str) and kind in _PARTS:
        name = _PARTS[kind]
        return {"type": name, name: part.get(name)}
    if kind == "input_image":
        url = fields.text(part.get("image_url"), f"{place}.image_url")
        return {"type": "image_url", "image_url": {"url": url}}
    shown = kind[:40] if isinstance(kind, str) else "of this kind"
    message = f"{place}.type: parts {shown!r} are not supported."
    raise Refusal("unsupported_field", message, param=f"{place}.type")
