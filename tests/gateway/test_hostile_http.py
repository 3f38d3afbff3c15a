"""Raw bytes by socket: whatever comes in, the answer is an error object or a close."""

from __future__ import annotations

import asyncio

import openai
import pytest

from tests.gateway.gateway_raw import BODY, CHAT, CLOSE, HOST, JSON, SENT, parsed, post
from tests.gateway.gateway_setup import Serve, Served


async def refused(served: Served, data: bytes) -> tuple[int, str, str | None]:
    status, headers, body = parsed(await asyncio.wait_for(served.raw(data), 10))
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"].startswith("req_")
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return status, error["code"], error["param"]


@pytest.mark.asyncio
async def test_a_sound_request_by_hand_is_answered(served: Served) -> None:
    status, headers, body = parsed(await served.raw(post()))
    assert status == 200
    assert body["choices"][0]["finish_reason"] == "stop"
    assert set(headers) == {
        "cache-control",
        "connection",
        "content-length",
        "content-type",
        "date",
        "server",
        "x-content-type-options",
        "x-plb-algorithm",
        "x-plb-attempts",
        "x-plb-backend",
        "x-plb-overhead-us",
        "x-plb-track",
        "x-request-id",
    }
    assert headers["server"] == "plb"
    assert headers["x-content-type-options"] == "nosniff"


FRAMING = {
    "content length and chunked": CHAT
    + HOST
    + JSON
    + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two content lengths": CHAT
    + HOST
    + JSON
    + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "negative length": CHAT + HOST + JSON + b"Content-Length: -1\r\n\r\n",
    "hex length": CHAT + HOST + JSON + b"Content-Length: 0x30\r\n\r\n" + BODY,
    "plus length": CHAT + HOST + JSON + b"Content-Length: +48\r\n\r\n" + BODY,
    "unknown coding": CHAT + HOST + JSON + b"Transfer-Encoding: xchunked\r\n\r\n",
    "coding twice": CHAT
    + HOST
    + JSON
    + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "folded header": CHAT + HOST + b"X-A: 1\r\n 2\r\n" + JSON + b"\r\n",
    "space before colon": CHAT + HOST + b"Content-Length : 48\r\n\r\n" + BODY,
    "nul in value": CHAT + HOST + b"X-A: a\x00b\r\n\r\n",
    "bare CR in value": CHAT + HOST + b"X-A: a\rb\r\n\r\n",
    "no colon": CHAT + HOST + b"broken\r\n\r\n",
    "empty name": CHAT + HOST + b": x\r\n\r\n",
    "bad chunk size": CHAT
    + HOST
    + JSON
    + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    "negative chunk size": CHAT
    + HOST
    + JSON
    + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "HTTP/9": b"GET /healthz HTTP/9.9\r\n" + HOST + b"\r\n",
    "two hosts": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
    "long header": CHAT + HOST + b"X-A: " + b"a" * 20_000 + b"\r\n\r\n",
    "long path": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "many headers": CHAT
    + HOST
    + b"".join(b"X-%d: 1\r\n" % number for number in range(200))
    + b"\r\n",
}


@pytest.mark.parametrize("name", FRAMING)
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.asyncio
async def test_odd_framing_is_400_and_reaches_no_backend(
    served: Served, name: str, apart: bool
) -> None:
    data = FRAMING[name]
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        if apart:
            for index in range(len(data)):
                writer.write(data[index : index + 1])
                await asyncio.sleep(0)
        else:
            writer.write(data)
        answer = await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        answer = b""
    finally:
        writer.close()
    statuses = SENT.findall(answer)
    assert statuses in ([], [b"400"])
    assert not served.one.queries


