"""The connection both Perplexity backends share: key, address, health, prices."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from plb_backend_perplexity import price_file, prices
from plb_backend_perplexity.settings import AccountSettings
from plb_core import (
    BackendError,
    BuildContext,
    ConfigError,
    ProbeResult,
    Problem,
    Secret,
)
from plb_core.http.client import HttpClient

_MISSING: Final = (404, 405)
_RETIRED_PATHS_ONLY: Final = "reachable; it lists no models"


def connect(settings: AccountSettings) -> HttpClient:
    """Return a client that sends the key with every call."""
    key = Secret.from_env(settings.api_key_env)
    return HttpClient(settings, {"authorization": f"Bearer {key.reveal()}"})


def price_book(settings: AccountSettings, context: BuildContext) -> prices.PriceBook:
    """Return the prices in force; raises `ConfigError` for a bad price file."""
    if settings.prices_file is None:
        return price_file.shipped()
    try:
        return price_file.load(context.folder / Path(settings.prices_file))
    except ConfigError as error:
        key = f"backend.{context.name}.prices_file"
        raise ConfigError(
            [Problem(str(problem), key=key) for problem in error.problems]
        ) from error


async def ping(
    client: HttpClient, context: BuildContext, path: str, timeout_s: float
) -> ProbeResult:
    """Ask for the list of models, which needs the key and is not billed."""
    began_s = context.now()
    try:
        async with asyncio.timeout(timeout_s):
            answer = await client.request("GET", path, timeout_s=timeout_s)
    except TimeoutError:
        return ProbeResult(
            ok=False, latency_s=context.now() - began_s, detail="timeout"
        )
    except BackendError as error:
        return ProbeResult(
            ok=False, latency_s=context.now() - began_s, detail=error.code
        )
    took_s = context.now() - began_s
    if answer.status in range(200, 300):
        return ProbeResult(ok=True, latency_s=took_s)
    if answer.status in _MISSING and path != prices.MODELS_PATH:
        return ProbeResult(ok=True, latency_s=took_s, detail=_RETIRED_PATHS_ONLY)
    return ProbeResult(ok=False, latency_s=took_s, detail=f"status {answer.status}")
