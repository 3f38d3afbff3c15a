"""What this process holds, and how late its event loop runs."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
from pathlib import Path
from types import TracebackType
from typing import Self

BEAT_S = 0.01


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counts, no paths needed


def _status_mib(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def rss_mib() -> float:
    return _status_mib("VmRSS")


def peak_mib() -> float:
    return _status_mib("VmHWM")


def reset_peak() -> None:
    """Let the peak begin anew, at a size without what earlier cases left free."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def _not_scheduled_s() -> float:
    """Return how long this thread has waited for a free core so far."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


class LagMeter:
    """Measures how late the loop runs a timer, less the time other processes took."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s, waited_s = loop.time() + BEAT_S, _not_scheduled_s()
            await asyncio.sleep(BEAT_S)
            others_s = _not_scheduled_s() - waited_s
            self.worst_s = max(self.worst_s, loop.time() - due_s - others_s)
