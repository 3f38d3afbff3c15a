from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from plb_gateway.whole_answer import WholeAnswer
from tests.gateway.gateway_raw import CLOSE, HOST, parsed
from tests.gateway.gateway_setup import Served


async def ask(served: Served, start: bytes, more: bytes = b"") -> bytes:
    return await served.raw(start + HOST + more + b"\r\n")


@pytest.mark.asyncio
async def test_http_1_0_is_answered_in_kind_and_closed(served: Served) -> None:
    answer = await ask(served, b"GET /healthz HTTP/1.0\r\n")
    status, headers, body = parsed(answer)
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert (status, body) == (200, {"status": "ok"})
    assert "connection" not in headers


@pytest.mark.asyncio
async def test_http_1_0_stays_open_when_asked_to(served: Served) -> None:
    first = b"GET /healthz HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n"
    answer = await ask(served, first + b"GET /readyz HTTP/1.0\r\n")
    one, two, _ = answer.split(b"}")
    assert b"\r\nConnection: keep-alive\r\n" in one
    assert two.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"\r\nConnection:" not in two


@pytest.mark.asyncio
async def test_http_1_1_stays_open_unless_asked_not_to(served: Served) -> None:
    first = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
    answer = await ask(served, first + b"GET /readyz HTTP/1.1\r\n", CLOSE)
    one, two, _ = answer.split(b"}")
    assert b"\r\nConnection:" not in one
    assert b"\r\nConnection: close\r\n" in two


@pytest.mark.asyncio
async def test_head_has_the_length_that_get_would_have(served: Served) -> None:
    head = await ask(served, b"HEAD /healthz HTTP/1.1\r\n", CLOSE)
    whole = await ask(served, b"GET /healthz HTTP/1.1\r\n", CLOSE)
    assert head.endswith(b"\r\n\r\n")
    line = b"\r\nContent-Length: %d\r\n" % len(whole.partition(b"\r\n\r\n")[2])
    assert line in head
    assert line in whole
    assert b"\r\nDate: " in head


@pytest.mark.asyncio
@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\n", "\0"])
async def test_no_value_opens_a_line_of_its_own(value: str) -> None:
    answer = WholeAnswer(b"{}", {"x-one": "1", "x-two": value})
    with pytest.raises(ValueError, match="control character"):
        await answer.prepare(make_mocked_request("GET", "/"))
