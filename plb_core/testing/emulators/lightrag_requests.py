"""What an emulated LightRAG server accepts, and how it words a 422."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from plb_core.testing.emulators.wire import Request

MODES: Final = ("local", "global", "hybrid", "naive", "mix", "bypass")
MAX_QUERY_CHARACTERS: Final = 64 * 1024
MAX_MESSAGE_CHARACTERS: Final = 32 * 1024
MAX_REQUEST_CHARACTERS: Final = 128 * 1024
MAX_MESSAGES: Final = 128
MAX_TOP_K: Final = 1000
_PARTS_OF_THE_KEY: Final = (
    "query",
    "response_type",
    "top_k",
    "chunk_top_k",
    "max_entity_tokens",
    "max_relation_tokens",
    "max_total_tokens",
    "hl_keywords",
    "ll_keywords",
    "user_prompt",
    "enable_rerank",
)

Finding = dict[str, object]


def cache_key(request: Request) -> str:
    """Return what the answer is kept under, "" when it is not kept.

    Answers without retrieval, or in the light of earlier messages, are not kept.
    """
    fields = request.fields
    mode = fields.get("mode", "mix")
    bare = fields.get("only_need_context") is True
    if bare or mode == "bypass" or fields.get("conversation_history"):
        return ""
    return json.dumps([mode, *(fields.get(name) for name in _PARTS_OF_THE_KEY)])


def first_finding(request: Request) -> Finding | None:
    """Return the first thing wrong with a question, None for nothing.

    The input is echoed, as FastAPI does.
    """
    if request.json_error:
        return finding_of("json_invalid", [14], "JSON decode error", {})
    return _about_query(request) or _about_settings(request) or _about_history(request)


def finding_of(kind: str, place: list[object], message: str, given: object) -> Finding:
    """Return one entry of a 422's `detail`."""
    found: Finding = {"type": kind, "loc": ["body", *place], "msg": message}
    found["input"] = given
    if kind in ("value_error", "json_invalid"):
        found["ctx"] = {"error": {}}
    return found


def _value_error(place: list[object], message: str, given: object) -> Finding:
    return finding_of("value_error", place, f"Value error, {message}", given)


def _about_query(request: Request) -> Finding | None:
    fields = request.fields
    query = fields.get("query")
    if query is None:
        return finding_of("missing", ["query"], "Field required", fields)
    if not isinstance(query, str):
        message = "Input should be a valid string"
        return finding_of("string_type", ["query"], message, query)
    if not query.strip():
        return _value_error(["query"], "Query must not be empty.", query)
    if len(query) > MAX_QUERY_CHARACTERS:
        message = f"String should have at most {MAX_QUERY_CHARACTERS} characters"
        return finding_of("string_too_long", ["query"], message, query)
    if len(query.strip()) < 3 and fields.get("mode") != "bypass":
        return _value_error([], "RAG query is too short.", fields)
    return None


def _about_settings(request: Request) -> Finding | None:
    mode = request.fields.get("mode", "mix")
    if mode not in MODES:
        listed = ", ".join(f"'{name}'" for name in MODES[:-1])
        message = f"Input should be {listed} or '{MODES[-1]}'"
        return finding_of("literal_error", ["mode"], message, mode)
    for name in ("top_k", "chunk_top_k"):
        number = request.fields.get(name)
        if isinstance(number, int) and number > MAX_TOP_K:
            message = f"Input should be less than or equal to {MAX_TOP_K}"
            return finding_of("less_than_equal", [name], message, number)
    return None


def _about_history(request: Request) -> Finding | None:
    place: list[object] = ["conversation_history"]
    history = request.fields.get("conversation_history")
    if history is None:
        return None
    if not isinstance(history, list):
        return finding_of("list_type", place, "Input should be a valid list", history)
    if len(history) > MAX_MESSAGES:
        message = f"conversation_history must hold at most {MAX_MESSAGES} messages"
        return _value_error(place, message, history)
    for number, turn in enumerate(history):
        if not isinstance(turn, dict):
            message = "Input should be a valid dictionary"
            return finding_of("dict_type", [*place, number], message, turn)
        problem = _turn_problem(turn)
        if problem:
            return _value_error(place, problem, history)
    return _about_all(request, history)


def _turn_problem(turn: Mapping[str, object]) -> str:
    for name in ("role", "content"):
        if name not in turn:
            return f"Each message must have a '{name}' key."
    text = turn["content"]
    if not isinstance(text, str):
        return "Each message 'content' must be a string."
    if len(text) > MAX_MESSAGE_CHARACTERS:
        limit = f"at most {MAX_MESSAGE_CHARACTERS} characters"
        return f"Each message 'content' must be {limit}."
    return ""


def _about_all(request: Request, history: list[object]) -> Finding | None:
    total = len(str(request.fields["query"]))
    total += len(str(request.fields.get("user_prompt") or ""))
    total += len(json.dumps(history, ensure_ascii=False))
    if total <= MAX_REQUEST_CHARACTERS:
        return None
    message = (
        f"total request text is {total} characters, over the"
        f" {MAX_REQUEST_CHARACTERS} character limit"
    )
    return _value_error([], message, request.fields)
