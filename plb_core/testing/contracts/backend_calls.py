"""The calls, faults and looks that the backend contract is made of."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from plb_core.errors import BackendError
from plb_core.testing.emulators import Fault

if TYPE_CHECKING:
    from plb_core.protocols import Backend
    from plb_core.testing.emulators import Emulator
    from plb_core.types import Answer, Chunk, Query

CANARY: Final = "sk-CANARY-7f3a91"
"""The key every contract test runs with; it must never show."""

PATIENCE_S: Final = 15.0
"""How late a time limit may be obeyed on a busy machine before the test fails."""

CAPABILITIES: Final = frozenset(
    {"chat", "stream", "embeddings", "tools", "images", "response_format"}
)
_ECHO: Final = {"error": {"message": f"wrong key {CANARY}", "detail": CANARY}}
FAULTS: Final = {
    "500": Fault.status(500),
    "503": Fault.status(503, headers={"retry-after": "2"}),
    "401": Fault.status(401),
    "403 that quotes the key": Fault.status(403, body=_ECHO),
    "429": Fault.busy(2),
    "500 that quotes the key": Fault.status(500, body=_ECHO),
    "500 with a page": Fault.status(500, body=b"<html>"),
    "redirect": Fault.redirect("http://127.0.0.1:9/"),
    "drop": Fault.drop(),
    "reset": Fault.reset(),
    "reset amid the body": Fault.reset(10),
    "cut": Fault.cut(10),
    "cut unframed": Fault.cut_unframed(10),
    "bomb": Fault.bomb(),
    "endless": Fault.endless(),
    "header flood": Fault.header_flood(),
    "malformed": Fault.malformed(),
    "bad utf-8": Fault.bad_utf8(),
    "bad encoding": Fault.bad_encoding(),
    "empty": Fault.empty(),
    "wrong type": Fault.wrong_type(),
    "garbage": Fault.garbage(),
}


async def read_stream(backend: Backend, query: Query, timeout_s: float) -> list[Chunk]:
    """Return every chunk of a streamed answer."""
    return [chunk async for chunk in backend.stream(query, timeout_s)]


async def read_ask(backend: Backend, query: Query, timeout_s: float) -> Answer:
    """Return the answer; the counterpart of `read_stream`."""
    return await backend.ask(query, timeout_s)


Call = Callable[
    ["Backend", "Query", float], Coroutine[Any, Any, "Answer | list[Chunk]"]
]


async def failure_of(
    call: Call, backend: Backend, query: Query
) -> BaseException | None:
    """Return the error a call ends in; None for a stream that says it was cut."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            result = await call(backend, query, PATIENCE_S * 2)
    except BackendError as error:
        return error
    assert isinstance(result, list), "a failure was taken for an answer"
    assert [chunk.end for chunk in result if chunk.end] == ["truncated"]
    return None


def everything(error: BaseException | None) -> str:
    """Return all that a log could show of an error."""
    if error is None:
        return ""
    return repr(error) + "".join(traceback.format_exception(error)) + str(vars(error))


def tasks_besides(up: Emulator) -> set[asyncio.Task[object]]:
    """Return the running tasks that are not the emulator's own connections."""
    return {
        task
        for task in asyncio.all_tasks()
        if getattr(task.get_coro(), "__qualname__", "") != "Emulator._serve"
    } - getattr(up, "_tasks", set())