DEEP = b"[" * 100_000 + b"]" * 100_000
WRONG_JSON = [
    (b"", "invalid_json"),
    (b"{", "invalid_json"),
    (b"[]", "invalid_json"),
    (b"null", "invalid_json"),
    (b'"x"', "invalid_json"),
    (BODY + b"x", "invalid_json"),
    (b"{'messages':[]}", "invalid_json"),
    (b'{"temperature":NaN}', "not_finite"),
    (b'{"temperature":-Infinity}', "not_finite"),
    (b'{"temperature":1e999}', "number_too_large"),
    (b'{"seed":' + b"9" * 4301 + b"}", "number_too_large"),
    (b'{"model":"a","model":"b"}', "duplicate_key"),
    (b'{"metadata":{"a":1,"a":2}}', "duplicate_key"),
    (b'{"messages":' + DEEP + b"}", "too_deep"),
    (b'{"a":' * 80 + b"1" + b"}" * 80, "too_deep"),
    (b'{"model":"\xff"}', "invalid_utf8"),
    (b'{"model":"\xed\xa0\x80"}', "invalid_utf8"),
    (b"\xef\xbb\xbf" + BODY, "byte_order_mark"),
    (rb'{"model":"\ud800"}', "lone_surrogate"),
    (BODY.decode().encode("utf-16"), "invalid_utf8"),
]


@pytest.mark.parametrize(("body", "code"), WRONG_JSON)
@pytest.mark.asyncio
async def test_hostile_json_is_400_with_its_code(
    served: Served, body: bytes, code: str
) -> None:
    assert (await refused(served, post(body)))[:2] == (400, code)
    assert not served.one.queries


@pytest.mark.asyncio
async def test_a_body_over_the_limit_is_413_declared_or_not(serve: Serve) -> None:
    served = await serve(gateway="max_body_bytes = 2048")
    big = b'{"user":"' + b"a" * 3000 + b'"}'
    assert (await refused(served, post(big)))[:2] == (413, "body_too_large")
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    data = CHAT + HOST + JSON + chunked % (len(big), big)
    assert (await refused(served, data))[:2] == (413, "body_too_large")
    declared = CHAT + HOST + JSON + b"Content-Length: 10737418240\r\n\r\n{"
    assert (await refused(served, declared))[:2] == (413, "body_too_large")


@pytest.mark.asyncio
async def test_an_endless_body_is_read_only_a_little_past_the_limit(
    served: Served,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(CHAT + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n")
    piece = b"10000\r\n" + b"a" * 65_536 + b"\r\n"

    async def feed() -> None:
        while True:
            writer.write(piece)
            await writer.drain()

    feeding = asyncio.ensure_future(feed())
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(feeding, 10)
    writer.close()
    assert SENT.findall(answer) == [b"413"]
    assert not served.one.queries


@pytest.mark.asyncio
async def test_the_openai_client_sees_413_for_a_body_far_over_the_limit(
    served: Served,
) -> None:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="x") as ai:
        with pytest.raises(openai.APIStatusError) as raised:
            await ai.chat.completions.create(
                model="auto", messages=[{"role": "user", "content": "a" * 1_200_000}]
            )
    assert raised.value.status_code == 413
    assert raised.value.code == "body_too_large"


@pytest.mark.parametrize(
    "kind",
    [
        b"",
        b"Content-Type: text/plain\r\n",
        b"Content-Type: application/x-www-form-urlencoded\r\n",
        b"Content-Type: multipart/form-data; boundary=x\r\n",
        b"Content-Type: text/html; application/json\r\n",
        JSON + b"Content-Encoding: gzip\r\n",
        JSON + b"Content-Encoding: identity, gzip\r\n",
        JSON + b"Content-Encoding: br\r\n",
    ],
)
@pytest.mark.asyncio
async def test_anything_but_plain_json_is_415(served: Served, kind: bytes) -> None:
    assert (await refused(served, post(kind=kind)))[:2] == (
        415,
        "unsupported_media_type",
    )


@pytest.mark.asyncio
async def test_a_charset_beside_the_type_is_fine(served: Served) -> None:
    kind = b"content-type: Application/JSON; charset=utf-8\r\n"
    assert SENT.findall(await served.raw(post(kind=kind))) == [b"200"]


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"Host: \r\n",
        b"Host: evil.example\r\n",
        b"Host: evil.example:8080\r\n",
        b"Host: localhost.evil.example\r\n",
        b"Host: localhost?x=/healthz\r\n",
        b"Host: a/b\r\n",
        b"Host: localhost:80:80\r\n",
        b"Host: user@localhost\r\n",
        b"Host: [::1\r\n",
        b"Host: [::2]\r\n",
        b"Host: 192.168.1.4\r\n",
    ],
)
@pytest.mark.parametrize(
    "start",
    [CHAT, b"GET /healthz HTTP/1.1\r\n", b"GET /v1/models HTTP/1.1\r\n"],
)
@pytest.mark.asyncio
async def test_a_foreign_host_name_is_misdirected(
    served: Served, host: bytes, start: bytes
) -> None:
    answer = await served.raw(post(start=start, host=host))
    assert SENT.findall(answer) in ([b"421"], [b"400"])
    assert not served.one.queries


