"""Replies and explanations as text, tables and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from plb_core.replies import Reply


def usd(micro_usd: int | None) -> str:
    """Return an amount for people to read, exact to the micro-dollar."""
    return "unknown" if micro_usd is None else f"{micro_usd / 1_000_000:.6f} USD"


def answer_lines(reply: Reply, *, with_text: bool = True) -> Iterator[str]:
    """Yield the text, its label, its numbered sources and the decision."""
    if with_text:
        yield reply.text
    if reply.answer.label:
        yield ""
        yield f"({reply.answer.label})"
    if reply.sources:
        yield ""
        yield "Sources:"
    for number, source in enumerate(reply.sources, 1):
        place = f", {source.url}" if source.url and source.url != source.title else ""
        yield f"  [{number}] {source.title}{place}"
    yield ""
    yield (
        f"backend {reply.backend} · track {reply.track} · algorithm {reply.algorithm}"
        f" · attempt {reply.attempts} · {reply.latency_s * 1000:.1f} ms"
        f" (plb {reply.overhead_s * 1000:.2f} ms) · cost {usd(reply.cost_micro_usd)}"
    )


def reply_as_dict(reply: Reply) -> dict[str, Any]:
    """Return a reply as one JSON-safe object; durations in ms, cost in micro-USD."""
    answer = reply.answer
    return {
        "request_id": reply.request_id,
        "answer": answer.text,
        "label": answer.label,
        "llm_generated": answer.llm_generated,
        "finish_reason": answer.finish_reason,
        "model": answer.model,
        "sources": [
            {
                "title": source.title,
                "url": source.url,
                "quote": source.quote,
                "published": source.published,
            }
            for source in answer.sources
        ],
        "backend": reply.backend,
        "track": reply.track,
        "algorithm": reply.algorithm,
        "attempts": reply.attempts,
        "latency_ms": round(reply.latency_s * 1000, 3),
        "overhead_ms": round(reply.overhead_s * 1000, 3),
        "cost_micro_usd": reply.cost_micro_usd,
        "quality": dict(reply.quality) if reply.quality else None,
    }


def explanation_table(explanation: dict[str, Any]) -> Table:
    """Return every attempt's candidates with their scores."""
    from rich.table import Table  # noqa: PLC0415 - costs 60 ms

    title = f"kind {explanation['kind']} · wanted {explanation['wanted']}"
    if explanation["reason"]:
        title += f" ({explanation['reason']})"
    table = Table(title=title)
    for heading in (
        "attempt",
        "algorithm",
        "candidate",
        "score",
        "in flight",
        "result",
    ):
        table.add_column(heading)
    for number, attempt in enumerate(explanation["attempts"], 1):
        algorithm = attempt["algorithm"]
        if attempt["via"]:
            algorithm += f" via {attempt['via']}"
        for candidate in attempt["candidates"]:
            chosen = candidate["name"] == attempt["backend"]
            score = candidate["score"]
            outcome = attempt["error"] or attempt["result"]
            table.add_row(
                str(number),
                algorithm,
                candidate["name"],
                "" if score is None else f"{score:.6g}",
                str(candidate["in_flight"]),
                f"{outcome} (p = {attempt['probability']:.3g})" if chosen else "",
                style="bold" if chosen else "",
            )
    return table
