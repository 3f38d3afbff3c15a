"""Running an emulator beside synchronous code."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from plb_core.testing.emulators.base import Emulator

AnyEmulator = TypeVar("AnyEmulator", bound=Emulator)


@contextmanager
def run_in_thread(emulator: AnyEmulator) -> Iterator[AnyEmulator]:
    """Serve from an own thread with an own event loop while the block runs.

    Records and options may be read and set from outside; `until` may not be awaited.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="emulator", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(emulator.start(), loop).result()
        try:
            yield emulator
        finally:
            asyncio.run_coroutine_threadsafe(emulator.close(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
