from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from plb_core.errors import (
    BackendError,
    BackendRefused,
    BackendTimeout,
    BackendUnreachable,
    BadAnswer,
    ConfigError,
)
from plb_core.http.client import HttpClient, HttpSettings, SseEvent
from tests.core.raw_server import Play, RawServer, answer

JSON = "Content-Type: application/json\r\n"
SSE = "Content-Type: text/event-stream\r\n"


@asynccontextmanager
async def client_of(
    url: str,
    headers: dict[str, str] | None = None,
    resolver: AbstractResolver | None = None,
    /,
    **settings: float,
) -> AsyncIterator[HttpClient]:
    values: dict[str, object] = {"base_url": url, "allow_private": True, **settings}
    client = HttpClient(
        HttpSettings(**values),  # type: ignore[arg-type]
        headers or {},
        resolver=resolver,
    )
    await client.start()
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def pair(
    play: Play | bytes, *, close: bool = False, **settings: float
) -> AsyncIterator[tuple[RawServer, HttpClient]]:
    async with (
        RawServer(play, close=close) as server,
        client_of(server.url, None, None, **settings) as client,
    ):
        yield server, client


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    if not await reader.read():
        raise ConnectionResetError


def send_then_hang(data: bytes) -> Play:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await hang(reader, writer)

    return play


def _has_more_than(server: RawServer, count: int) -> bool:
    return len(server.requests) > count


async def get(client: HttpClient, timeout_s: float = 10.0) -> object:
    return (await client.request("GET", "/x", timeout_s=timeout_s)).data


async def lines(client: HttpClient, timeout_s: float = 10.0) -> list[str]:
    async with client.open_stream("GET", "/x", timeout_s=timeout_s) as stream:
        return [line async for line in stream.lines()]


async def events(client: HttpClient, timeout_s: float = 10.0) -> list[SseEvent]:
    async with client.open_stream("GET", "/x", timeout_s=timeout_s) as stream:
        return [event async for event in stream.events()]


# What is sent


@pytest.mark.asyncio
async def test_sends_its_own_headers_and_nothing_else() -> None:
    async with (
        RawServer(answer(b"{}")) as server,
        client_of(server.url + "/v1/", {"X-API-Key": "k"}) as client,
    ):
        await client.request("POST", "/query", body={"q": "é"}, timeout_s=10)
        await client.request("GET", "/models?limit=2", timeout_s=10)
        await client.request(
            "POST", "/login", form={"user": "a b", "pw": "&="}, timeout_s=10
        )
        await client.request("POST", "/empty", timeout_s=10)
        await client.request(
            "GET", "/h", headers={"accept": "text/event-stream"}, timeout_s=10
        )
    fixed = f"Host: 127.0.0.1:{server.port}\r\nUser-Agent: plb\r\nAccept: */*\r\n"
    fixed += "Accept-Encoding: identity\r\nX-API-Key: k\r\n"
    assert [each.decode() for each in server.requests] == [
        (
            f"POST /v1/query HTTP/1.1\r\n{fixed}Content-Type: application/json\r\n"
            'Content-Length: 10\r\n\r\n{"q":"é"}'
        ),
        f"GET /v1/models?limit=2 HTTP/1.1\r\n{fixed}\r\n",
        (
            f"POST /v1/login HTTP/1.1\r\n{fixed}"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            "Content-Length: 18\r\n\r\nuser=a+b&pw=%26%3D"
        ),
        f"POST /v1/empty HTTP/1.1\r\n{fixed}Content-Length: 0\r\n\r\n",
        "GET /v1/h HTTP/1.1\r\n"
        + fixed.replace("Accept: */*", "accept: text/event-stream")
        + "\r\n",
    ]
    assert server.connections == 1


