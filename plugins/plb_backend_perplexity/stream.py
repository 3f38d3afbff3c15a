"""Read the two streamed forms: Agent API events and chat-completions chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Final, Protocol

from plb_backend_perplexity import answers, bills, wire
from plb_backend_perplexity.sources import MarkFilter
from plb_core import Answer, BadAnswer, Chunk
from plb_core.http.client import SseEvent
from plb_core.strict_json import StrictJsonError, loads

_MAX_ITEMS: Final = 500
"""Output items kept in case the last event brings none."""
_ENDS: Final = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.cancelled": "cancelled",
}


class Reader(Protocol):
    """Takes events one by one.

    `ended` is True once the answer is known to be whole, `done` once nothing more
    needs to be read.
    """

    ended: bool
    done: bool

    def take(self, data: str) -> str:
        """Return the new text in one event's data, often ""."""
        ...

    def answer(self, streamed: str) -> Answer:
        """Return the whole answer, of which `streamed` was shown."""
        ...


class AgentReader:
    """Reads the typed events of the Agent API; unknown ones are skipped."""

    def __init__(self, flag: bills.Flag) -> None:
        self.ended = False
        self.done = False
        self._flag = flag
        self._items: list[object] = []
        self._response: dict[str, object] = {}

    def take(self, data: str) -> str:
        """Return the text of a delta; note items and the end; raise on failure."""
        event = _event(data)
        kind = wire.text(event.get("type"))
        if kind == "response.output_text.delta":
            return wire.text(event.get("delta"))
        if kind == "response.output_item.done" and len(self._items) < _MAX_ITEMS:
            self._items.append(event.get("item"))
        elif kind in ("response.failed", "error"):
            response = wire.table(event.get("response"))
            raise answers.failure(event.get("error") or response.get("error"))
        elif kind in _ENDS:
            self._response = dict(wire.table(event.get("response")))
            if self._response.get("status") is None:
                self._response["status"] = _ENDS[kind]
            self.ended = self.done = True
        return ""

    def answer(self, streamed: str) -> Answer:
        """Return the answer in the last event, with earlier items if it has none."""
        if not wire.items(self._response.get("output")):
            self._response["output"] = self._items
        return answers.agent_answer(self._response, self._flag, streamed)


class ChatReader:
    """Reads chat-completions chunks; a finish reason or [DONE] ends the answer."""

    def __init__(self, flag: bills.Flag) -> None:
        self.ended = False
        self.done = False
        self._flag = flag
        self._last: dict[str, object] = {}
        self._finish_reason: object = None
        self._message = ""

    def take(self, data: str) -> str:
        """Return the text of a chunk; keep the newest sources, usage and model."""
        if data.strip() == "[DONE]":
            self.ended = self.done = True
            return ""
        chunk = _event(data)
        if chunk.get("error"):
            raise answers.failure(chunk.get("error"))
        for name in ("citations", "search_results", "usage", "model"):
            if chunk.get(name):
                self._last[name] = chunk[name]
        choice = next(map(wire.table, wire.items(chunk.get("choices"))), {})
        if choice.get("finish_reason") is not None:
            self._finish_reason = choice["finish_reason"]
            self.ended = True
        message = wire.table(choice.get("message"))
        self._message = wire.text(message.get("content")) or self._message
        return wire.text(wire.table(choice.get("delta")).get("content"))

    def answer(self, streamed: str) -> Answer:
        """Return the answer; the whole message counts only when no delta came."""
        choice = {
            "message": {"content": streamed or self._message},
            "finish_reason": self._finish_reason,
        }
        return answers.chat_answer({**self._last, "choices": [choice]}, self._flag)


def _event(data: str) -> Mapping[str, object]:
    try:
        event = loads(data.encode())
    except StrictJsonError as error:
        message = f"a streamed event is not JSON: {error.code}"
        raise BadAnswer(message) from error
    if not isinstance(event, Mapping):
        message = "a streamed event is not a JSON object"
        raise BadAnswer(message)
    return event


async def chunks(
    events: AsyncIterator[SseEvent], reader: Reader
) -> AsyncGenerator[Chunk, None]:
    """Yield text as it comes and one end; a cut before any text is `BadAnswer`."""
    marks = MarkFilter()
    pieces: list[str] = []
    while not reader.done:
        try:
            event = await anext(events)
        except StopAsyncIteration:
            break
        except BadAnswer:
            if not pieces:
                raise
            break
        piece = marks.take(reader.take(event.data))
        if piece:
            pieces.append(piece)
            yield Chunk(piece)
    shown = "".join(pieces)
    if not reader.ended:
        if not shown:
            message = "the stream ended before any text"
            raise BadAnswer(message)
        yield Chunk(end="truncated")
        return
    answer = reader.answer(shown + marks.rest())
    if len(answer.text) > len(shown):
        yield Chunk(answer.text[len(shown) :])
    yield Chunk(end="complete", answer=answer)
