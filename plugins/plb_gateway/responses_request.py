"""Read the body of `POST /v1/responses` by turning it into a chat completion's."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from plb_gateway import fields
from plb_gateway.chat_request import ChatRequest, read_chat
from plb_gateway.responses_input import read_input

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plb_gateway.client_hints import Hints

# The same in both forms.
_SAME: Final = (
    "model",
    "parallel_tool_calls",
    "stream",
    "temperature",
    "top_p",
    "user",
)
_OWN: Final = frozenset(
    {
        "input",
        "instructions",
        "max_output_tokens",
        "reasoning",
        "text",
        "tool_choice",
        "tools",
    }
)
_HARMLESS: Final = frozenset(
    {
        "include",
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "stream_options",
        "truncation",
    }
)
_FIXED: Final[Mapping[str, tuple[object, str]]] = MappingProxyType(
    {
        "background": (False, "plb answers at once."),
        "conversation": (None, "plb keeps no conversations; send all of it as input."),
        "max_tool_calls": (None, "plb runs no tools itself."),
        "previous_response_id": (
            None,
            "plb keeps no conversations; send all of it as input.",
        ),
        "prompt": (None, "plb keeps no prompts."),
        "top_logprobs": (0, "log probabilities are not offered."),
    }
)
_KNOWN: Final = frozenset(_SAME) | _OWN | _HARMLESS | frozenset(_FIXED)


def read_responses(body: Mapping[str, object], hints: Hints) -> ChatRequest:
    """Return the checked request; raise `Refusal` naming the first wrong field."""
    fields.only_known(body, _KNOWN, "")
    for name, (neutral, advice) in _FIXED.items():
        value = body.get(name)
        if value is not None and (value != neutral or type(value) is not type(neutral)):
            raise fields.unsupported(name, advice)
    if body.get("input") is None:
        raise fields.missing("input")
    chat = {name: body[name] for name in _SAME if name in body}
    chat["messages"] = read_input(body["input"], body.get("instructions"))
    chat["max_completion_tokens"] = body.get("max_output_tokens")
    _add_reasoning(chat, body.get("reasoning"))
    _add_format(chat, body.get("text"))
    _add_tools(chat, body.get("tools"), body.get("tool_choice"))
    return read_chat(chat, hints)


def _add_reasoning(chat: dict[str, object], value: object) -> None:
    if value is not None:
        reasoning = fields.mapping(value, "reasoning")
        known = frozenset({"effort", "summary", "generate_summary"})
        fields.only_known(reasoning, known, "reasoning")
        chat["reasoning_effort"] = reasoning.get("effort")


def _add_format(chat: dict[str, object], value: object) -> None:
    if value is None:
        return
    table = fields.mapping(value, "text")
    fields.only_known(table, frozenset({"format", "verbosity"}), "text")
    chat["verbosity"] = table.get("verbosity")
    if table.get("format") is None:
        return
    wanted = fields.mapping(table["format"], "text.format")
    if wanted.get("type") == "json_schema":
        schema = {name: each for name, each in wanted.items() if name != "type"}
        wanted = {"type": "json_schema", "json_schema": schema}
    chat["response_format"] = wanted


def _add_tools(chat: dict[str, object], tools: object, choice: object) -> None:
    if tools is not None:
        entries = fields.objects(tools, "tools")
        chat["tools"] = [_tool(each, f"tools[{i}]") for i, each in enumerate(entries)]
    if isinstance(choice, dict):
        name = fields.key(choice.get("name"), "tool_choice.name")
        choice = {"type": "function", "function": {"name": name}}
    chat["tool_choice"] = choice


def _tool(tool: dict[str, object], place: str) -> object:
    if tool.get("type") != "function":
        advice = "only functions are offered; a live backend searches by itself."
        raise fields.unsupported(f"{place}.type", advice)
    function = {name: each for name, each in tool.items() if name != "type"}
    return {"type": "function", "function": function}
