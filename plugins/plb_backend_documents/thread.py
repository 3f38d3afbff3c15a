"""Run searches in a thread of their own, so that the event loop never waits."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


class SearchThread:
    """Runs one piece of work after another; a cancelled one is interrupted.

    `interrupt` is called from the event loop's thread, and only while the cancelled
    work is the one that runs.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._current: object = None

    async def run(
        self, work: Callable[[], Result], interrupt: Callable[[], None]
    ) -> Result:
        """Return what `work` returns; it does not start when cancelled before."""
        job = object()
        future = self._executor.submit(self._do, job, work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            with self._lock:
                if self._current is job:
                    interrupt()
            raise

    def close(self) -> None:
        """Take no more work; what runs is not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _do(self, job: object, work: Callable[[], Result]) -> Result:
        with self._lock:
            self._current = job
        try:
            return work()
        finally:
            with self._lock:
                self._current = None
