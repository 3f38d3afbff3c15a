"""What an emulated LightRAG server says: references, lines of a stream, passages."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from plb_core.testing.emulators.facts import Fact, words
from plb_core.testing.emulators.wire import Request


@attrs.frozen
class Outcome:
    """The text, the facts to cite, whether a language model wrote it, now or before."""

    text: str
    facts: tuple[Fact, ...] = ()
    generated: bool = False
    kept: bool = False


def _references(facts: tuple[Fact, ...]) -> list[dict[str, str]]:
    return [
        {"reference_id": str(number), "file_path": fact.file_path}
        for number, fact in enumerate(facts, 1)
    ]


def cited(request: Request, facts: tuple[Fact, ...]) -> list[dict[str, object]] | None:
    """Return the references as the request wants them, None for not at all."""
    if request.fields.get("include_references") is False:
        return None
    entries: list[dict[str, object]] = [{**entry} for entry in _references(facts)]
    if request.fields.get("include_chunk_content") is True:
        for entry, fact in zip(entries, facts, strict=True):
            entry["content"] = [fact.text]
    return entries


def stream_lines(
    request: Request, outcome: Outcome, *, breaks: bool
) -> list[Mapping[str, object]]:
    """Return the lines of a stream; a kept or canned text is one line."""
    entries = cited(request, outcome.facts)
    references = {} if entries is None else {"references": entries}
    if outcome.kept or not outcome.generated:
        flag = {"llm_generated": outcome.generated}
        return [{"response": outcome.text, **flag, **references}]
    lines: list[Mapping[str, object]] = [references] if references else []
    lines += [{"response": piece} for piece in words(outcome.text)]
    if breaks:
        return [*lines[: len(lines) // 2], {"error": "stream interrupted"}]
    return lines


def progress_lines(request: Request, outcome: Outcome) -> list[Mapping[str, object]]:
    """Return the lines that tell how far retrieval has come."""
    mode = request.fields.get("mode", "mix")
    if mode == "bypass":
        return []
    steps = ["retrieving_chunks", "reranking"]
    if mode != "naive":
        graph = ["extracting_keywords", "retrieving_entities", "retrieving_relations"]
        steps = [*graph, *steps]
        if outcome.generated and not outcome.kept:
            steps.append("generating_response")
    return [{"progress": step} for step in steps]


def retrieved(mode: str, facts: tuple[Fact, ...]) -> object:
    """Return the body of `/query/data`."""
    chunks = [
        {
            **entry,
            "content": fact.text,
            "chunk_id": f"doc-{fact.file_path}-chunk-000",
        }
        for entry, fact in zip(_references(facts), facts, strict=True)
    ]
    return {
        "status": "success",
        "message": "Query processed successfully",
        "data": {
            "entities": [],
            "relationships": [],
            "chunks": chunks,
            "references": _references(facts),
        },
        "metadata": {
            "query_mode": mode,
            "keywords": {"high_level": [], "low_level": []},
            "processing_info": {
                "total_chunks_found": len(chunks),
                "final_chunks_count": len(chunks),
            },
        },
    }
