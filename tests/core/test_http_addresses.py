from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp.connector
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from plb_core.errors import BackendError, BackendUnreachable, ConfigError
from plb_core.http.addresses import (
    FRESH_S,
    NEGATIVE_S,
    AddressRefused,
    GuardedResolver,
    address_problem,
    host_problem,
)
from plb_core.http.client import HttpClient, HttpSettings, backend_url
from tests.core.raw_server import RawServer, answer

NEVER = "never contacted"
PRIVATE = "allow_private"
FORM = "usual form"

HOSTS: list[tuple[str, str | None, str | None]] = [
    # host, why it is refused with allow_private, and without
    ("example.org", None, None),
    ("localhost", None, None),
    ("8.8.8.8", None, None),
    ("2001:4860:4860::8888", None, None),
    ("64:ff9b::808:808", None, None),
    ("127.0.0.1", None, PRIVATE),
    ("127.255.255.254", None, PRIVATE),
    ("10.1.2.3", None, PRIVATE),
    ("172.16.0.1", None, PRIVATE),
    ("192.168.0.1", None, PRIVATE),
    ("100.64.0.1", None, PRIVATE),
    ("198.18.0.1", None, PRIVATE),
    ("::1", None, PRIVATE),
    ("fd00::1", None, PRIVATE),
    ("::ffff:127.0.0.1", None, PRIVATE),
    ("::ffff:8.8.8.8", None, None),
    ("2002:7f00:1::", None, PRIVATE),
    ("64:ff9b::7f00:1", None, PRIVATE),
    ("169.254.169.254", NEVER, NEVER),
    ("169.254.0.1", NEVER, NEVER),
    ("fe80::1", NEVER, NEVER),
    ("fe80::1%eth0", NEVER, NEVER),
    ("::ffff:169.254.169.254", NEVER, NEVER),
    ("::ffff:a9fe:a9fe", NEVER, NEVER),
    ("2002:a9fe:a9fe::", NEVER, NEVER),
    ("64:ff9b::a9fe:a9fe", NEVER, NEVER),
    ("2001:0:4136:e378:8000:63bf:5601:5601", NEVER, NEVER),
    ("fd00:ec2::254", NEVER, NEVER),
    ("100.100.100.200", NEVER, NEVER),
    ("192.0.0.192", NEVER, NEVER),
    ("168.63.129.16", NEVER, NEVER),
    ("0.0.0.0", NEVER, NEVER),  # noqa: S104 - refused
    ("0.1.2.3", NEVER, NEVER),
    ("::", NEVER, NEVER),
    ("255.255.255.255", NEVER, NEVER),
    ("224.0.0.1", NEVER, NEVER),
    ("ff02::1", NEVER, NEVER),
    ("127.1", FORM, FORM),
    ("0x7f.1", FORM, FORM),
    ("0x7f000001", FORM, FORM),
    ("0x", FORM, FORM),
    ("2130706433", FORM, FORM),
    ("0177.0.0.1", FORM, FORM),
    ("127.0.0.1.", FORM, FORM),
    ("169.254.169.254.", FORM, FORM),
    ("evil.0", FORM, FORM),
]


@pytest.mark.parametrize(("host", "lenient", "strict"), HOSTS)
def test_judges_a_host_as_written(
    host: str, lenient: str | None, strict: str | None
) -> None:
    for allow_private, expected in ((True, lenient), (False, strict)):
        problem = host_problem(host, allow_private=allow_private)
        assert (problem is None) == (expected is None)
        assert expected is None or expected in (problem or "")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://169.254.169.254/v1", NEVER),
        ("http://[::ffff:169.254.169.254]/", NEVER),
        ("http://[fe80::1%25eth0]/", "expected an address|never"),
        ("http://2852039166/", FORM),
        ("http://0xa9fea9fe/", FORM),
        ("http://127.1/", FORM),
        ("http://①②⑦.⓪.⓪.①/", PRIVATE),
        ("http://127.0.0.1:8080/", PRIVATE),
        ("http://[::1]:8080/", PRIVATE),
        ("http://user:pw@example.org/", "without user name"),
        ("http://example.org/?a=1", "without user name"),
        ("ftp://example.org/", "expected an address"),
        ("http:///x", "expected an address"),
        ("http://a%2fb/", "expected a host name"),
        ("http://a\\b/", "expected an address"),
        ("http://exa mple.org/", "expected a host name"),
    ],
)
def test_a_base_url_is_checked_at_load(url: str, problem: str) -> None:
    with pytest.raises((ValueError, ConfigError), match=problem):
        HttpClient(HttpSettings(url), {})


