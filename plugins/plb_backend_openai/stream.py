"""Put the pieces of a streamed completion together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plb_backend_openai import fields
from plb_backend_openai.answers import Asked, content, finished, is_call
from plb_backend_openai.refusals import WHAT, reported
from plb_core import BadAnswer, Chunk, NoAnswer
from plb_core.strict_json import StrictJsonError, loads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plb_core import Answer, RequestError

_MAX_CALLS: Final = 128
_KEPT: Final = ("model", "usage", "citations", "search_results")


class ChunkReader:
    """Takes the data of one event after the other.

    `done` is set by the end mark; `complete` also by a finish reason, after which
    only counts may follow.
    """

    def __init__(self, asked: Asked, headers: Mapping[str, str]) -> None:
        self._asked = asked
        self._headers = headers
        self._texts: list[str] = []
        self._calls: dict[int, dict[str, object]] = {}
        self._arguments: dict[int, list[str]] = {}
        self._kept: dict[str, object] = {}
        self._message: dict[str, object] = {}
        self._finish = ""
        self.done = False

    @property
    def complete(self) -> bool:
        """Whether the whole text has come."""
        return self.done or self._finish != ""

    @property
    def started(self) -> bool:
        """Whether anything was handed on."""
        return bool(self._texts or self._calls)

    def take(self, data: str) -> Chunk | None:
        """Return what this event adds to the answer; raise an error it reports."""
        if not data.startswith("{"):
            # End mark, or a keep-alive text of a relay: neither can carry an answer.
            self.done = data.strip() == "[DONE]"
            return None
        try:
            event = fields.table(loads(data.encode()))
        except (StrictJsonError, UnicodeEncodeError):
            raise BadAnswer(f"{WHAT} sent a broken event") from None
        if event.get("error"):
            raise self._as_failure(reported(event["error"], self._headers))
        for name in _KEPT:
            if event.get(name):
                self._kept[name] = event[name]
        choices = fields.items(event.get("choices"))
        choice = fields.table(choices[0]) if choices else {}
        if not choice or choice.get("index") not in (0, None):
            return None
        self._finish = fields.text(choice.get("finish_reason")) or self._finish
        if self._finish == "error":
            raise BadAnswer(f"{WHAT} failed while it answered")
        return self._add(fields.table(choice.get("delta") or choice.get("message")))

    def _add(self, delta: Mapping[str, object]) -> Chunk | None:
        text = content(delta.get("content"))
        if text:
            self._texts.append(text)
        for name in ("refusal", "annotations", "citations"):
            if delta.get(name):
                self._message[name] = delta[name]
        calls = fields.items(delta.get("tool_calls"))
        deltas = tuple(dict(fields.table(call)) for call in calls if call)
        for call in deltas:
            self._add_call(call)
        return Chunk(text, tool_calls=deltas) if text or deltas else None

    def _add_call(self, delta: Mapping[str, object]) -> None:
        index = delta.get("index", 0)
        if not isinstance(index, int) or not 0 <= index < _MAX_CALLS:
            raise BadAnswer(f"{WHAT} sent a tool call without a place")
        call = self._calls.setdefault(index, {"id": "", "type": "function", "name": ""})
        for name in ("id", "type"):
            call[name] = fields.text(delta.get(name)) or call[name]
        function = fields.table(delta.get("function"))
        call["name"] = fields.text(function.get("name")) or call["name"]
        arguments = self._arguments.setdefault(index, [])
        arguments.append(fields.text(function.get("arguments")))

    def answer(self) -> Answer:
        """Return the whole answer; raise when there is none."""
        calls = [
            {
                "id": call["id"],
                "type": call["type"],
                "function": {
                    "name": call["name"],
                    "arguments": "".join(self._arguments[index]),
                },
            }
            for index, call in sorted(self._calls.items())
        ]
        try:
            return finished(
                self._kept,
                self._message,
                text="".join(self._texts),
                calls=tuple(call for call in calls if is_call(call)),
                finish=self._finish,
                asked=self._asked,
            )
        except NoAnswer as error:
            raise self._as_failure(error) from None

    def _as_failure(self, error: RequestError) -> RequestError:
        """Return the error; once something was handed on, "no answer" is none."""
        if self.started and isinstance(error, NoAnswer):
            return BadAnswer(f"{WHAT} gave up amid the answer")
        return error