@pytest.mark.parametrize(
    "host", [b"localhost", b"LOCALHOST:1", b"127.0.0.1:8080", b"[::1]:80", b"127.0.0.9"]
)
@pytest.mark.asyncio
async def test_local_host_names_are_served(served: Served, host: bytes) -> None:
    answer = await served.raw(post(host=b"Host: " + host + b"\r\n"))
    assert SENT.findall(answer) == [b"200"]


@pytest.mark.parametrize(
    ("start", "status", "code"),
    [
        (b"GET /v1/chat/completions HTTP/1.1\r\n", 405, "method_not_allowed"),
        (b"OPTIONS /v1/chat/completions HTTP/1.1\r\n", 405, "method_not_allowed"),
        (b"DELETE /v1/models HTTP/1.1\r\n", 405, "method_not_allowed"),
        (b"POST /nothing HTTP/1.1\r\n", 404, "route_not_found"),
        (b"POST / HTTP/1.1\r\n", 404, "route_not_found"),
        (b"POST //v1/chat/completions HTTP/1.1\r\n", 404, "route_not_found"),
        (b"POST /v1/../v1/chat/completions HTTP/1.1\r\n", 404, "route_not_found"),
        (b"GET /v1/models/ HTTP/1.1\r\n", 404, "route_not_found"),
        (b"GET /v1/models/%2e%2e%2fx HTTP/1.1\r\n", 404, "model_not_found"),
        (b"GET /api/explain/none HTTP/1.1\r\n", 404, "request_not_found"),
    ],
)
@pytest.mark.asyncio
async def test_unknown_paths_and_methods_get_the_error_object(
    served: Served, start: bytes, status: int, code: str
) -> None:
    assert (await refused(served, post(start=start)))[:2] == (status, code)


@pytest.mark.asyncio
async def test_405_lists_the_methods(served: Served) -> None:
    answer = await served.raw(post(start=b"PUT /v1/models HTTP/1.1\r\n"))
    assert parsed(answer)[1]["allow"] == "GET, HEAD"


@pytest.mark.asyncio
async def test_head_is_get_without_a_body(served: Served) -> None:
    start = b"HEAD /healthz HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n"
    answer = await served.raw(start)
    assert SENT.findall(answer) == [b"200"]
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.asyncio
async def test_a_query_string_changes_nothing(served: Served) -> None:
    start = b"POST /v1/chat/completions?api_base=http://x HTTP/1.1\r\n"
    assert SENT.findall(await served.raw(post(start=start))) == [b"200"]


