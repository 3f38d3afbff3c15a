"""What goes to a LightRAG server, and what its replies mean.

A status code alone decides nothing here: the server answers 200 with a canned
sentence when its language model or its embedder fails.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

import attrs

from plb_core.errors import (
    BackendMisconfigured,
    BadAnswer,
    NoAnswer,
    RequestError,
)
from plb_core.http.client import refusal
from plb_core.types import Answer, Source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from plb_core.http.client import HttpAnswer
    from plb_core.types import Query

CANNED_FAILURE: Final = "No relevant context found for the query."
NO_CONTEXT_MARK: Final = "[no-context]"
QUOTE_CHARACTERS: Final = 600
"""Enough of a passage to check a claim by; a whole one has some 1,200 tokens."""

# The server words its own length checks itself, all under the type "value_error".
_LIMIT: Final = re.compile(r"at most \d+ (?:characters|messages)|character limit")

_OUR_FIELDS: Final = frozenset({"mode", "top_k", "chunk_top_k", "response_type"})


class HiddenFailure(BadAnswer):
    """LightRAG said 200, but what is behind it failed."""


@attrs.frozen
class Reply:
    """One reply as it came; `llm_generated` is None when the server does not say."""

    text: str = attrs.field(repr=lambda text: f"<{len(text)} characters>")
    sources: tuple[Source, ...] = ()
    llm_generated: bool | None = None

    def answer(self) -> Answer:
        """Return the answer in it.

        Raises `NoAnswer` when nothing was retrieved, `HiddenFailure` for the canned
        text that stands for a failure, and `BadAnswer` for an empty text.
        """
        text = self.text.strip()
        if self.llm_generated is not True:
            if text.endswith(NO_CONTEXT_MARK):
                message = "LightRAG found nothing on this question"
                raise NoAnswer(message)
            # plb never asks for the bare context, the one legitimate case of a text
            # that no language model wrote.
            unexplained = self.llm_generated is False and not self.sources
            if text == CANNED_FAILURE or unexplained:
                message = "LightRAG's language model or embedder failed behind a 200"
                raise HiddenFailure(message)
        if not text:
            message = "LightRAG's answer is empty"
            raise BadAnswer(message)
        return Answer(
            self.text,
            sources=self.sources,
            llm_generated=self.llm_generated is not False,
        )


def request_body(query: Query, retrieval: Mapping[str, object]) -> dict[str, object]:
    """Return the body of `/query`: the question, what came before, how to retrieve.

    System messages become the server's `user_prompt`; the last user message is the
    question itself, the other texts are the conversation.
    """
    turns = [
        (str(message.get("role", "")), text)
        for message in query.messages
        if (text := _text_of(message.get("content")))
    ]
    asked = [i for i, (role, _) in enumerate(turns) if role == "user"]
    history = [
        {"role": role, "content": text}
        for role, text in turns[: asked[-1] if asked else 0]
        if role in ("user", "assistant")
    ]
    rules = [text for role, text in turns if role in ("system", "developer")]
    body: dict[str, object] = {"query": query.text, **retrieval}
    if history:
        body["conversation_history"] = history
    if rules:
        body["user_prompt"] = "\n\n".join(rules)
    return body


def read_reply(data: object) -> Reply:
    """Return the reply in `/query`'s body; raises `BadAnswer` for another shape."""
    if not isinstance(data, dict):
        message = "LightRAG's answer is not a JSON object"
        raise BadAnswer(message)
    text = data.get("response")
    if not isinstance(text, str):
        message = "LightRAG's answer has no text"
        raise BadAnswer(message)
    return Reply(text, read_sources(data.get("references")), read_flag(data))


def read_flag(data: Mapping[str, object]) -> bool | None:
    """Return `llm_generated`, None when absent."""
    flag = data.get("llm_generated")
    if flag is None or isinstance(flag, bool):
        return flag
    message = "LightRAG's llm_generated is not true or false"
    raise BadAnswer(message)


def read_sources(references: object) -> tuple[Source, ...]:
    """Return the references as sources, in the server's order; None means none."""
    if references is None:
        return ()
    if not isinstance(references, list):
        message = "LightRAG's references are not a list"
        raise BadAnswer(message)
    return tuple(_source(reference) for reference in references)


def refused(answer: HttpAnswer) -> RequestError:
    """Return the error that a status other than 200 stands for.

    Nothing of the body goes into it: a 422 echoes the whole question.
    """
    if answer.status == 413:  # noqa: PLR2004 - HTTP
        message = "the request is too large for LightRAG"
        return NoAnswer(message, reason="context_length")
    if answer.status == 422:  # noqa: PLR2004 - HTTP
        return _invalid(answer.data)
    return refusal(answer, "LightRAG")


def shorten(text: str, limit: int = QUOTE_CHARACTERS) -> str:
    """Return the text in one line, cut between words to at most `limit` characters."""
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    return line[: limit - 1].rsplit(" ", 1)[0] + "…"


def _invalid(data: object) -> RequestError:
    details = data.get("detail") if isinstance(data, dict) else None
    findings = (
        [each for each in details or () if isinstance(each, dict)]
        if isinstance(details, list)
        else []
    )
    for finding in findings:
        where = finding.get("loc")
        if isinstance(where, list) and _OUR_FIELDS.intersection(map(str, where)):
            message = "LightRAG does not accept the retrieval settings"
            return BackendMisconfigured(message)
    reason: Literal["context_length", "invalid_request"] = "invalid_request"
    if any(_too_long(finding) for finding in findings):
        reason = "context_length"
    message = "LightRAG cannot take this question: too short, too long or malformed"
    return NoAnswer(message, reason=reason)


def _too_long(finding: Mapping[str, object]) -> bool:
    if finding.get("type") == "string_too_long":
        return True
    return _LIMIT.search(str(finding.get("msg"))) is not None


def _source(reference: object) -> Source:
    path = reference.get("file_path") if isinstance(reference, dict) else None
    if not isinstance(reference, dict) or not isinstance(path, str):
        message = "one of LightRAG's references has no file path"
        raise BadAnswer(message)
    content = reference.get("content")
    passages: Sequence[object] = content if isinstance(content, list) else [content]
    quote = next((each for each in passages if isinstance(each, str)), "")
    title = path.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
    return Source(title=title, url=path, quote=shorten(quote))


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, (list, tuple)):
        return ""
    parts = [part.get("text") for part in content if isinstance(part, dict)]
    return "\n".join(part for part in parts if isinstance(part, str))
