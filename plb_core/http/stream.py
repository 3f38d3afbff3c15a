"""A streamed answer as lines or server-sent events, complete or reported as cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from plb_core.errors import BadAnswer
from plb_core.http.answer import HttpAnswer, media_type
from plb_core.http.exchange import CutAnswer, too_large

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from plb_core.http.exchange import Exchange


class SseEvent(NamedTuple):
    """One server-sent event; `event` is "message" unless the server names it."""

    event: str
    data: str


class HttpStream:
    """An answer whose body is still to be read, once, by one of the methods.

    Look-ups in `headers` ignore case. Without `framed`, nothing but the connection's
    end marks the end of the body: then only an end marker in the data itself proves
    that the answer is whole. Set `whole` when such a mark was seen and the rest is not
    read: the connection can then be used again.
    """

    __slots__ = ("_answer_limit", "_exchange", "_stream_limit", "whole")

    def __init__(
        self, exchange: Exchange, stream_limit_bytes: int, answer_limit_bytes: int
    ) -> None:
        self._exchange = exchange
        self._stream_limit = stream_limit_bytes
        self._answer_limit = answer_limit_bytes
        self.whole = False

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._exchange.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers."""
        return self._exchange.headers

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters; "" when absent."""
        return media_type(self._exchange.headers)

    @property
    def framed(self) -> bool:
        """Whether a cut is always noticed."""
        return self._exchange.framed

    async def read(self) -> HttpAnswer:
        """Return the whole answer, for example an error's body."""
        exchange = self._exchange
        body = await exchange.read_all(self._answer_limit)
        return HttpAnswer(exchange.status, exchange.headers, body)

    async def lines(self) -> AsyncIterator[str]:
        """Yield each line without its line end; raise `BadAnswer` on a cut."""
        async for batch in self._batches():
            for line in batch:
                yield line

    async def events(self) -> AsyncIterator[SseEvent]:
        """Yield each server-sent event that has data; raise `BadAnswer` on a cut."""
        name = "message"
        data: list[str] = []
        size = 0
        async for batch in self._batches():
            for line in batch:
                if line.startswith("data:"):
                    data.append(line[6:] if line.startswith("data: ") else line[5:])
                    size += len(line)
                    if size > self._answer_limit:
                        raise too_large(self._answer_limit)
                elif not line:
                    if data:
                        yield SseEvent(name, "\n".join(data))
                        data = []
                        size = 0
                    name = "message"
                elif line.startswith("event:"):
                    name = line[6:].strip()
                elif line == "data":
                    data.append("")
        if data:
            # Some servers leave out the blank line after the last event.
            yield SseEvent(name, "\n".join(data))

    async def _batches(self) -> AsyncIterator[list[str]]:
        """Yield the complete lines of each piece that arrives.

        What is kept until its line ends is bounded as a whole answer is: a stream is
        long because it has many lines.
        """
        size = kept = 0
        unfinished: list[bytes] = []
        while chunk := await self._exchange.read():
            if not size:
                chunk = chunk.removeprefix(b"\xef\xbb\xbf")
            size += len(chunk)
            if size > self._stream_limit:
                raise too_large(self._stream_limit)
            head, newline, rest = chunk.rpartition(b"\n")
            if newline:
                unfinished.append(head)
                yield _decoded(b"".join(unfinished))
                unfinished.clear()
                kept = 0
            if rest:
                unfinished.append(rest)
                kept += len(rest)
                if kept > self._answer_limit:
                    raise too_large(self._answer_limit)
        if unfinished:
            if not self.framed:
                raise CutAnswer("the answer was cut within a line")
            yield _decoded(b"".join(unfinished))


def _decoded(lines: bytes) -> list[str]:
    try:
        text = lines.decode()
    except UnicodeDecodeError:
        raise BadAnswer("the answer is not valid UTF-8") from None
    if "\r" in text:
        text = text.replace("\r\n", "\n").removesuffix("\r")
    return text.split("\n")