@pytest.mark.asyncio
async def test_many_different_paths_do_not_grow_the_client() -> None:
    async with pair(answer(b"{}")) as (server, client):
        for number in range(100):
            await client.request("GET", f"/status/{number}", timeout_s=10)
        assert len(client._writer._heads) <= 64
    assert server.requests[99].startswith(b"GET /status/99 ")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "x"),
        ("GET", "//evil.example /x"),
        ("GET", "/a\r\nX: y"),
        ("GET", "/a/../../admin"),
        ("GET", "/a/.."),
        ("GET", "/é"),
        ("GET", "/a#b"),
        ("GET /x HTTP/1.1\r\nA:", "/"),
        ("", "/"),
    ],
)
async def test_refuses_a_path_that_would_break_out(method: str, path: str) -> None:
    async with pair(answer(b"{}")) as (server, client):
        with pytest.raises(ValueError, match="not fit for HTTP"):
            await client.request(method, path, timeout_s=10)
        assert server.connections == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", "Bearer sk-CANARY-1\n"),
        ("Authorization", "sk-CANARY-1\r\nX-Evil: 1"),
        ("X-Key", "sk-CANARY-1é"),
        ("X-Key", "sk-CANARY-1\0"),
        ("X Key", "sk-CANARY-1"),
        ("", "sk-CANARY-1"),
        ("Host", "sk-CANARY-1"),
        ("content-length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("Cookie", "sk-CANARY-1"),
    ],
)
def test_refuses_a_header_that_would_break_the_framing(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HttpClient(HttpSettings("https://example.org"), {name: value})
    assert "CANARY" not in str(caught.value)


def test_shows_no_key() -> None:
    client = HttpClient(
        HttpSettings("https://example.org"), {"Authorization": "sk-CANARY-1"}
    )
    assert "CANARY" not in repr(client)


# What is accepted as an answer


@pytest.mark.asyncio
@pytest.mark.parametrize("framing", ["length", "chunked", "eof"])
async def test_reads_a_whole_answer_in_any_framing(framing: str) -> None:
    play = answer(b'{"a": 1}', headers=JSON, framing=framing)
    async with pair(play, close=framing == "eof") as (_, client):
        reply = await client.request("GET", "/x", timeout_s=10)
    assert reply.status == 200
    assert reply.data == {"a": 1}
    assert reply.content_type == "application/json"
    assert reply.headers.get("content-type") == "application/json"


@pytest.mark.asyncio
async def test_hands_over_any_status_with_its_body() -> None:
    for status in ("204 No Content", "400 Bad", "404 No", "503 Busy", "599 Odd"):
        body = b"" if status.startswith("204") else b"<p>not JSON"
        async with pair(answer(body, status=status)) as (_, client):
            reply = await client.request("GET", "/x", timeout_s=10)
            assert reply.status == int(status[:3])
            assert reply.body == body
            assert reply.data is None


@pytest.mark.asyncio
async def test_an_unframed_error_page_keeps_its_status() -> None:
    play = answer(b"<p>Bad gateway", status="502 Bad", framing="eof")
    async with pair(play, close=True) as (_, client):
        assert (await client.request("GET", "/x", timeout_s=10)).status == 502


@pytest.mark.asyncio
async def test_interim_answers_are_skipped() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with pair(early + early + answer(b"1")) as (_, client):
        assert await get(client) == 1


@pytest.mark.asyncio
async def test_one_byte_at_a_time_is_read_all_the_same() -> None:
    async def play(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in answer(b'{"a":"\xc3\xa9"}\n', framing="chunked"):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    async with pair(play) as (_, client):
        assert await get(client) == {"a": "é"}
        assert await lines(client) == ['{"a":"é"}']


@pytest.mark.asyncio
async def test_connections_are_used_again() -> None:
    async with pair(answer(b"1", framing="chunked")) as (server, client):
        for _ in range(5):
            assert await get(client) == 1
            assert await lines(client) == ["1"]
    assert server.connections == 1


CUTS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + b'{"a": 1}',
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'8\r\n{"a": 1}\r\n',
    "within a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'ff\r\n{"a": 1}',
    "eof": answer(b'{"a": ', framing="eof"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("kind", CUTS)
async def test_a_cut_answer_is_never_success(kind: str, reset: bool) -> None:
    async def play(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CUTS[kind])
        await writer.drain()
        if reset:
            sock = writer.get_extra_info("socket")
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    async with pair(play, close=True) as (_, client):
        for call in (get, lines):
            with pytest.raises(BackendError) as caught:
                await call(client)
            assert isinstance(caught.value, (BadAnswer, BackendUnreachable))
            assert "cut" in str(caught.value) or "lost" in str(caught.value)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["length", "chunked", "within a chunk"])
async def test_a_cut_stream_gives_what_came_then_says_so(kind: str) -> None:
    head, _, body = CUTS[kind].partition(b"\r\n\r\n")
    body = body.replace(b'{"a": 1}', b'{"a":1}\n')
    async with pair(head + b"\r\n\r\n" + body, close=True) as (_, client):
        seen = []
        async with client.open_stream("GET", "/x", timeout_s=10) as stream:
            with pytest.raises(BadAnswer, match="cut"):
                async for line in stream.lines():
                    seen.append(line)  # noqa: PERF401 - what came before the cut
        assert seen == ['{"a":1}']


@pytest.mark.asyncio
async def test_an_unframed_stream_is_cut_within_a_line_and_open_after_one() -> None:
    async with pair(answer(b"a\nb", framing="eof"), close=True) as (_, client):
        with pytest.raises(BadAnswer, match="cut"):
            await lines(client)
        with pytest.raises(BadAnswer, match="cut"):
            await events(client)
    async with (
        pair(answer(b"a\nb\n", framing="eof"), close=True) as (_, client),
        client.open_stream("GET", "/x", timeout_s=10) as stream,
    ):
        assert not stream.framed
        assert [line async for line in stream.lines()] == ["a", "b"]


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_a_redirect_is_a_refusal_and_never_followed(status: int) -> None:
    async with RawServer(answer(b"{}")) as other:
        play = answer(
            b"", status=f"{status} Go", headers=f"Location: {other.url}/x\r\n"
        )
        async with pair(play) as (_, client):
            for call in (get, lines):
                with pytest.raises(BackendRefused, match="redirects") as caught:
                    await call(client)
                assert caught.value.status == status
        assert other.connections == 0


BOMB = gzip.compress(b" " * 16 * 1024 * 1024)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("play", "message"),
    [
        (answer(BOMB, headers="Content-Encoding: gzip\r\n"), "content encoding"),
        (answer(b"1", headers="Content-Encoding: br\r\n"), "content encoding"),
        (answer(b"1", headers="Content-Encoding: x-odd\r\n"), "content encoding"),
        (answer(b"1" * 2000), "larger than 1024"),
        (answer(b"1" * 2000, framing="chunked"), "larger than 1024"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n", "larger"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "switches protocols"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "HTTP"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not valid HTTP"),
        (b"\x16\x03\x01\x00\x05hello\r\n\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * 100_000, "not valid HTTP"),
        (answer(b"1", headers="Transfer-Encoding: gzip\r\n", framing=""), "encoding"),
    ],
    ids=lambda value: repr(value)[:60],
)
async def test_a_hostile_answer_is_refused(play: bytes, message: str) -> None:
    async with pair(play, close=True, max_answer_bytes=1024) as (_, client):
        with pytest.raises(BadAnswer, match=message):
            await get(client)
    async with pair(play, close=True, max_answer_bytes=1024) as (_, client):
        with pytest.raises(BadAnswer, match=message):
            async with client.open_stream("GET", "/x", timeout_s=10) as stream:
                await stream.read()


@pytest.mark.asyncio
@pytest.mark.parametrize("encoding", ["identity", "IDENTITY", ""])
async def test_identity_is_no_encoding(encoding: str) -> None:
    headers = f"Content-Encoding: {encoding}\r\n"
    async with pair(answer(b"1", headers=headers)) as (_, client):
        assert await get(client) == 1


async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + b" " * 4095 + b"\n\r\n")
        await writer.drain()


@pytest.mark.asyncio
async def test_an_endless_answer_ends_at_the_limit() -> None:
    async with pair(endless, max_answer_bytes=100_000, max_stream_bytes=200_000) as (
        server,
        client,
    ):
        with pytest.raises(BadAnswer, match="larger than 100000 bytes"):
            await get(client)
        with pytest.raises(BadAnswer, match="larger than 200000 bytes"):
            await lines(client)
        await server.until(lambda: server.open == 0)


async def one_long_line(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + b" " * 4096 + b"\r\n")
        await writer.drain()


async def one_long_event(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\ndata:" + b" " * 4090 + b"\n\r\n")
        await writer.drain()


@pytest.mark.asyncio
async def test_what_a_stream_keeps_is_bounded_as_a_whole_answer_is() -> None:
    """A stream without line ends was kept whole, up to the limit of all its lines."""
    limits: dict[str, Any] = {
        "max_answer_bytes": 100_000,
        "max_stream_bytes": 10_000_000,
    }
    async with pair(one_long_line, **limits) as (_, client):
        with pytest.raises(BadAnswer, match="larger than 100000 bytes"):
            await lines(client)
    async with pair(one_long_event, **limits) as (_, client):
        with pytest.raises(BadAnswer, match="larger than 100000 bytes"):
            await events(client)
    async with pair(endless, **limits) as (_, client):
        with pytest.raises(BadAnswer, match="larger than 10000000 bytes"):
            await lines(client)


@pytest.mark.asyncio
async def test_an_error_that_quotes_the_key_is_not_quoted_on() -> None:
    play = b"HTTP/1.1 sk-CANARY-1 oops\r\n\r\n"
    async with pair(play, close=True) as (_, client):
        with pytest.raises(BadAnswer) as caught:
            await get(client)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        assert "CANARY" not in str(caught.value)


@pytest.mark.asyncio
async def test_an_answer_nobody_asked_for_is_not_taken_for_the_next() -> None:
    twice = answer(b'"mine"') + answer(b'"planted"')
    async with pair(twice) as (server, client):
        assert await get(client) == "mine"
        assert await get(client) == "mine"
        assert server.connections == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("read_meanwhile", [False, True])
async def test_late_bytes_on_an_idle_connection_make_it_unusable(
    read_meanwhile: bool,
) -> None:
    planted = asyncio.Event()
    done = asyncio.Event()

    async def play(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b'"mine"'))
        await writer.drain()
        await planted.wait()
        writer.write(answer(b'"planted"'))
        await writer.drain()
        done.set()

    async with pair(play) as (server, client):
        assert await get(client) == "mine"
        planted.set()
        await done.wait()
        for _ in range(50 * read_meanwhile):
            await asyncio.sleep(0)
        assert await get(client) == "mine"
        assert server.connections == 2


# Streams


@pytest.mark.asyncio
async def test_reads_events_as_the_standard_says() -> None:
    body = (
        b"\xef\xbb\xbf: hello\n\ndata: 1\n\n:keep-alive\r\n\r\nevent: delta\r\n"
        b"data:two\r\ndata:  lines\r\nid: 7\r\nretry: 10\r\n\r\nevent: lost\n\n"
        b"data\n\ndata:\n\nother: x\ndata: after\n\ndata: [DONE]"
    )
    expected = [
        SseEvent("message", "1"),
        SseEvent("delta", "two\n lines"),
        SseEvent("message", ""),
        SseEvent("message", ""),
        SseEvent("message", "after"),
        SseEvent("message", "[DONE]"),
    ]
    for framing in ("length", "chunked"):
        play = answer(body, headers=SSE, framing=framing)
        async with pair(play) as (_, client):
            assert await events(client) == expected


@pytest.mark.asyncio
async def test_every_split_of_a_stream_gives_the_same_lines() -> None:
    body = 'data: {"é":1}\r\n\r\ndata: 2\n\n'.encode()
    for cut in range(len(body)):
        parts = [part for part in (body[:cut], body[cut:]) if part]

        async def play(
            _: asyncio.StreamReader,
            writer: asyncio.StreamWriter,
            parts: list[bytes] = parts,
        ) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for part in parts:
                writer.write(b"%x\r\n%b\r\n" % (len(part), part))
                await writer.drain()
                await asyncio.sleep(0)
            writer.write(b"0\r\n\r\n")

        async with pair(play) as (_, client):
            found = await events(client)
        assert [event.data for event in found] == ['{"é":1}', "2"]


@pytest.mark.asyncio
async def test_a_stream_that_is_not_utf8_is_a_bad_answer() -> None:
    async with pair(answer(b"data: \xff\n\n")) as (_, client):
        with pytest.raises(BadAnswer, match="UTF-8"):
            await events(client)


@pytest.mark.asyncio
async def test_a_stream_shows_its_head_and_can_be_read_whole() -> None:
    play = answer(b'{"error":1}', status="400 Bad", headers=JSON)
    async with pair(play) as (server, client):
        async with client.open_stream("POST", "/x", body={}, timeout_s=10) as stream:
            assert stream.status == 400
            assert stream.framed
            assert stream.content_type == "application/json"
            assert stream.headers["content-type"] == "application/json"
            assert (await stream.read()).data == {"error": 1}
        assert await get(client) == {"error": 1}
        assert server.connections == 1


@pytest.mark.asyncio
async def test_leaving_a_stream_early_drops_its_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na\n\r\n"
    async with pair(send_then_hang(head)) as (server, client):
        async with client.open_stream("GET", "/x", timeout_s=60) as stream:
            async for line in stream.lines():
                assert line == "a"
                break
        await server.until(lambda: server.open == 0)


DONE = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndone\n\r\n"


async def _read_until_done(client: HttpClient) -> None:
    async with client.open_stream("GET", "/x", timeout_s=10) as stream:
        async for line in stream.lines():
            assert line == "done"
            stream.whole = True
            break


@pytest.mark.asyncio
async def test_a_stream_known_to_be_whole_keeps_its_connection() -> None:
    end = asyncio.Event()

    async def play(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(DONE)
        await end.wait()
        writer.write(b"0\r\n\r\n")

    async with pair(play) as (server, client):
        await _read_until_done(client)
        end.set()
        while client._lingering:
            await asyncio.sleep(0.001)
        await _read_until_done(client)
        assert server.connections == 1


@pytest.mark.asyncio
async def test_a_stream_known_to_be_whole_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair(send_then_hang(DONE)) as (server, client):
        await _read_until_done(client)
        assert server.open == 1
        await client.close()
        await server.until(lambda: server.open == 0)
        await client.start()
        monkeypatch.setattr("plb_core.http.exchange.LINGER_S", 0.01)
        await _read_until_done(client)
        await server.until(lambda: server.open == 0)
        assert not client._lingering


# Time limits


@pytest.mark.asyncio
@pytest.mark.parametrize("call", [get, lines, events])
async def test_a_backend_that_never_answers_times_out(
    call: Callable[[HttpClient], Awaitable[object]],
) -> None:
    async with pair(hang, first_byte_timeout_s=0.05) as (server, client):
        async with asyncio.timeout(10):
            with pytest.raises(BackendTimeout, match=r"first byte within 0\.05 s") as e:
                await call(client)
        assert e.value.sent
        await server.until(lambda: server.open == 0)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\na\n",
    ],
)
async def test_a_backend_that_falls_silent_times_out(head: bytes) -> None:
    async with pair(send_then_hang(head), idle_timeout_s=0.05) as (server, client):
        async with asyncio.timeout(10):
            for call in (get, lines):
                with pytest.raises(BackendTimeout, match=r"silent for 0\.05 s"):
                    await call(client)
        await server.until(lambda: server.open == 0)


