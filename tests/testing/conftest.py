"""Fixtures for the tests of the emulators."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest_asyncio

from tests.testing.emulator_client import Client


@pytest_asyncio.fixture
async def http() -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(session)
