from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from plb_core.settings import EnvVar
from plb_core.testing import fakes
from tests.plugins.lightrag.upstream import (
    SECRET,
    Upstream,
)


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream().running() as scripted:
        yield scripted


@pytest.fixture
def clock() -> fakes.FakeClock:
    return fakes.FakeClock()


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("TEST_LIGHTRAG_USER", "ada")
    monkeypatch.setenv("TEST_LIGHTRAG_PASSWORD", SECRET)
    return {
        "username_env": EnvVar("TEST_LIGHTRAG_USER"),
        "password_env": EnvVar("TEST_LIGHTRAG_PASSWORD"),
    }
