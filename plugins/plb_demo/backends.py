"""The demo's backends: three emulated paid ones beside the embedded documents."""

from __future__ import annotations

import math
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

import attrs

from plb_core import Price
from plb_core.testing.emulators import (
    Fault,
    LightRAGEmulator,
    OpenAIEmulator,
    PerplexityEmulator,
)

if TYPE_CHECKING:
    from plb_core.testing.emulators import Call, Emulator

KEY_VARIABLE: Final = "PLB_DEMO_KEY"
_SPREAD: Final = 0.35
"""Sigma of the logarithm: one answer in twenty takes 1.8 times the median."""
_MODEL: Final = "gpt-6-mini"
# LightRAG never says what a question cost, so that only a price per question can be
# known by both sides.
_LIGHTRAG_USD: Final = 0.0004
_OPENAI_USD: Final = (0.15, 0.60)

NAMES: Final = ("documents", "lightrag", "perplexity", "openai")


@attrs.frozen
class PaidBackends:
    """The emulated backends by name."""

    by_name: dict[str, Emulator]

    def billed_micro_usd(self) -> int:
        """Return what all of them have billed so far."""
        return sum(each.billed_micro_usd for each in self.by_name.values())

    def break_down(self, name: str) -> None:
        """Make one fail: LightRAG behind a 200, the others openly."""
        backend = self.by_name[name]
        if isinstance(backend, LightRAGEmulator):
            backend.hidden = "llm_down"
        else:
            backend.faults = _refuse_or_reset

    def mend(self, name: str) -> None:
        """Make it work again."""
        backend = self.by_name[name]
        backend.hidden = ""
        backend.faults = []

    def config(self, algorithm: str) -> str:
        """Return a configuration with all four backends and one algorithm."""
        urls = {name: backend.url for name, backend in self.by_name.items()}
        return f"""
[track.main]
algorithm = "{algorithm}"

[routing]
deadline_s = 10.0
max_attempts = 4
cost_scorer = "tokens"
quality_scorer = "basic"

[backend.documents]

[backend.lightrag]
base_url = "{urls["lightrag"]}"
price = {{ request_usd = {_LIGHTRAG_USD} }}

[backend.perplexity]
base_url = "{urls["perplexity"]}"
allow_private = true
api_key_env = "{KEY_VARIABLE}"

[backend.openai]
base_url = "{urls["openai"]}/v1"
allow_private = true
model = "{_MODEL}"

[backend.openai.price]
input_usd_per_mtok = {_OPENAI_USD[0]}
output_usd_per_mtok = {_OPENAI_USD[1]}
"""


@asynccontextmanager
async def paid_backends(seed: int) -> AsyncIterator[PaidBackends]:
    """Serve the three emulators on free ports of this machine."""
    lightrag = LightRAGEmulator(
        latency_s=_around(0.11), seed=seed, price=Price(request_micro_usd=400)
    )
    perplexity = PerplexityEmulator(latency_s=_around(0.17), seed=seed + 1)
    openai = OpenAIEmulator(
        latency_s=_around(0.07),
        seed=seed + 2,
        models=(_MODEL,),
        price=Price(150_000, 600_000),
    )
    with _key_in_environment():
        async with lightrag, perplexity, openai:
            yield PaidBackends(
                {"lightrag": lightrag, "perplexity": perplexity, "openai": openai}
            )


def _around(median_s: float) -> Callable[[random.Random], float]:
    return lambda rng: rng.lognormvariate(math.log(median_s), _SPREAD)


def _refuse_or_reset(call: Call) -> Fault | None:
    return Fault.status(503) if call.number % 2 else Fault.reset()


@contextmanager
def _key_in_environment() -> Iterator[None]:
    """Settings name a variable and never hold a key, so the demo needs one too."""
    before = os.environ.get(KEY_VARIABLE)
    os.environ[KEY_VARIABLE] = "demo"
    try:
        yield
    finally:
        if before is None:
            del os.environ[KEY_VARIABLE]
        else:
            os.environ[KEY_VARIABLE] = before
