from __future__ import annotations

import asyncio
import json

import pytest

from plb_core.http.client import HttpClient, HttpSettings
from tests.core.raw_server import RawServer, answer

pytestmark = pytest.mark.asyncio


async def client_of(server: RawServer) -> HttpClient:
    client = HttpClient(HttpSettings(server.url, allow_private=True), {})
    await client.start()
    return client


async def get(client: HttpClient) -> object:
    return (await client.request("GET", "/x", timeout_s=10)).data


async def twice(client: HttpClient) -> list[object]:
    """Call twice at once, so that two connections are needed."""
    return list(await asyncio.gather(get(client), get(client)))


async def test_an_idle_connection_is_closed_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("plb_core.http.pool.KEEPALIVE_S", 0.02)
    async with RawServer(answer(b"1")) as server:
        client = await client_of(server)
        assert await twice(client) == [1, 1]
        await server.until(lambda: server.open == 0)
        assert await get(client) == 1
        assert server.connections == 3
        await client.close()


async def test_each_connection_has_its_own_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("plb_core.http.pool.KEEPALIVE_S", 0.1)
    async with RawServer(answer(b"1")) as server:
        client = await client_of(server)
        assert await twice(client) == [1, 1]
        # The one used last goes on; the other expires beside it.
        while server.open == 2:
            assert await get(client) == 1
            await asyncio.sleep(0.005)
        assert server.open == 1
        assert await get(client) == 1
        assert server.connections == 2
        await client.close()


async def test_an_overdue_connection_is_not_used_even_before_it_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with RawServer(answer(b"1")) as server:
        client = await client_of(server)
        assert await get(client) == 1
        # The loop was too busy for the timer.
        monkeypatch.setattr("plb_core.http.pool.KEEPALIVE_S", 0.0)
        assert await get(client) == 1
        assert server.connections == 2
        await client.close()


async def test_closing_the_client_closes_idle_connections() -> None:
    async with RawServer(answer(b"1")) as server:
        client = await client_of(server)
        assert await twice(client) == [1, 1]
        await client.close()
        await server.until(lambda: server.open == 0)


async def test_a_call_that_ends_after_closing_keeps_nothing() -> None:
    async with RawServer(answer(b"1")) as server:
        client = await client_of(server)
        exchange = await client._connect(10)
        await exchange.send(b"GET /x HTTP/1.1\r\n\r\n")
        assert await exchange.read_all(10) == b"1"
        await client.close()
        exchange.finish()
        assert exchange._connection.protocol is None


async def test_bodies_larger_than_every_buffer_are_read_whole() -> None:
    texts = ["x" * 3_000_000, "y" * 200_000, "z"]
    async with RawServer(b"") as server:
        client = await client_of(server)
        for text in texts:
            for framing in ("length", "chunked"):
                server.play = answer(json.dumps(text).encode(), framing=framing)
                assert await get(client) == text
        assert server.connections == 1
        await client.close()


async def test_a_reader_that_falls_behind_holds_the_backend_up() -> None:
    sent = []

    async def play(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n")
        for _each in range(300):
            writer.write(b"x" * 99_999 + b"\n")
            await writer.drain()
            sent.append(99_999)

    async with RawServer(play) as server:
        client = await client_of(server)
        async with client.open_stream("GET", "/x", timeout_s=20) as stream:
            protocol = stream._exchange._protocol
            while not protocol._reading_paused:
                await asyncio.sleep(0)
            assert len(sent) < 300
            assert sum([len(line) async for line in stream.lines()]) == 300 * 99_999
        assert server.connections == 1
        await client.close()


async def test_limits_hold_for_each_answer_not_for_all_of_a_connection() -> None:
    many = "".join(f"X-{number}: {'v' * 800}\r\n" for number in range(60))
    async with RawServer(b"") as server:
        client = await client_of(server)
        for number in range(30):
            framing = "chunked" if number % 2 else "length"
            server.play = answer(b"%d" % number, headers=many, framing=framing)
            assert await get(client) == number
        assert server.connections == 1
        await client.close()
