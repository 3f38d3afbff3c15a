from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from plb_core.testing.emulators import PerplexityEmulator
from tests.plugins.perplexity.bench import KEY


@pytest.fixture(autouse=True)
def api_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPLEXITY_API_KEY", KEY)


@pytest_asyncio.fixture
async def up() -> AsyncIterator[PerplexityEmulator]:
    async with PerplexityEmulator(api_key=KEY) as emulator:
        yield emulator