@pytest.mark.asyncio
async def test_continue_is_sent_only_to_an_acceptable_request(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    head, _, _ = post(more=b"Expect: 100-continue\r\n" + CLOSE).partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(BODY)
    assert SENT.findall(await reader.read()) == [b"200"]
    writer.close()
    more = b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
    assert (await refused(served, CHAT + HOST + JSON + more))[0] == 413
    assert (await refused(served, post(more=b"Expect: cake\r\n")))[0] == 417


@pytest.mark.asyncio
async def test_requests_in_one_burst_are_answered_in_order(served: Served) -> None:
    served.one.gate = asyncio.Event()
    both = post(more=b"") + post(start=b"POST /nothing HTTP/1.1\r\n")
    answering = asyncio.ensure_future(served.raw(both))
    await served.one.entered.wait()
    served.one.gate.set()
    assert SENT.findall(await answering) == [b"200", b"404"]


@pytest.mark.parametrize(
    "header",
    [
        b"x-plb-timeout-ms: 0\r\n",
        b"x-plb-timeout-ms: -5\r\n",
        b"x-plb-timeout-ms: 1e3\r\n",
        b"x-plb-timeout-ms: 99999999999\r\n",
        "x-plb-timeout-ms: ٣\r\n".encode(),
        b"x-plb-session: a\r\nx-plb-session: b\r\n",
        b"x-plb-session: " + b"a" * 300 + b"\r\n",
        b"x-plb-tenant: a\tb\r\n",
    ],
)
@pytest.mark.asyncio
async def test_an_unusable_hint_is_refused_by_name(
    served: Served, header: bytes
) -> None:
    status, code, param = await refused(served, post(more=header + CLOSE))
    assert (status, code) == (400, "invalid_header")
    assert param == header.partition(b":")[0].decode()


@pytest.mark.asyncio
async def test_hints_reach_the_query_and_nothing_else_does(served: Served) -> None:
    more = (
        b"X-PLB-Session: s\r\nX-Plb-Region: eu-west\r\nx-plb-tenant: acme\r\n"
        b"x-plb-timeout-ms: 1500\r\nAuthorization: Bearer stolen\r\nX-Evil: 1\r\n"
    )
    await served.raw(post(more=more + CLOSE))
    query = served.one.queries[0]
    assert query.session == "s"
    assert query.region == "eu-west"
    assert query.attributes == {"tenant": "acme"}
    assert query.deadline_s == 1.5
    assert "stolen" not in repr(query)
    await served.raw(post(more=b"x-plb-session: only\r\n" + CLOSE))
    assert served.one.queries[1].session == "only"
    assert served.one.queries[1].deadline_s is None


@pytest.mark.parametrize("scheme", ["Basic", "Token", ""])
@pytest.mark.asyncio
async def test_only_the_right_bearer_token_opens(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN", "sécret")
    served = await serve(gateway='token_env = "GATEWAY_TOKEN"')
    given = f"Authorization: {scheme} sécret\r\n".encode()
    assert (await refused(served, post(more=given + CLOSE)))[0] == 401
    odd = b"Authorization: Bearer \xff\r\n" + CLOSE
    assert (await refused(served, post(more=odd)))[0] == 401
    unknown = post(start=b"POST /nothing HTTP/1.1\r\n", more=CLOSE)
    assert (await refused(served, unknown))[0] == 401
    given = "Authorization: bearer sécret\r\n".encode()
    foreign = post(host=b"Host: plb.example\r\n", more=given + CLOSE)
    assert SENT.findall(await served.raw(foreign)) == [b"200"]


@pytest.mark.asyncio
async def test_a_slow_body_is_given_up(serve: Serve) -> None:
    served = await serve(gateway="body_timeout_s = 0.05")
    data = CHAT + HOST + JSON + b"Content-Length: 50\r\n\r\n{"
    assert (await refused(served, data))[:2] == (408, "body_timeout")


@pytest.mark.asyncio
async def test_headers_that_never_end_are_given_up(serve: Serve) -> None:
    served = await serve(gateway="keepalive_timeout_s = 0.05")
    assert await asyncio.wait_for(served.raw(CHAT + b"X-A: 1\r\n"), 10) == b""
    assert await asyncio.wait_for(served.raw(b""), 10) == b""


@pytest.mark.asyncio
async def test_a_fault_of_the_gateway_itself_is_500_without_details(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(request_id: str) -> None:
        raise RuntimeError("the question was: secret")

    monkeypatch.setattr(served.balancer, "explain", explode)
    answer = await served.raw(post(start=b"GET /api/explain/x HTTP/1.1\r\n"))
    status, headers, body = parsed(answer)
    assert status == 500
    assert headers["x-should-retry"] == "false"
    assert body["error"]["code"] == "internal_error"
    assert b"secret" not in answer
