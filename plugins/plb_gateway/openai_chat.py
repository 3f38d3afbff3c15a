"""`POST /v1/chat/completions`, plain and streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plb_core.strict_json import dumps
from plb_gateway import sse
from plb_gateway.chat_request import ChatRequest, read_chat
from plb_gateway.reply_fields import chat_usage, citations, search_results
from plb_gateway.sources_text import appendix
from plb_gateway.whole_answer import WholeAnswer

if TYPE_CHECKING:
    from aiohttp import web

    from plb_core import Answer
    from plb_core.replies import Reply
    from plb_core.stream import ReplyStream
    from plb_gateway.exchange import Exchange

# Filled in by bytes: encoding a nested object of these keys costs as much as the text.
_COMPLETION: Final = (
    b'{"id":%b,"object":"chat.completion","created":%d,"model":%b,'
    b'"system_fingerprint":%b,"choices":[{"index":0,"message":%b,"logprobs":null,'
    b'"finish_reason":%b}],"usage":%b,"citations":%b,"search_results":%b}'
)
_TEXT_MESSAGE: Final = b'{"role":"assistant","content":%b,"refusal":null}'


async def chat_completions(exchange: Exchange) -> web.StreamResponse:
    """Answer a conversation."""
    asked = read_chat(await exchange.body(), exchange.hints())
    if asked.stream:
        return await _streamed(exchange, asked)
    reply = await exchange.balancer.ask(asked.query)
    body = completion(
        reply, exchange.created(), _addition(exchange, asked, reply.answer)
    )
    return WholeAnswer(body, exchange.reply_headers(reply))


def completion(reply: Reply, created: int, addition: str) -> bytes:
    """Return the body of a complete answer; `addition` follows the text."""
    answer = reply.answer
    sources = answer.sources
    return _COMPLETION % (
        dumps(reply.request_id),
        created,
        dumps(answer.model or reply.backend),
        dumps(reply.backend),
        _message(answer, addition),
        dumps(answer.finish_reason),
        dumps(chat_usage(answer.usage, reply.cost_micro_usd)),
        dumps(citations(sources)) if sources else b"[]",
        dumps(search_results(sources)) if sources else b"[]",
    )


def _message(answer: Answer, addition: str) -> bytes:
    if not answer.tool_calls:
        return _TEXT_MESSAGE % dumps(answer.text + addition)
    message = {
        "role": "assistant",
        "content": answer.text or None,
        "refusal": None,
        "tool_calls": answer.tool_calls,
    }
    return dumps(message)


def _addition(exchange: Exchange, asked: ChatRequest, answer: Answer) -> str:
    if asked.as_is or answer.tool_calls:
        return ""
    return appendix(answer, with_sources=exchange.settings.sources_in_text)


async def _streamed(exchange: Exchange, asked: ChatRequest) -> web.StreamResponse:
    async with exchange.balancer.stream(asked.query) as stream:
        writer = ChunkWriter(stream, exchange.created(), asked.include_usage)

        async def tell(response: web.StreamResponse) -> None:
            await response.write(writer.opening())
            async for chunk in stream:
                if chunk.text:
                    await response.write(writer.text(chunk.text))
                if chunk.tool_calls:
                    await response.write(writer.tool_calls(chunk.tool_calls))
            reply = stream.reply
            if reply is None:
                raise sse.Cut
            addition = _addition(exchange, asked, reply.answer)
            await response.write(writer.closing(reply, addition))

        return await sse.send_events(exchange, exchange.stream_headers(stream), tell)


class ChunkWriter:
    """Writes the chunks of one answer; what they share is encoded once."""

    def __init__(self, stream: ReplyStream, created: int, include_usage: bool) -> None:
        self._shared = {
            "id": stream.request_id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": stream.backend,
            "system_fingerprint": stream.backend,
        }
        # With the option, every chunk but the last carries an explicit null.
        self._usage: dict[str, object] = {"usage": None} if include_usage else {}
        around = {
            **self._shared,
            **self._usage,
            "choices": [_choice({"content": None})],
        }
        head, _, tail = dumps(around).rpartition(b'"content":null')
        self._head = b'data: %b"content":' % head
        self._tail = tail + b"\n\n"

    def opening(self) -> bytes:
        """Return the first chunk, which carries the role."""
        return self._chunk(_choice({"role": "assistant", "content": ""}))

    def text(self, text: str) -> bytes:
        """Return a chunk with text."""
        return self._head + dumps(text) + self._tail

    def tool_calls(self, deltas: object) -> bytes:
        """Return a chunk with tool-call deltas."""
        return self._chunk(_choice({"tool_calls": deltas}))

    def closing(self, reply: Reply, addition: str) -> bytes:
        """Return all that follows the backend's last text, the end mark included."""
        answer = reply.answer
        last = self._chunk(
            _choice({}, answer.finish_reason),
            model=answer.model or reply.backend,
            citations=citations(answer.sources),
            search_results=search_results(answer.sources),
        )
        parts = [self.text(addition)] if addition else []
        parts.append(last)
        if self._usage:
            usage = chat_usage(answer.usage, reply.cost_micro_usd)
            parts.append(sse.event({**self._shared, "choices": [], "usage": usage}))
        parts.append(b"data: [DONE]\n\n")
        return b"".join(parts)

    def _chunk(self, choice: object, **more: object) -> bytes:
        return sse.event({**self._shared, **self._usage, "choices": [choice], **more})


def _choice(delta: object, finish_reason: str | None = None) -> dict[str, object]:
    return {
        "index": 0,
        "delta": delta,
        "logprobs": None,
        "finish_reason": finish_reason,
    }