def test_names_the_setting_when_a_base_url_is_private() -> None:
    with pytest.raises(ConfigError, match=r"base_url: .*allow_private = true"):
        HttpClient(HttpSettings("http://192.168.0.1"), {})
    HttpClient(HttpSettings("http://192.168.0.1", allow_private=True), {})


def test_the_validator_stands_alone() -> None:
    backend_url(None, None, "https://example.org/v1")  # type: ignore[arg-type]


class Names(AbstractResolver):
    """A name service that a test speaks through."""

    def __init__(self, *addresses: str, port: int = 0) -> None:
        self.addresses = addresses
        self.port = port
        self.asked = 0
        self.down: Exception | None = None
        self.wait: asyncio.Event | None = None
        self.closed = False

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,
    ) -> list[ResolveResult]:
        self.asked += 1
        if self.wait is not None:
            await self.wait.wait()
        if self.down is not None:
            raise self.down
        return [
            ResolveResult(
                hostname=host,
                host=each,
                port=self.port or port,
                family=family,
                proto=0,
                flags=0,
            )
            for each in self.addresses
        ]

    async def close(self) -> None:
        self.closed = True


async def hosts(resolver: GuardedResolver) -> list[str]:
    return [each["host"] for each in await resolver.resolve("backend.test", 80)]


@pytest.mark.asyncio
async def test_hands_over_only_allowed_addresses() -> None:
    names = Names("169.254.169.254", "8.8.8.8", "10.0.0.1", "::1")
    assert await hosts(GuardedResolver(allow_private=False, inner=names)) == ["8.8.8.8"]
    private = GuardedResolver(allow_private=True, inner=names)
    assert await hosts(private) == ["8.8.8.8", "10.0.0.1", "::1"]


@pytest.mark.asyncio
async def test_a_name_that_turns_to_metadata_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("plb_core.http.addresses.FRESH_S", 0.0)
    names = Names("8.8.8.8")
    resolver = GuardedResolver(allow_private=True, inner=names)
    assert await hosts(resolver) == ["8.8.8.8"]
    names.addresses = ("169.254.169.254",)
    await hosts(resolver)
    await _settled(resolver)
    with pytest.raises(AddressRefused, match="may not be contacted"):
        await hosts(resolver)


async def _settled(resolver: GuardedResolver) -> None:
    while resolver._look_up is not None:
        await asyncio.sleep(0)  # the look-up's next step


@pytest.mark.asyncio
async def test_known_addresses_outlive_the_name_service() -> None:
    names = Names("8.8.8.8")
    resolver = GuardedResolver(allow_private=False, inner=names)
    assert await hosts(resolver) == ["8.8.8.8"]
    names.down = OSError("gone")
    for _ in range(5):
        resolver._next_look_at = 0.0
        assert await hosts(resolver) == ["8.8.8.8"]
        await _settled(resolver)
    assert names.asked == 6
    names.down, names.addresses = None, ("9.9.9.9",)
    resolver._next_look_at = 0.0
    await hosts(resolver)
    await _settled(resolver)
    assert await hosts(resolver) == ["9.9.9.9"]


@pytest.mark.asyncio
async def test_an_empty_reply_keeps_what_is_known() -> None:
    names = Names()
    resolver = GuardedResolver(allow_private=False, inner=names)
    with pytest.raises(OSError, match="cannot be resolved"):
        await hosts(resolver)
    names.addresses = ("8.8.8.8",)
    resolver._next_look_at = 0.0
    assert await hosts(resolver) == ["8.8.8.8"]
    names.addresses = ()
    resolver._next_look_at = 0.0
    await hosts(resolver)
    await _settled(resolver)
    assert await hosts(resolver) == ["8.8.8.8"]


