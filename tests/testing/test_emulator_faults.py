"""Every fault does on the wire what its name says."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import socket

import aiohttp
import pytest

from plb_core.testing.emulators import (
    Call,
    Emulator,
    Fault,
    LightRAGEmulator,
    OpenAIEmulator,
    Plan,
    Request,
    between,
    on_calls,
    on_paths,
    share_of_calls,
)
from plb_core.testing.emulators.wire import Wire
from tests.testing.emulator_client import Client, Heard, post, talk

QUESTION = b'{"query": "What is glycolysis?"}'
ASK = post(QUESTION)
STREAM = post(QUESTION, "/query/stream")
DOWN = Fault.status(503)


async def heard(fault: Fault, request: bytes = ASK, most: int = -1) -> Heard:
    async with LightRAGEmulator(faults=[fault]) as up:
        return await talk(up, request, most)


async def whole_body(request: bytes = ASK) -> bytes:
    """Return the body as it is sent without a fault."""
    closing = request.replace(b"host: up", b"host: up\r\nconnection: close")
    async with LightRAGEmulator() as up:
        return (await talk(up, closing)).body


@pytest.mark.asyncio
async def test_hang_sends_nothing_until_the_client_leaves() -> None:
    async with LightRAGEmulator(faults=[Fault.hang()]) as up:
        reader, writer = await asyncio.open_connection("127.0.0.1", up.port)
        writer.write(ASK)
        await up.until(lambda: len(up.requests) == 1)
        reading = asyncio.ensure_future(reader.read(1))
        other = await talk(up, ASK, most=1)
        assert other.data.startswith(b"HTTP/1.1 200")
        assert not reading.done()
        writer.close()
        await up.until(lambda: up.abandoned == 1)
        assert await reading == b""
    assert [call.call_id for call in up.book] == ["call-2"]


@pytest.mark.asyncio
async def test_closing_an_emulator_ends_a_hang() -> None:
    async with LightRAGEmulator(faults=[Fault.hang(bills=True)]) as up:
        talking = asyncio.ensure_future(talk(up, ASK))
        await up.until(lambda: len(up.book) == 1)
    assert (await talking).data == b""


@pytest.mark.asyncio
@pytest.mark.parametrize("after_bytes", [0, 10])
async def test_stall_sends_headers_and_so_many_bytes(after_bytes: int) -> None:
    whole = await whole_body()
    async with LightRAGEmulator(faults=[Fault.stall(after_bytes)]) as up:
        reader, writer = await asyncio.open_connection("127.0.0.1", up.port)
        writer.write(ASK)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(after_bytes)
        more = asyncio.ensure_future(reader.read(1))
        await talk(up, ASK, most=1)
        assert not more.done()
        writer.close()
        await up.until(lambda: up.abandoned == 1)
        await more
    assert f"content-length: {len(whole)}".encode() in head
    assert body == whole[:after_bytes]


@pytest.mark.asyncio
async def test_drop_closes_in_an_orderly_way_without_a_byte() -> None:
    assert await heard(Fault.drop()) == Heard(b"")


@pytest.mark.asyncio
async def test_reset_is_a_reset_without_a_byte() -> None:
    assert await heard(Fault.reset()) == Heard(b"", was_reset=True)


@pytest.mark.asyncio
async def test_reset_can_come_within_the_body() -> None:
    got = await heard(Fault.reset(after_bytes=7))
    assert got.was_reset
    assert len(got.body) == 7


@pytest.mark.asyncio
@pytest.mark.parametrize("after_bytes", [0, 1, 40])
async def test_cut_announces_the_whole_and_sends_a_part(after_bytes: int) -> None:
    whole = await whole_body()
    got = await heard(Fault.cut(after_bytes))
    assert not got.was_reset
    assert f"content-length: {len(whole)}".encode() in got.head
    assert got.body == whole[:after_bytes]


@pytest.mark.asyncio
async def test_a_cut_stream_lacks_its_last_chunk() -> None:
    whole = await whole_body(STREAM)
    got = await heard(Fault.cut(100), STREAM)
    assert whole.endswith(b"\r\n0\r\n\r\n")
    assert whole.startswith(got.body)
    text = b"".join(line for line in got.body.split(b"\r\n")[1::2])
    assert len(text) == 100


@pytest.mark.asyncio
async def test_a_stream_cut_between_two_chunks_lacks_its_end_too() -> None:
    first = (await whole_body(STREAM)).split(b"\r\n")[1]
    got = await heard(Fault.cut(len(first)), STREAM)
    assert got.body.endswith(first + b"\r\n")
    assert b"\r\n0\r\n" not in got.body


@pytest.mark.asyncio
async def test_an_unframed_cut_looks_like_a_proper_end() -> None:
    got = await heard(Fault.cut_unframed(30), STREAM)
    assert b"connection: close" in got.head
    assert b"content-length" not in got.head
    assert b"chunked" not in got.head
    assert len(got.body) == 30
    assert got.body.startswith(b'{"references"')


@pytest.mark.asyncio
async def test_close_after_answers_then_closes_without_saying_so() -> None:
    got = await heard(Fault.close_after())
    assert json.loads(got.body)["llm_generated"] is True
    assert b"connection: close" not in got.head


@pytest.mark.asyncio
async def test_drip_sends_the_whole_in_small_steps() -> None:
    closing = ASK.replace(b"host: up", b"host: up\r\nconnection: close")
    got = await heard(Fault.drip(bytes_per_s=2000), closing)
    parts = got.body.split(b"\r\n")
    sizes = [int(size, 16) for size in parts[:-1:2]]
    assert b"transfer-encoding: chunked" in got.head
    assert b"".join(parts[1::2]) == await whole_body()
    # 2000 bytes a second in steps of 20 ms are 40 bytes each.
    assert set(sizes[:-2]) == {40}


@pytest.mark.asyncio
async def test_drip_below_fifty_bytes_per_second_sends_single_bytes() -> None:
    got = await heard(Fault.drip(bytes_per_s=50), most=300)
    assert got.body.startswith(b"1\r\n{\r\n")


@pytest.mark.asyncio
async def test_bomb_is_small_on_the_wire_and_large_unpacked() -> None:
    async with LightRAGEmulator(faults=[Fault.bomb(3_000_000)]) as up:
        closing = ASK.replace(b"host: up", b"host: up\r\nconnection: close")
        got = await talk(up, closing)
        assert up.book == []
    assert b"content-encoding: gzip" in got.head
    assert len(got.body) < 10_000
    assert len(gzip.decompress(got.body)) == 3_000_002
    assert json.loads(gzip.decompress(got.body)) == []


@pytest.mark.asyncio
async def test_endless_goes_on_until_the_client_leaves() -> None:
    async with LightRAGEmulator(faults=[Fault.endless()]) as up:
        got = await talk(up, ASK, most=5_000_000)
        await up.until(lambda: up.abandoned == 1)
    assert len(got.data) >= 5_000_000
    assert b"transfer-encoding: chunked" in got.head


@pytest.mark.asyncio
async def test_header_flood_is_a_mountain_of_headers() -> None:
    got = await heard(Fault.header_flood(count=300, size=500))
    assert got.head.count(b"\r\nx-flood-") == 300
    assert len(got.head) > 150_000
    assert json.loads(got.body)["llm_generated"] is True


@pytest.mark.asyncio
async def test_garbage_is_not_http() -> None:
    assert not (await heard(Fault.garbage())).data.startswith(b"HTTP/")


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["/query", "/query/stream"])
async def test_malformed_is_whole_http_with_half_a_body(
    http: Client, path: str
) -> None:
    async with LightRAGEmulator(faults=[None, Fault.malformed()]) as up:
        url, body = up.url + path, json.loads(QUESTION)
        whole = await http(url, body)
        got = await http(url, body)
        assert len(up.book) == 2
    assert got.status == 200
    assert got.text == whole.text[: len(whole.text) // 2]
    with pytest.raises(json.JSONDecodeError):
        _ = got.lines


@pytest.mark.asyncio
async def test_bad_utf8_cannot_be_decoded(http: Client) -> None:
    async with LightRAGEmulator(faults=[Fault.bad_utf8()]) as up:
        with pytest.raises(UnicodeDecodeError):
            await http(up.url + "/query", json.loads(QUESTION))


@pytest.mark.asyncio
async def test_bad_encoding_cannot_be_unpacked(http: Client) -> None:
    async with LightRAGEmulator(faults=[Fault.bad_encoding()]) as up:
        with pytest.raises(aiohttp.ClientPayloadError):
            await http(up.url + "/query", json.loads(QUESTION))


@pytest.mark.asyncio
async def test_empty_wrong_type_and_redirect(http: Client) -> None:
    elsewhere = "http://169.254.169.254/latest"
    faults = [Fault.empty(), Fault.wrong_type(), Fault.redirect(elsewhere)]
    async with LightRAGEmulator(faults=[*faults]) as up:
        url, body = up.url + "/query", json.loads(QUESTION)
        empty, page, sent_on = [await http(url, body) for _ in range(3)]
        assert up.book == []
    assert (empty.status, empty.text) == (200, "")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert sent_on.status == 307
    assert sent_on.headers["location"] == elsewhere


@pytest.mark.asyncio
async def test_a_status_can_have_any_body_and_headers(http: Client) -> None:
    faults = [
        Fault.status(599, body={"odd": 1}, headers={"x-odd": "1"}),
        Fault.status(200, body=b'{"response": NaN}', bills=True),
        Fault.status(502),
    ]
    async with LightRAGEmulator(faults=[*faults]) as up:
        url, body = up.url + "/query", json.loads(QUESTION)
        odd, nan, plain = [await http(url, body) for _ in range(3)]
        assert [call.call_id for call in up.book] == ["call-2"]
    assert (odd.status, odd.json, odd.headers["x-odd"]) == (599, {"odd": 1}, "1")
    assert nan.text == '{"response": NaN}'
    assert (plain.status, plain.json) == (502, {"detail": "Error"})


@pytest.mark.asyncio
@pytest.mark.parametrize("seconds", [0.001, 3600])
async def test_slow_answers_correctly_after_its_delay(
    http: Client, seconds: float
) -> None:
    async with LightRAGEmulator(faults=[Fault.slow(seconds)]) as up:
        slow = asyncio.ensure_future(http(up.url + "/query", json.loads(QUESTION)))
        await up.until(lambda: len(up.book) == 1)
        prompt = await http(up.url + "/query", json.loads(QUESTION))
        if seconds < 1:
            assert await slow == prompt
        assert slow.done() == (seconds < 1)
    await asyncio.gather(slow, return_exceptions=True)


@pytest.mark.asyncio
async def test_a_client_that_leaves_during_the_latency_is_billed_all_the_same() -> None:
    def latency_s(_: random.Random) -> float:
        writer.close()
        return 0.05

    async with LightRAGEmulator(latency_s=latency_s) as up:
        _, writer = await asyncio.open_connection("127.0.0.1", up.port)
        writer.write(ASK)
        await up.until(lambda: up.abandoned == 1)
    assert len(up.book) == 1


def _call(number: int, at_s: float = 0.0, path: str = "/query") -> Call:
    return Call(number, at_s, Request("POST", path, {}))


def _hits(plan: Plan, *calls: Call) -> list[bool]:
    return [plan(call) is DOWN for call in calls]


def test_plans_pick_calls_by_number_time_and_path() -> None:
    assert _hits(on_calls(DOWN, 2, 4), *map(_call, range(1, 6))) == [
        False,
        True,
        False,
        True,
        False,
    ]
    times = [_call(1, at_s) for at_s in (0.9, 1.0, 1.9, 2.0)]
    assert _hits(between(DOWN, 1.0, 2.0), *times) == [False, True, True, False]
    always = on_paths(lambda _: DOWN, "/query")
    assert _hits(always, _call(1), _call(2, path="/health")) == [True, False]


def test_a_share_of_calls_is_a_share_and_repeatable() -> None:
    calls = [_call(number) for number in range(2000)]
    first = _hits(share_of_calls(DOWN, 0.2, seed=3), *calls)
    assert first == _hits(share_of_calls(DOWN, 0.2, seed=3), *calls)
    # four standard deviations of a binomial: 72
    assert abs(sum(first) - 400) < 72
    assert not any(_hits(share_of_calls(DOWN, 0.0), *calls))
    assert all(_hits(share_of_calls(DOWN, 1.0), *calls))


@pytest.mark.asyncio
async def test_a_plan_is_asked_for_every_call(http: Client) -> None:
    async with LightRAGEmulator(faults=on_calls(DOWN, 2)) as up:
        url, body = up.url + "/query", json.loads(QUESTION)
        statuses = [(await http(url, body)).status for _ in range(3)]
    assert statuses == [200, 503, 200]


@pytest.mark.asyncio
async def test_an_unknown_hidden_failure_is_an_error_of_the_test(http: Client) -> None:
    up: Emulator = OpenAIEmulator(hidden="llm_down")
    await up.start()
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await http(up.url + "/v1/models", method="GET")
    with pytest.raises(ValueError, match="no hidden failure 'llm_down'; known: "):
        await up.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "request_bytes",
    [
        b"hello\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n",
    ],
)
async def test_what_it_cannot_read_ends_the_connection(request_bytes: bytes) -> None:
    async with LightRAGEmulator() as up:
        assert (await talk(up, request_bytes)).data == b""
        assert up.abandoned == 1
        assert up.requests == []


@pytest.mark.asyncio
async def test_a_client_that_waits_for_permission_gets_it() -> None:
    body = ASK.replace(b"host: up", b"expect: 100-continue\r\nconnection: close")
    async with LightRAGEmulator() as up:
        got = await talk(up, body)
    assert got.data.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


@pytest.mark.asyncio
async def test_a_connection_whose_closing_is_cancelled_ends_at_once() -> None:
    taken: asyncio.Queue[Wire] = asyncio.Queue()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.put_nowait(Wire(reader, writer))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        wire = await taken.get()
        closing = asyncio.ensure_future(wire.close())
        await asyncio.sleep(0)
        closing.cancel()
        await closing
        assert await reader.read() == b""
        writer.close()


@pytest.mark.asyncio
async def test_connections_are_kept_alive_without_delayed_packets() -> None:
    async with LightRAGEmulator() as up:
        reader, writer = await asyncio.open_connection("127.0.0.1", up.port)
        for number in (1, 2):
            writer.write(ASK)
            await reader.readuntil(b'"llm_generated":true}')
            assert len(up.requests) == number
        (serving,) = (task for task in up._tasks)
        wire = serving.get_coro().cr_frame.f_locals["wire"]  # type: ignore[union-attr]
        taken = wire._writer.get_extra_info("socket")
        assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.close()
