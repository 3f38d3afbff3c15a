"""Reading `/query/stream`: one JSON object per line, and no end marker.

The end of the body is the end of the answer, so completeness is proven otherwise: by
the `response_time` line that the server sends last when progress lines were asked
for, or, from servers that know no progress lines, by HTTP's own framing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plb_backend_lightrag.replies import (
    CANNED_FAILURE,
    HiddenFailure,
    Reply,
    read_flag,
    read_sources,
)
from plb_core import strict_json
from plb_core.errors import BadAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plb_core.types import Answer, Source


class StreamReader:
    """Collects one streamed answer, line by line.

    Every key may stand in any line. `timed` is True once the server's own last line,
    which tells the time it took, was seen.
    """

    def __init__(self, *, framed: bool) -> None:
        """`framed` says that HTTP itself marks the end of the body."""
        self._framed = framed
        self._parts: list[str] = []
        self._sources: tuple[Source, ...] = ()
        self._llm_generated: bool | None = None
        self._knows_progress = False
        self.timed = False

    @property
    def started(self) -> bool:
        """Whether any text came."""
        return bool(self._parts)

    @property
    def complete(self) -> bool:
        """Whether the lines so far, then the end of the body, are a whole answer."""
        return self.timed or (self._framed and not self._knows_progress)

    def feed(self, line: str) -> str:
        """Take a line in; return the text to pass on, "" for none.

        Raises `HiddenFailure` for an error line or a canned failure, `NoAnswer` when
        nothing was retrieved, and `BadAnswer` for what is not LightRAG's.
        """
        if not line.strip():
            return ""
        data = _decode(line)
        if "error" in data:
            # The text of the error may quote the question or a key of the server.
            message = "LightRAG reported a failure while answering"
            raise HiddenFailure(message)
        self._knows_progress |= "progress" in data
        self.timed |= "response_time" in data
        self._sources = read_sources(data.get("references")) or self._sources
        return self._take_text(data)

    def answer(self) -> Answer:
        """Return what was collected; raises like `Reply.answer`."""
        return Reply("".join(self._parts), self._sources, self._llm_generated).answer()

    def _take_text(self, data: Mapping[str, object]) -> str:
        text = data.get("response")
        if text is None:
            return ""
        if not isinstance(text, str):
            message = "a line of LightRAG's stream has a text that is none"
            raise BadAnswer(message)
        flag = read_flag(data)
        whole = flag is not None or text.strip() == CANNED_FAILURE
        if whole and not self.started:
            # A cached or canned answer comes as one line: judge it before any of it
            # is shown.
            Reply(text, self._sources, flag).answer()
            self._llm_generated = flag
        if text:
            self._parts.append(text)
        return text


def _decode(line: str) -> dict[str, object]:
    try:
        data = strict_json.loads(line.encode())
    except strict_json.StrictJsonError:
        message = "a line of LightRAG's stream is not valid JSON"
        raise BadAnswer(message) from None
    if not isinstance(data, dict):
        message = "a line of LightRAG's stream is not a JSON object"
        raise BadAnswer(message)
    return data
