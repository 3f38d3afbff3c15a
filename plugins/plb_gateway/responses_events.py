"""The event sequence of a streamed response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plb_gateway import sse
from plb_gateway.reply_fields import response_usage
from plb_gateway.responses_items import (
    message_item,
    response_object,
    sources_item,
    text_part,
    tool_items,
)
from plb_gateway.sources_text import appendix

if TYPE_CHECKING:
    from aiohttp import web

    from plb_core.replies import Reply
    from plb_gateway.chat_request import ChatRequest
    from plb_gateway.exchange import Exchange


async def stream_response(exchange: Exchange, asked: ChatRequest) -> web.StreamResponse:
    """Send the answer as it comes: message first, then tool calls and sources."""
    async with exchange.balancer.stream(asked.query) as stream:
        writer = EventWriter(stream.request_id, exchange.created(), stream.backend)

        async def tell(response: web.StreamResponse) -> None:
            await response.write(writer.opening())
            async for chunk in stream:
                if chunk.text:
                    await response.write(writer.text(chunk.text))
            reply = stream.reply
            if reply is None:
                raise sse.Cut
            answer = reply.answer
            if not (asked.as_is or answer.tool_calls):
                with_sources = exchange.settings.sources_in_text
                addition = appendix(answer, with_sources=with_sources)
                if addition:
                    await response.write(writer.text(addition))
            await response.write(writer.closing(reply))

        return await sse.send_events(exchange, exchange.stream_headers(stream), tell)


class EventWriter:
    """Numbers the events, places the items and keeps the text for the last ones."""

    def __init__(self, request_id: str, created: int, backend: str) -> None:
        self._request_id = request_id
        self._created = created
        self._backend = backend
        self._number = -1
        self._texts: list[str] = []
        self._output: list[dict[str, object]] = []
        self._place: dict[str, object] = {
            "item_id": f"msg_{request_id}",
            "output_index": 0,
            "content_index": 0,
        }

    def opening(self) -> bytes:
        """Return the two events before the first text."""
        made = response_object(
            self._request_id,
            self._created,
            self._backend,
            [],
            finish_reason=None,
            usage=None,
        )
        created = self._event("response.created", response=made)
        return created + self._event("response.in_progress", response=made)

    def text(self, text: str) -> bytes:
        """Return a piece of text; the message begins with the first."""
        start = b"" if self._texts else self._message_start()
        self._texts.append(text)
        more = {**self._place, "delta": text, "logprobs": []}
        return start + self._event("response.output_text.delta", **more)

    def closing(self, reply: Reply) -> bytes:
        """Return all that follows the last text."""
        answer = reply.answer
        parts = []
        if not self._texts and not answer.tool_calls:
            parts.append(self.text(""))
        if self._texts:
            parts.append(self._message_end("".join(self._texts)))
        parts += [
            self._tool_call(item)
            for item in tool_items(self._request_id, answer.tool_calls)
        ]
        if answer.sources:
            parts.append(self._item(sources_item(self._request_id, answer.sources)))
        final = response_object(
            self._request_id,
            self._created,
            answer.model or reply.backend,
            self._output,
            finish_reason=answer.finish_reason,
            usage=response_usage(answer.usage, reply.cost_micro_usd),
        )
        parts.append(self._event(f"response.{final['status']}", response=final))
        return b"".join(parts)

    def _message_start(self) -> bytes:
        item = message_item(self._request_id, None, "in_progress")
        return self._event(
            "response.output_item.added", output_index=0, item=item
        ) + self._event(
            "response.content_part.added", **self._place, part=text_part("")
        )

    def _message_end(self, text: str) -> bytes:
        item = message_item(self._request_id, text)
        self._output.append(item)
        done = {**self._place, "text": text, "logprobs": []}
        return (
            self._event("response.output_text.done", **done)
            + self._event(
                "response.content_part.done", **self._place, part=text_part(text)
            )
            + self._event("response.output_item.done", output_index=0, item=item)
        )

    def _tool_call(self, item: dict[str, object]) -> bytes:
        index = len(self._output)
        place = {"item_id": item["id"], "output_index": index}
        arguments = item["arguments"]
        kind = "response.function_call_arguments"
        self._output.append(item)
        begun = {**item, "arguments": "", "status": "in_progress"}
        return (
            self._event("response.output_item.added", output_index=index, item=begun)
            + self._event(f"{kind}.delta", **place, delta=arguments)
            + self._event(
                f"{kind}.done", **place, name=item["name"], arguments=arguments
            )
            + self._event("response.output_item.done", output_index=index, item=item)
        )

    def _item(self, item: dict[str, object]) -> bytes:
        index = len(self._output)
        self._output.append(item)
        return self._event(
            "response.output_item.added", output_index=index, item=item
        ) + self._event("response.output_item.done", output_index=index, item=item)

    def _event(self, kind: str, **fields: object) -> bytes:
        self._number += 1
        return sse.event(
            {"type": kind, "sequence_number": self._number, **fields}, kind
        )