@pytest.mark.asyncio
async def test_asks_rarely_and_once_for_all() -> None:
    names = Names("8.8.8.8")
    names.wait = asyncio.Event()
    resolver = GuardedResolver(allow_private=False, inner=names)
    waiting = [asyncio.create_task(hosts(resolver)) for _ in range(10)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    names.wait.set()
    assert await asyncio.gather(*waiting[1:]) == [["8.8.8.8"]] * 9
    assert await hosts(resolver) == ["8.8.8.8"]
    assert names.asked == 1
    loop_now = asyncio.get_running_loop().time()
    assert loop_now + NEGATIVE_S < resolver._next_look_at <= loop_now + FRESH_S
    resolver.expire()
    assert resolver._next_look_at <= asyncio.get_running_loop().time() + NEGATIVE_S
    await resolver.close()
    assert names.closed


@pytest.mark.asyncio
async def test_a_failure_is_remembered_for_a_moment() -> None:
    names = Names()
    names.down = OSError("down")
    resolver = GuardedResolver(allow_private=False, inner=names)
    for _ in range(3):
        with pytest.raises(OSError, match="cannot be resolved"):
            await hosts(resolver)
    assert names.asked == 1


@pytest.mark.asyncio
async def test_closing_stops_a_look_up() -> None:
    names = Names("8.8.8.8")
    names.wait = asyncio.Event()
    resolver = GuardedResolver(allow_private=False, inner=names)
    waiting = asyncio.create_task(hosts(resolver))
    await asyncio.sleep(0)
    await resolver.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.asyncio
async def test_the_system_resolves_localhost() -> None:
    resolver = GuardedResolver(allow_private=True)
    found = [
        each["host"]
        for each in await resolver.resolve("localhost", 80, socket.AF_UNSPEC)
    ]
    assert all(ipaddress.ip_address(each).is_loopback for each in found)
    assert address_problem(ipaddress.ip_address(found[0]), allow_private=False)
    await resolver.close()


@asynccontextmanager
async def client_of(url: str, names: Names) -> AsyncIterator[HttpClient]:
    client = HttpClient(HttpSettings(url, allow_private=True), {}, resolver=names)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


@pytest.mark.asyncio
async def test_a_name_is_called_at_its_address() -> None:
    async with (
        RawServer(answer(b"1")) as server,
        client_of(f"http://backend.test:{server.port}", Names("127.0.0.1")) as client,
    ):
        assert (await client.request("GET", "/", timeout_s=10)).data == 1
        assert b"Host: backend.test:" in server.requests[0]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("addresses", "down", "message"),
    [
        (["169.254.169.254"], None, "may not be contacted"),
        ([], None, "cannot be resolved"),
        ([], OSError("x"), "cannot be resolved"),
    ],
)
async def test_a_name_without_a_good_address_is_unreachable_unsent(
    addresses: list[str], down: Exception | None, message: str
) -> None:
    names = Names(*addresses)
    names.down = down
    async with client_of("http://backend.test", names) as client:
        with pytest.raises(BackendUnreachable, match=message) as caught:
            await client.request("GET", "/", timeout_s=10)
        assert not caught.value.sent


# TLS

CERTIFICATES = Path(__file__).parent / "tls"


@asynccontextmanager
async def tls_server(
    certificate: str, **versions: ssl.TLSVersion
) -> AsyncIterator[tuple[int, list[bytes]]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / certificate)
    for name, version in versions.items():
        setattr(context, name, version)
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            received.append(data)
            writer.write(answer(b"1"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], received
    finally:
        server.close()


@pytest.fixture
def _trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem"))
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", context)


@pytest.mark.asyncio
@pytest.mark.usefixtures("_trusted")
async def test_a_trusted_certificate_is_accepted_and_its_connection_kept() -> None:
    async with (
        tls_server("good.pem") as (port, received),
        client_of(f"https://backend.test:{port}", Names("127.0.0.1")) as client,
    ):
        for _ in range(3):
            assert (await client.request("GET", "/", timeout_s=10)).data == 1
        assert len(received) == 3


@pytest.mark.asyncio
@pytest.mark.usefixtures("_trusted")
@pytest.mark.parametrize("certificate", ["expired.pem", "other.pem", "self_signed.pem"])
async def test_a_wrong_certificate_is_refused_before_a_byte_is_sent(
    certificate: str,
) -> None:
    async with (
        tls_server(certificate) as (port, received),
        client_of(f"https://backend.test:{port}", Names("127.0.0.1")) as client,
    ):
        with pytest.raises(BackendUnreachable, match="TLS certificate") as caught:
            await client.request("POST", "/", body={"a": 1}, timeout_s=10)
        assert not caught.value.sent
        assert received == []


@pytest.mark.asyncio
@pytest.mark.usefixtures("_trusted")
async def test_an_outdated_protocol_is_never_agreed_to() -> None:
    server = tls_server("good.pem", maximum_version=ssl.TLSVersion.TLSv1_1)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        port, received = await server.__aenter__()
    try:
        async with client_of(f"https://backend.test:{port}", Names("127.0.0.1")) as c:
            with pytest.raises(BackendUnreachable) as caught:
                await c.request("POST", "/", body={}, timeout_s=10)
            assert not caught.value.sent
            assert received == []
    finally:
        await server.__aexit__(None, None, None)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "reply", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"\x16\x03\x03\x00"]
)
async def test_a_handshake_that_is_cut_or_is_no_tls_sends_nothing(reply: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await reader.read(65536)
        assert b"POST" not in hello
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with client_of(f"https://backend.test:{port}", Names("127.0.0.1")) as client:
        with pytest.raises(BackendError) as caught:
            await client.request("POST", "/", body={}, timeout_s=10)
        assert not caught.value.sent
    server.close()
