"""`POST /v1/responses`, plain and streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plb_gateway.answers import json_answer
from plb_gateway.reply_fields import citations, response_usage, search_results
from plb_gateway.responses_events import stream_response
from plb_gateway.responses_items import (
    message_item,
    response_object,
    sources_item,
    tool_items,
)
from plb_gateway.responses_request import read_responses
from plb_gateway.sources_text import appendix

if TYPE_CHECKING:
    from aiohttp import web

    from plb_gateway.exchange import Exchange


async def responses(exchange: Exchange) -> web.StreamResponse:
    """Answer in the form of the Responses API."""
    asked = read_responses(await exchange.body(), exchange.hints())
    if asked.stream:
        return await stream_response(exchange, asked)
    reply = await exchange.balancer.ask(asked.query)
    answer = reply.answer
    output = []
    if answer.sources:
        output.append(sources_item(reply.request_id, answer.sources))
    addition = ""
    if not (asked.as_is or answer.tool_calls):
        with_sources = exchange.settings.sources_in_text
        addition = appendix(answer, with_sources=with_sources)
    if answer.text or not answer.tool_calls:
        output.append(message_item(reply.request_id, answer.text + addition))
    output += tool_items(reply.request_id, answer.tool_calls)
    body = response_object(
        reply.request_id,
        exchange.created(),
        answer.model or reply.backend,
        output,
        finish_reason=answer.finish_reason,
        usage=response_usage(answer.usage, reply.cost_micro_usd),
    )
    body["citations"] = citations(answer.sources)
    body["search_results"] = search_results(answer.sources)
    return json_answer(body, exchange.reply_headers(reply))
