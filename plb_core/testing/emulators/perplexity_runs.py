"""What a run of the emulated Perplexity brings: items, marks, bills and events."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Final, Literal

import attrs

from plb_core.testing.emulators.base import Tokens
from plb_core.testing.emulators.facts import Fact, answer_text, matching
from plb_core.testing.emulators.responses import text_events
from plb_core.types import Price

Citations = Literal["plain", "web"]
FETCH_MICRO_USD: Final = 750
"""What a page costs to read: more than the price list's 500, as bills were seen to."""
_RESULTS_PER_SEARCH: Final = 2
_FAILURES: Final = {
    "failed": {"code": "server_error", "message": "The run failed"},
    "cancelled": {"code": "cancelled", "message": "The run was cancelled"},
}
_REASONS: Final = {"incomplete": "max_output_tokens", "cancelled": "cancelled"}


@attrs.define
class Run:
    """A stored background run, changed by each look and by a cancellation."""

    response: dict[str, object]
    looks: int = 0
    finished: bool = False

    def look(self, polls: int) -> dict[str, object]:
        """Return what a look shows: still in progress for the first `polls`."""
        self.looks += 1
        if self.looks <= polls:
            running = {**ending("in_progress"), "output": [], "usage": None}
            return {**self.response, **running}
        self.finished = True
        return self.response

    def cancel(self, polls: int) -> None:
        """Stop the run; the next look shows it."""
        self.response = {**self.response, "output": [], **ending("cancelled")}
        self.looks = polls


def ending(status: str) -> dict[str, object]:
    """Return the fields of a response that tell how its run ended."""
    reason = _REASONS.get(status)
    return {
        "status": status,
        "error": _FAILURES.get(status),
        "incomplete_details": {"reason": reason} if reason else None,
    }


def cited_text(question: str, citations: Citations) -> str:
    """Return the answer's text with marks in that style."""
    form = "[{}]" if citations == "plain" else "[web:{}]"
    return answer_text(question, lambda n: form.format(_number(n, citations)))


def search_items(question: str, citations: Citations) -> list[object]:
    """Return the items with the cited results.

    In the "web" style every search brings a few results, its ids start at 11, 21, …,
    and the searches come in another order than their ids.
    """
    results = [
        result(_number(n, citations), fact)
        for n, fact in enumerate(matching(question), 1)
    ]
    size = _RESULTS_PER_SEARCH if citations == "web" else len(results)
    starts = reversed(range(0, len(results), size))
    batches = [results[start : start + size] for start in starts]
    return [
        {"type": "search_results", "queries": [question], "results": batch}
        for batch in batches
    ]


def fetch_items(question: str, fetches: int) -> list[object]:
    """Return one item for each page that the run read."""
    pages = itertools.islice(itertools.cycle(matching(question)), fetches)
    keys = ("title", "url", "snippet")
    return [
        {"type": "fetch_url_results", "contents": [_only(result(0, page), keys)]}
        for page in pages
    ]


def result(number: int, fact: Fact) -> dict[str, object]:
    """Return a fact as a search result."""
    return {
        "id": number,
        "title": fact.title,
        "url": fact.url,
        "snippet": fact.sentences[0],
        "source": "web",
        "date": "2026-03-13",
        "last_updated": "2026-10-02",
    }


def _only(entry: Mapping[str, object], keys: tuple[str, ...]) -> dict[str, object]:
    return {key: entry[key] for key in keys}


def _number(position: int, citations: Citations) -> int:
    """Return the id of the n-th result, both counted from 1."""
    if citations == "plain":
        return position
    search, place = divmod(position - 1, _RESULTS_PER_SEARCH)
    return 10 * (search + 1) + place + 1


def usage(
    tokens: Tokens, price: Price, searches: int, fetches: int, micro_usd: int
) -> dict[str, object]:
    """Return what a run used; its parts add up to `micro_usd`."""
    search_usd = searches * price.search_micro_usd / 1e6
    fetch_usd = fetches * FETCH_MICRO_USD / 1e6
    input_usd = tokens.input * price.input_micro_usd_per_mtok / 1e12
    output_usd = micro_usd / 1e6 - input_usd - search_usd - fetch_usd
    tools: dict[str, object] = {}
    if searches:
        tools["search_web"] = {"invocation": searches, "cost_usd": search_usd}
    if fetches:
        tools["fetch_url"] = {"invocation": fetches, "cost_usd": fetch_usd}
    return {
        "input_tokens": tokens.input,
        "output_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "tool_calls_details": tools,
        "cost": {
            "currency": "USD",
            "input_cost": round(input_usd, 6),
            "output_cost": round(output_usd, 6),
            "cache_creation_cost": 0,
            "cache_read_cost": 0,
            "tool_calls_cost": search_usd + fetch_usd,
            "total_cost": micro_usd / 1e6,
        },
    }


def events(final: Mapping[str, object], hidden: str) -> list[dict[str, object]]:
    """Return the events of a streamed run, sources first, text next."""
    output = final["output"]
    assert isinstance(output, list)
    texts = [item for item in output if item["type"] == "message"]
    text = texts[0]["content"][0]["text"] if texts else ""
    at_end = hidden == "text_only_at_end" or not text
    listed = text_events(final, text, len(output) - 1, deltas=not at_end)
    listed[2:2] = _reasoning(output)
    if hidden in ("stream_fails", "stream_ends"):
        del listed[len(listed) // 2 :]
    if hidden == "stream_ends":
        return listed
    if hidden in ("failed", "stream_fails"):
        failed: dict[str, object] = {**final, **ending("failed"), "output": []}
        last = {"type": "response.failed", "response": failed, "error": failed["error"]}
        return [*listed, last]
    return [*listed, {"type": "response.completed", "response": final}]


def _reasoning(output: list[dict[str, object]]) -> list[dict[str, object]]:
    steps: list[dict[str, object]] = []
    for item in output:
        for part in ("queries", "results", "contents"):
            if part in item:
                step = "fetch_url_results" if part == "contents" else f"search_{part}"
                kind = f"response.reasoning.{step}"
                steps.append({"type": kind, part: item[part], "thought": None})
    started: dict[str, object] = {"type": "response.reasoning.started"}
    return [started, *steps, {"type": "response.reasoning.stopped"}]
