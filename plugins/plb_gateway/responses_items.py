"""The objects of the Responses API: the response and the items of its output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plb_gateway.reply_fields import search_results

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from plb_core.types import FinishReason, Source

_INCOMPLETE: Mapping[str, str] = {
    "length": "max_output_tokens",
    "content_filter": "content_filter",
}


def response_object(
    request_id: str,
    created: int,
    model: str,
    output: Sequence[object],
    *,
    finish_reason: FinishReason | None,
    usage: object,
) -> dict[str, object]:
    """Return a response; `finish_reason` None means that it is still being written."""
    reason = _INCOMPLETE.get(finish_reason or "")
    status = "in_progress" if finish_reason is None else "completed"
    return {
        "id": request_id,
        "object": "response",
        "created_at": created,
        "status": "incomplete" if reason else status,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": list(output),
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": usage,
    }


def text_part(text: str) -> dict[str, object]:
    """Return a message's content part."""
    return {"type": "output_text", "text": text, "annotations": []}


def message_item(
    request_id: str, text: str | None, status: str = "completed"
) -> dict[str, object]:
    """Return the message; `text` None while nothing has been written."""
    return {
        "type": "message",
        "id": f"msg_{request_id}",
        "role": "assistant",
        "status": status,
        "content": [] if text is None else [text_part(text)],
    }


def sources_item(request_id: str, sources: Sequence[Source]) -> dict[str, object]:
    """Return the sources as a search_results item."""
    return {
        "type": "search_results",
        "id": f"src_{request_id}",
        "status": "completed",
        "queries": [],
        "results": search_results(sources),
    }


def tool_items(
    request_id: str, tool_calls: Sequence[Mapping[str, object]]
) -> list[dict[str, object]]:
    """Return chat-form tool calls as function_call items."""
    items = []
    for number, call in enumerate(tool_calls):
        function = call.get("function")
        named = function if isinstance(function, dict) else {}
        item: dict[str, object] = {
            "type": "function_call",
            "id": f"fc_{request_id}_{number}",
            "call_id": call.get("id"),
            "status": "completed",
            "name": named.get("name"),
            "arguments": named.get("arguments"),
        }
        items.append(item)
    return items
