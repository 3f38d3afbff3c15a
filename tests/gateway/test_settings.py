from __future__ import annotations

import gc
import socket
import subprocess
import sys

import pytest

from plb_core import ConfigError
from plb_core.testing.fakes import context
from plb_gateway import build
from plb_gateway.settings import GatewaySettings
from tests.gateway.gateway_setup import Serve, Served


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('host = "0.0.0.0"', "service.gateway.host: '0.0.0.0' can be reached by"),
        ('host = "::"', "service.gateway.host: '::' can be reached"),
        ('host = "plb.example"', "service.gateway.host: 'plb.example' can be reached"),
        ('host = ""', "service.gateway.host: '' can be reached"),
        ("max_body_bytes = 10", "service.gateway.max_body_bytes: expected a number"),
        ("body_timeout_s = 0", "service.gateway.body_timeout_s: expected a number"),
        ("cors = true", "service.gateway.cors: unknown key"),
        ('token_env = "NOT_SET_HERE"', "service.gateway.token_env: "),
    ],
)
@pytest.mark.asyncio
async def test_unsafe_or_wrong_settings_are_refused(
    serve: Serve, text: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        await serve(gateway=text)
    assert problem in str(raised.value)


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match="expected a port from 0 to 65535"):
        GatewaySettings(port=port)


@pytest.mark.asyncio
async def test_an_open_address_is_served_with_a_token(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN", "t")
    served = await serve(gateway='host = "0.0.0.0"\ntoken_env = "GATEWAY_TOKEN"')
    answer = await served.raw(b"GET /healthz HTTP/1.0\r\n\r\n")
    assert b'{"status":"ok"}' in answer


@pytest.mark.asyncio
async def test_listens_on_ipv6(serve: Serve) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    served = await serve(gateway='host = "::1"')
    assert served.url.startswith("http://[::1]:")


@pytest.mark.asyncio
async def test_a_taken_port_is_a_configuration_error(served: Served) -> None:
    second = build(GatewaySettings(port=served.port), context("gateway"))
    with pytest.raises(ConfigError, match=r"service\.gateway\.port: cannot listen"):
        await second.start(served.balancer)
    await second.close()


@pytest.mark.asyncio
async def test_closing_restores_the_collector(serve: Serve) -> None:
    before = gc.get_threshold()
    served = await serve()
    assert gc.get_threshold() != before
    (service,) = served.balancer.plan.services.values()
    await service.close()
    await service.close()
    assert gc.get_threshold() == before


def test_importing_the_plugin_imports_no_http_library() -> None:
    code = "import plb_gateway, sys; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
