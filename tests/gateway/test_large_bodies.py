from __future__ import annotations

import json

import pytest

from tests.gateway.gateway_raw import chat, parsed, post
from tests.gateway.gateway_setup import Serve


@pytest.mark.asyncio
async def test_a_body_larger_than_every_buffer_is_read_whole(serve: Serve) -> None:
    served = await serve(gateway="max_body_bytes = 50_000_000")
    question = "Cell? " * 5_000_000
    body = json.dumps({"messages": [{"role": "user", "content": question}]}).encode()
    status, _, _ = parsed(await served.raw(post(body)))
    assert status == 200
    (query,) = served.one.queries
    assert query.text == question


@pytest.mark.asyncio
async def test_requests_sent_ahead_behind_large_bodies_are_all_answered(
    serve: Serve,
) -> None:
    served = await serve(gateway="max_body_bytes = 5_000_000")
    body = json.dumps(chat(user="u", metadata={"pad": "x" * 2_000_000})).encode()
    ahead = b"".join(post(body, more=b"") for _ in range(5))
    answers = await served.raw(ahead + post())
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 6
