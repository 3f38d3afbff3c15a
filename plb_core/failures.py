"""What an exception says about a backend, and what is done with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from plb_core.errors import (
    BackendBusy,
    BackendError,
    BackendTimeout,
    BadAnswer,
    NoAnswer,
)

if TYPE_CHECKING:
    from plb_core.breaker import CallResult
    from plb_core.candidate import Candidate
    from plb_core.types import Result

BUSY_PAUSE_S: Final = 1.0
"""How long a busy backend is left alone when it names no time itself."""

LONGEST_PAUSE_S: Final = 3600.0
"""No backend can close itself for longer than an hour, whatever it asks for."""


def verdict(result: Result, error: str) -> CallResult:
    """Return what an attempt's end tells its breaker."""
    if result in ("answer", "no_answer"):
        return "success"
    if result == "cancelled" or error == BackendBusy.code:
        return "ignored"  # the client went away, or load
    return "failure"


def times_cancelled() -> int:
    """Return how often the running task was asked to end."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def pause_s(error: BackendError) -> float | None:
    """Return how long to leave a failed backend alone; plugins may pass on nonsense."""
    wanted_s: object = error.retry_after_s
    if isinstance(wanted_s, int | float) and wanted_s >= 0:
        return min(wanted_s, LONGEST_PAUSE_S)
    return BUSY_PAUSE_S if isinstance(error, BackendBusy) else None


def as_failure(
    error: BaseException, candidate: Candidate, timeout_s: float
) -> BackendError | NoAnswer:
    """Return what a call's exception says about the backend."""
    if isinstance(error, BackendError | NoAnswer):
        return error
    if isinstance(error, TimeoutError):
        late = BackendTimeout(f"no answer within {timeout_s:.3g} s")
        late.__cause__ = error
        return late
    return plugin_fault(candidate, error)


def forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of an error that is kept: their frames hold whole answers."""
    for each in (error, error.__cause__, error.__context__):
        if each is not None:
            each.__traceback__ = None


def plugin_fault(candidate: Candidate, error: BaseException) -> BadAnswer:
    """Return the backend error for an exception that no protocol allows."""
    fault = BadAnswer(
        f"the plugin {candidate.info.plugin!r} raised {type(error).__name__}"
    )
    fault.__cause__ = error
    return fault
