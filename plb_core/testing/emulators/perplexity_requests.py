"""What the emulated Perplexity accepts, and how it words a 400."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from plb_core.testing.emulators.responses import question_of

EFFORTS: Final = ("fast", "low", "medium", "high", "xhigh")
_RECENCIES: Final = ("hour", "day", "week", "month", "year")
_ONE_OF: Final = ("model", "models", "effort", "preset")


def problem(
    body: Mapping[str, object], models: Collection[object]
) -> tuple[str, str] | None:
    """Return the type and the message of the 400 a run deserves, None for none."""
    model = body.get("model")
    if model is not None and model not in models:
        return "invalid_model", f"Model {str(model)[:60]!r} is not supported"
    failed = _failed_check(body)
    return ("invalid_request", f"validation failed: {failed}") if failed else None


def _failed_check(body: Mapping[str, object]) -> str:
    if not question_of(body).strip():
        return "input cannot be empty"
    if str(body.get("effort", "fast")).partition("@")[0] not in EFFORTS:
        return f"effort must be one of {', '.join(EFFORTS)}"
    if not body.keys() & _ONE_OF:
        return f"one of {', '.join(_ONE_OF)} is required"
    of_anthropic = str(body.get("model")).startswith("anthropic/")
    if of_anthropic and "max_output_tokens" not in body:
        return "max_output_tokens is required when using Anthropic models"
    steps = body.get("max_steps", 1)
    if not isinstance(steps, int) or steps < 1:
        return "max steps must be at least 1"
    for number, tool in enumerate(_tools(body)):
        filters = tool.get("filters")
        named = filters if isinstance(filters, dict) else {}
        if named.get("search_recency_filter", "day") not in _RECENCIES:
            listed = ", ".join(_RECENCIES)
            return f"tools[{number}]: search recency filter must be one of: {listed}"
    return ""


def wants_search(body: Mapping[str, object]) -> bool:
    """Return whether a run searches the web: a bare model does not."""
    if body.keys() & {"effort", "preset"}:
        return True
    return any(tool.get("type") == "web_search" for tool in _tools(body))


def model_shown_while_queued(body: Mapping[str, object], model: str) -> str:
    """Return what stands for the model before an effort level has picked it."""
    return str(body.get("effort", body.get("preset", model)))


def _tools(body: Mapping[str, object]) -> list[dict[str, object]]:
    tools = body.get("tools")
    listed = tools if isinstance(tools, list) else []
    return [tool if isinstance(tool, dict) else {} for tool in listed]
