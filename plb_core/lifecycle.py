"""Open backends together; close each once nothing can use it any more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from loguru import logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from plb_core.plan import Plan
    from plb_core.protocols import Backend

_LOOK_S: Final = 0.05
"""Seconds between two looks at whether a leaving backend is idle."""


async def start_all(backends: Iterable[Backend]) -> None:
    """Start all, or none: on the first failure the started ones are closed."""
    started: list[Backend] = []
    try:
        for backend in backends:
            await backend.start()
            started.append(backend)
    except BaseException:
        for backend in started:
            await _close(backend)
        raise


class Leaving:
    """Backends on their way out; each is closed exactly once."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._hurried = False

    def add(self, name: str, backend: Backend, plans: Sequence[Plan]) -> None:
        """Close a backend when no request of `plans` runs on it or may choose it."""
        task = asyncio.create_task(
            self._close_when_idle(
                backend, [plan for plan in plans if plan.backends.get(name) is backend]
            ),
            name=f"plb closing {name}",
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Wait until all that were let go are closed."""
        await asyncio.gather(*self._tasks)

    async def close(self, patience_s: float) -> None:
        """Wait until all are closed; after `patience_s` close those in use as well."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience_s)
        self._hurried = True
        await self.settled()

    async def _close_when_idle(self, backend: Backend, plans: Sequence[Plan]) -> None:
        # Polled: a hook in the hot path for this rare moment would cost more.
        while _in_use(backend, plans) and not self._hurried:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        await _close(backend)


def _in_use(backend: Backend, plans: Sequence[Plan]) -> bool:
    return any(
        plan.choosing or plan.candidates[name].in_flight
        for plan in plans
        for name, each in plan.backends.items()
        if each is backend
    )


async def _close(backend: Backend) -> None:
    """Close one; its failure is logged and stops no other."""
    try:
        await backend.close()
    except Exception as error:  # noqa: BLE001 - a fault in the plugin itself
        logger.error("closing a backend failed: {!r}", error)
