"""A client that leaves, or does not read, costs no slot and no memory for long."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from plb_core import Answer, Chunk
from tests.gateway.gateway_raw import BODY, CHAT, HOST, JSON, SENT, post
from tests.gateway.gateway_setup import Serve, Served

STREAM = BODY[:-1] + b',"stream":true}'


async def connect(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", served.port)


def vanish(writer: asyncio.StreamWriter, how: str) -> None:
    if how == "reset":
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.asyncio
async def test_leaving_before_the_body_calls_no_backend(
    served: Served, how: str
) -> None:
    _, writer = await connect(served)
    writer.write(CHAT + HOST + JSON + b"Content-Length: 50\r\n\r\n{")
    await writer.drain()
    vanish(writer, how)
    assert SENT.findall(await served.raw(post())) == [b"200"]
    assert len(served.one.queries) == 1
    assert served.in_flight == 0


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("body", [BODY, STREAM])
@pytest.mark.asyncio
async def test_leaving_while_waiting_cancels_the_backend(
    served: Served, how: str, body: bytes
) -> None:
    served.one.gate = asyncio.Event()
    _, writer = await connect(served)
    writer.write(post(body))
    await served.one.entered.wait()
    assert served.in_flight == 1
    vanish(writer, how)
    await asyncio.wait_for(served.one.cancelled.wait(), 10)
    await until(lambda: served.in_flight == 0)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.asyncio
async def test_leaving_midstream_cancels_the_backend(served: Served, how: str) -> None:
    served.one.midway = asyncio.Event()
    reader, writer = await connect(served)
    writer.write(post(STREAM))
    await reader.readuntil(b'"content":"An"')
    vanish(writer, how)
    await asyncio.wait_for(served.one.cancelled.wait(), 10)
    await until(lambda: served.in_flight == 0)


@pytest.mark.asyncio
async def test_a_hundred_leavers_leave_nothing_behind(served: Served) -> None:
    served.one.gate = asyncio.Event()
    writers = []
    for number in range(100):
        _, writer = await connect(served)
        writer.write(post(STREAM if number % 2 else BODY))
        writers.append(writer)
    # As many as the backend takes at once; the others were refused as busy.
    await until(lambda: served.in_flight == 64)
    for writer in writers:
        vanish(writer, "reset")
    await until(lambda: served.in_flight == 0)
    served.one.gate.set()
    assert SENT.findall(await served.raw(post())) == [b"200"]


@pytest.mark.asyncio
async def test_busy_everywhere_is_429_with_a_wait(serve: Serve) -> None:
    served = await serve(one="max_in_flight = 1")
    served.one.gate = asyncio.Event()
    waiting = asyncio.ensure_future(served.raw(post()))
    await served.one.entered.wait()
    answer = await served.raw(post())
    served.one.gate.set()
    assert SENT.findall(await waiting) == [b"200"]
    assert SENT.findall(answer) == [b"429"]
    assert b"retry-after-ms: " in answer
    assert b"x-should-retry" not in answer


@pytest.mark.parametrize("body", [BODY, STREAM])
@pytest.mark.asyncio
async def test_a_client_that_does_not_read_is_closed(serve: Serve, body: bytes) -> None:
    served = await serve(gateway="write_stall_timeout_s = 0.1")
    # Far more than the kernel buffers of both ends take.
    text = "a" * 65_536
    served.one.answer = Answer(text * 160)
    served.one.pieces = [Chunk(text)] * 160
    _, writer = await connect(served)
    transport: Any = writer.transport
    transport.pause_reading()
    writer.write(post(body))
    await served.one.entered.wait()
    gateway: Any = next(iter(served.balancer.plan.services.values()))
    server = gateway._server._runner.server
    await until(lambda: server.connections)
    await until(lambda: not server.connections)
    await until(lambda: served.in_flight == 0)
    transport.abort()


@pytest.mark.asyncio
async def test_a_slow_reader_that_keeps_reading_gets_everything(serve: Serve) -> None:
    served = await serve(gateway="write_stall_timeout_s = 0.2")
    text = "a" * 65_536
    served.one.answer = Answer(text * 160)
    reader, writer = await connect(served)
    writer.write(post())
    received = 0
    while piece := await reader.read(1_048_576):
        received += len(piece)
        await asyncio.sleep(0.03)
    assert received > 160 * 65_536
    writer.close()


@pytest.mark.asyncio
async def test_a_cut_stream_lacks_the_end_mark(served: Served) -> None:
    served.one.ends = "truncated"
    answer = await served.raw(post(STREAM))
    assert b'data: {"error":' in answer
    assert b"[DONE]" not in answer
    assert not answer.endswith(b"0\r\n\r\n")


@pytest.mark.asyncio
async def test_a_whole_stream_has_the_end_mark(served: Served) -> None:
    answer = await served.raw(post(STREAM))
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


@pytest.mark.asyncio
async def test_an_old_client_gets_a_stream_ended_by_closing(served: Served) -> None:
    start = b"POST /v1/chat/completions HTTP/1.0\r\n"
    answer = await served.raw(post(STREAM, start=start, more=b""))
    assert b"Transfer-Encoding" not in answer
    assert answer.endswith(b"data: [DONE]\n\n")


@pytest.mark.asyncio
async def test_a_text_that_cannot_be_sent_ends_the_stream_as_cut(
    served: Served,
) -> None:
    served.one.pieces = [Chunk("An"), Chunk("\ud800")]
    answer = await served.raw(post(STREAM))
    assert b"[DONE]" not in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert served.in_flight == 0


async def connect_again_and_again(served: Served) -> None:
    while True:
        _, writer = await connect(served)
        writer.close()
        await asyncio.sleep(0.005)


@pytest.mark.asyncio
async def test_closing_lets_a_running_answer_finish(served: Served) -> None:
    served.one.gate = asyncio.Event()
    waiting = asyncio.ensure_future(served.raw(post()))
    await served.one.entered.wait()
    (service,) = served.balancer.plan.services.values()
    closing = asyncio.ensure_future(service.close())
    with pytest.raises(OSError, match="Connect call failed"):
        await connect_again_and_again(served)
    served.one.gate.set()
    assert SENT.findall(await waiting) == [b"200"]
    await closing
