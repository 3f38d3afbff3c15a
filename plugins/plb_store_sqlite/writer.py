"""A thread that does one thing after another, and commits rows in groups."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

from plb_core import LedgerRow, LedgerUnavailable

GROUP: Final = 256
"""Rows in one commit at most: below 2 ms of work for a single sync."""

_Result = TypeVar("_Result")
_Done = Sequence[tuple["asyncio.Future[None]", Exception | None]]


class Writer:
    """Runs work in its thread, in order, for one event loop.

    Rows that arrive while a commit runs share the next one: one row waits for one
    sync, and many rows do not wait for many. `commit` takes a group of rows and
    returns for each what went wrong, None for nothing.
    """

    def __init__(
        self,
        name: str,
        commit: Callable[[Sequence[LedgerRow]], Sequence[Exception | None]],
    ) -> None:
        self._commit = commit
        self._jobs: SimpleQueue[
            tuple[LedgerRow, asyncio.Future[None]] | Callable[[], None] | None
        ] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        # A daemon: an application that forgets to close still ends.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, row: LedgerRow) -> asyncio.Future[None]:
        """Take a row in; the future is done when its group is committed."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._jobs.put((row, future))
        return future

    async def do(self, work: Callable[[], _Result]) -> _Result:
        """Return what `work` returns, after everything put in before."""
        future: asyncio.Future[_Result] = self._loop.create_future()

        def run() -> None:
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - raised where it is awaited
                self._tell(_settle, future, None, error)
            else:
                self._tell(_settle, future, result, None)

        self._jobs.put(run)
        return await future

    def end(self) -> None:
        """End the thread when everything put in is done, and wait for that."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            while isinstance(job, tuple):
                group = [job]
                job = self._gather(group)
                self._finish(group)
            if job is None:
                return
            job()

    def _gather(
        self, group: list[tuple[LedgerRow, asyncio.Future[None]]]
    ) -> tuple[LedgerRow, asyncio.Future[None]] | Callable[[], None] | None:
        """Fill a group with rows that wait; return the job that comes after it."""
        while len(group) < GROUP:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            if not isinstance(job, tuple):
                return job
            group.append(job)
        return _nothing

    def _finish(self, group: list[tuple[LedgerRow, asyncio.Future[None]]]) -> None:
        try:
            errors = self._commit([row for row, _ in group])
        except Exception as error:  # noqa: BLE001 - the thread must live on
            message = f"the ledger cannot be written: {error}"
            errors = [LedgerUnavailable(message) for _ in group]
        futures = [future for _, future in group]
        self._tell(_settle_all, list(zip(futures, errors, strict=True)))

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more


def _nothing() -> None:
    """Stand for no job at all."""


def _settle_all(done: _Done) -> None:
    for future, error in done:
        _settle(future, None, error)


def _settle(
    future: asyncio.Future[_Result], result: _Result, error: Exception | None
) -> None:
    if future.done():  # who waited was cancelled
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
