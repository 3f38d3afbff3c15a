from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from plb_core.balancer import Balancer
from plb_core.config import read_text
from tests.gateway.gateway_setup import CONFIG, ScriptedPlugin, Serve, Served


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Serve]:
    """Return a function that starts a gateway for parts of a configuration."""
    async with AsyncExitStack() as stack:

        async def start(**parts: str) -> Served:
            names = ("routing", "one", "more", "gateway")
            text = CONFIG.format(**{name: parts.get(name, "") for name in names})
            plugin = ScriptedPlugin()
            balancer = Balancer(read_text(text), plugins=[plugin], seed=1)
            await stack.enter_async_context(balancer)
            (service,) = balancer.plan.services.values()
            stack.push_async_callback(service.close)
            (url,) = await service.start(balancer)
            return Served(url, balancer, plugin.built)

        yield start


@pytest_asyncio.fixture
async def served(serve: Serve) -> Served:
    """Return a gateway before one backend called `one`."""
    return await serve()


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run one module on uvloop, whose transports differ from asyncio's."""
    if item.path.name == "test_on_uvloop.py":
        uvloop = pytest.importorskip("uvloop")
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
