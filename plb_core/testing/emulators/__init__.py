"""Emulated backends: real servers on 127.0.0.1 with recorded wire forms and faults.

```python
import asyncio
from plb_core.testing.emulators import Fault, LightRAGEmulator

async def main() -> None:
    async with LightRAGEmulator(faults=[Fault.status(503), None]) as up:
        print(up.url, up.requests, up.book)

asyncio.run(main())
```
"""

from plb_core.testing.emulators.base import BilledCall, Emulator, Tokens
from plb_core.testing.emulators.faults import (
    Call,
    Fault,
    Plan,
    between,
    on_calls,
    on_paths,
    share_of_calls,
)
from plb_core.testing.emulators.lightrag import LightRAGEmulator
from plb_core.testing.emulators.openai import OpenAIEmulator
from plb_core.testing.emulators.perplexity import PerplexityEmulator
from plb_core.testing.emulators.threads import run_in_thread
from plb_core.testing.emulators.wire import Reply, Request, json_reply

__all__ = [
    "BilledCall",
    "Call",
    "Emulator",
    "Fault",
    "LightRAGEmulator",
    "OpenAIEmulator",
    "PerplexityEmulator",
    "Plan",
    "Reply",
    "Request",
    "Tokens",
    "between",
    "json_reply",
    "on_calls",
    "on_paths",
    "run_in_thread",
    "share_of_calls",
]