async def chatter(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"2\r\na\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.005)


@pytest.mark.asyncio
@pytest.mark.parametrize("play", [hang, chatter])
async def test_the_whole_call_is_limited(play: Play) -> None:
    async with pair(play) as (_, client), asyncio.timeout(10):
        for call in (get, lines):
            with pytest.raises(BackendTimeout, match="time allowed"):
                await call(client, 0.5)


@pytest.mark.asyncio
async def test_a_dripped_body_is_cut_and_a_slow_stream_of_lines_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("plb_core.http.exchange.RATE_WINDOW_S", 0.1)

    def drip(piece: bytes, count: int) -> Play:
        async def play(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _each in range(count):
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
                await asyncio.sleep(0.02)
            writer.write(b"0\r\n\r\n")

        return play

    async with pair(drip(b"1", 2000)) as (_, client), asyncio.timeout(10):
        for call in (get, lines):
            with pytest.raises(BackendTimeout, match="64 bytes a second"):
                await call(client)
    async with pair(drip(b":\n", 20)) as (_, client):
        assert await lines(client) == [":"] * 20
    async with pair(drip(b" " * 1000, 20)) as (_, client):
        assert len((await lines(client))[0]) == 20_000


@pytest.mark.asyncio
async def test_a_slow_reader_is_not_the_backends_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("plb_core.http.exchange.RATE_WINDOW_S", 0.05)
    go = asyncio.Event()

    async def play(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na\n\r\n"
        )
        await go.wait()
        writer.write(b"2\r\nb\n\r\n0\r\n\r\n")

    async with pair(play, idle_timeout_s=0.05) as (_, client):
        async with client.open_stream("GET", "/x", timeout_s=10) as stream:
            seen = []
            async for line in stream.lines():
                seen.append(line)
                # Longer than every limit of the backend.
                await asyncio.sleep(0.15)
                go.set()
        assert seen == ["a", "b"]


@pytest.mark.asyncio
@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan")])
async def test_no_time_left_sends_nothing(timeout_s: float) -> None:
    async with pair(answer(b"1")) as (server, client):
        with pytest.raises(BackendTimeout) as caught:
            await get(client, timeout_s)
        assert not caught.value.sent
        assert server.connections == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("timeout_s", [10.0, 0.02])
async def test_a_connection_that_does_not_come_times_out_unsent(
    timeout_s: float,
) -> None:
    class Never(AbstractResolver):
        async def resolve(
            self,
            host: str,
            port: int = 0,
            family: int = 0,
        ) -> list[ResolveResult]:
            await asyncio.Event().wait()
            raise AssertionError

        async def close(self) -> None:
            pass

    async with client_of(
        "http://backend.test", None, Never(), connect_timeout_s=0.05
    ) as client:
        with pytest.raises(BackendTimeout, match="no connection") as caught:
            await get(client, timeout_s)
        assert not caught.value.sent


# What was sent, and never twice


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.mark.asyncio
async def test_a_refused_connection_sent_nothing() -> None:
    async with client_of(f"http://127.0.0.1:{free_port()}") as client:
        for call in (get, lines):
            with pytest.raises(BackendUnreachable) as caught:
                await call(client)
            assert not caught.value.sent


@pytest.mark.asyncio
async def test_a_closed_client_reaches_nobody() -> None:
    async with pair(answer(b"1")) as (server, client):
        await client.start()
        await client.close()
        await client.close()
        with pytest.raises(BackendUnreachable) as caught:
            await get(client)
        assert not caught.value.sent
        await client.start()
        assert await get(client) == 1
        assert server.connections == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_nothing_is_resent_when_the_connection_dies(method: str) -> None:
    async def die(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with pair(answer(b"1")) as (server, client):
        assert await get(client) == 1
        server.play = die
        with pytest.raises(BackendUnreachable, match="lost") as caught:
            await client.request(method, "/x", body={"a": 1}, timeout_s=10)
        assert caught.value.sent
        assert len(server.requests) == 2


@pytest.mark.asyncio
async def test_a_pooled_connection_the_backend_closed_is_replaced_unsent() -> None:
    async with pair(answer(b"1"), close=True) as (server, client):
        for number in range(1, 20):
            assert await get(client) == 1
            await server.until(lambda: server.open == 0)
            await asyncio.sleep(0)
            assert len(server.requests) == number


@pytest.mark.asyncio
async def test_a_connection_closing_under_the_request_sent_nothing() -> None:
    async with pair(answer(b"1")) as (server, client):
        exchange = await client._connect(10)
        assert exchange._protocol.transport is not None
        exchange._protocol.transport.close()
        with pytest.raises(BackendUnreachable) as caught:
            await exchange.send(b"GET / HTTP/1.1\r\n\r\n")
        assert not caught.value.sent
        exchange.finish()
        assert server.requests == []


@pytest.mark.asyncio
async def test_cancelling_at_any_stage_leaves_nothing_behind() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    stages = {
        b"": hang,
        head: send_then_hang(head),
        b"a": send_then_hang(head + b"2\r\na\n\r\n"),
    }
    for play in stages.values():
        async with pair(play) as (server, client):
            before = len(asyncio.all_tasks())
            for call in (get, lines):
                count = len(server.requests)
                task = asyncio.create_task(call(client))
                await server.until(partial(_has_more_than, server, count))
                await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await server.until(lambda: server.open == 0)
            assert len(asyncio.all_tasks()) == before
            server.play = answer(b"1")
            assert await get(client) == 1


@pytest.mark.asyncio
async def test_many_calls_at_once_do_not_mix_their_answers() -> None:
    async def echo(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0)
        writer.write(answer(server.requests[-1].partition(b"\r\n\r\n")[2]))

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(RawServer(answer(b"")))
        client = await stack.enter_async_context(client_of(server.url))

        async def ask(number: int) -> None:
            for _ in range(5):
                reply = await client.request(
                    "POST", "/x", body={"n": number}, timeout_s=10
                )
                assert reply.body in (b"", b'{"n":%d}' % number)

        await asyncio.gather(*(ask(number) for number in range(20)))
    assert len(server.requests) == 100
