"""Answering without a language model: the closest passages, quoted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from plb_backend_lightrag.replies import QUOTE_CHARACTERS, shorten
from plb_core.errors import BadAnswer, NoAnswer
from plb_core.types import Answer, Source

if TYPE_CHECKING:
    from collections.abc import Mapping

LABEL: Final = (
    "Quoted passages: the language model behind this knowledge base is not available."
)
PASSAGES: Final = 3
SENTENCES: Final = 2

# Chinese and Japanese sentences end in a full-width mark without a space after it.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])\s*")
_WORD = re.compile(r"\w{3,}")


def quote_body(question: str, chunk_top_k: int | None) -> dict[str, object]:
    """Return the body of `/query/data` in the one mode that calls no LLM."""
    body: dict[str, object] = {"query": question, "mode": "naive"}
    if chunk_top_k is not None:
        body["chunk_top_k"] = chunk_top_k
    return body


def quoted_answer(data: object, question: str) -> Answer:
    """Return the best sentences of the closest passages in `/query/data`'s body.

    Passages keep the server's order; of each, the two sentences that share the most
    words with the question are quoted, in their own order. Raises `NoAnswer` when
    nothing was retrieved, `BadAnswer` for another shape.
    """
    passages = _passages(data)[:PASSAGES]
    if not passages:
        message = "LightRAG found no passage on this question"
        raise NoAnswer(message)
    wanted = set(_WORD.findall(question.lower()))
    numbers: dict[str, int] = {}
    quotes: list[tuple[int, str]] = []
    first: dict[str, str] = {}
    for path, content in passages:
        quote = shorten(_best_sentences(content, wanted), QUOTE_CHARACTERS)
        number = numbers.setdefault(path, len(numbers) + 1)
        quotes.append((number, quote))
        first.setdefault(path, quote)
    return Answer(
        "\n\n".join(f"“{quote}” [{number}]" for number, quote in quotes),
        sources=tuple(
            Source(title=path.rsplit("/", 1)[-1], url=path, quote=first[path])
            for path in numbers
        ),
        llm_generated=False,
        label=LABEL,
    )


def _passages(data: object) -> list[tuple[str, str]]:
    body = data if isinstance(data, dict) else {}
    if body.get("status") == "failure" and _reason(body) == "no_results":
        return []
    inner = body.get("data")
    chunks = inner.get("chunks") if isinstance(inner, dict) else None
    if body.get("status") != "success" or not isinstance(chunks, list):
        message = "LightRAG's retrieval answered with no list of passages"
        raise BadAnswer(message)
    return [_passage(chunk) for chunk in chunks]


def _reason(body: Mapping[str, object]) -> object:
    metadata = body.get("metadata")
    return metadata.get("failure_reason") if isinstance(metadata, dict) else None


def _passage(chunk: object) -> tuple[str, str]:
    if isinstance(chunk, dict):
        path, content = chunk.get("file_path"), chunk.get("content")
        if isinstance(path, str) and isinstance(content, str) and content.strip():
            return path, content
    message = "one of LightRAG's passages has no path or no text"
    raise BadAnswer(message)


def _best_sentences(passage: str, wanted: set[str]) -> str:
    sentences = _SENTENCE_END.split(passage.strip())
    shared = [len(wanted.intersection(_WORD.findall(s.lower()))) for s in sentences]
    ranked = sorted(range(len(sentences)), key=lambda i: (-shared[i], i))[:SENTENCES]
    return " ".join(sentences[i] for i in sorted(ranked))
