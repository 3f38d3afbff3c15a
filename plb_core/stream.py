"""A streamed answer: attempts until the first text, then one backend to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from loguru import logger

from plb_core.errors import BackendError, BackendTimeout, BadAnswer
from plb_core.failures import plugin_fault
from plb_core.trust import check_chunk
from plb_core.types import Chunk

if TYPE_CHECKING:
    from plb_core.attempts import Request
    from plb_core.history import Attempt
    from plb_core.protocols import Backend
    from plb_core.replies import Reply
    from plb_core.types import Answer, Query

_TOO_LATE: Final = "the answer was not complete within its time limit"

Answered = Callable[["Request", "Attempt", "Answer", float], "Reply"]


class ReplyStream:
    """Chunks of one answer; use it as `async with balancer.stream(query) as stream`.

    Entering asks backends until one sends its first text. Iterating then yields its
    chunks; the last has `end` set. A failure after the first text raises
    `BackendError`: what was shown is incomplete. `reply` is set when complete. The
    backend's time limit and the question's deadline hold to the end, a slow reader's
    pauses included.
    """

    def __init__(self, request: Request, answered: Answered) -> None:
        self._request = request
        self._answered = answered
        self._attempt: Attempt | None = None
        self._chunks: AsyncIterator[Chunk] | None = None
        self._first: Chunk | None = None
        self._ttft_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[object] | None = None
        self._late = False
        self.request_id = request.trace.request_id
        self.track = request.pool.track.name
        self.backend = ""
        self.algorithm = ""
        self.attempts = 0
        self.overhead_s = 0.0
        self.reply: Reply | None = None

    async def __aenter__(self) -> Self:
        request = self._request
        if request.trace.attempts:
            raise RuntimeError("a stream can be entered only once")
        await request.enter()
        try:
            attempt, (chunks, first) = await request.run(self._open)
        except BaseException:
            request.leave()
            raise
        now_s = request.now()
        # One timer for the whole stream: `asyncio.timeout` around every chunk would
        # cost more than the chunk.
        self._timer = asyncio.get_running_loop().call_later(
            request.time_left_s(attempt, now_s), self._end_late
        )
        self._ttft_s = now_s - attempt.started_s
        self._attempt, self._chunks, self._first = attempt, chunks, first
        self.backend = attempt.candidate.name
        self.algorithm = attempt.named.name
        self.attempts = attempt.number
        waited_s = request.waited_s + self._ttft_s
        self.overhead_s = now_s - request.started_s - waited_s
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await _close(self._chunks)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._attempt is not None:  # left early: the reader went away
                self._request.finish(self._attempt, "cancelled", ttft_s=self._ttft_s)
            self._request.leave()

    def __aiter__(self) -> ReplyStream:
        return self

    async def __anext__(self) -> Chunk:
        attempt, chunks = self._attempt, self._chunks
        if attempt is None or chunks is None:
            raise RuntimeError("enter a stream with `async with` before reading it")
        if attempt.result:
            raise StopAsyncIteration
        try:
            if self._first is not None:
                chunk, self._first = self._first, None
            else:
                chunk = await self._next(chunks)
            check_chunk(chunk)
        except StopAsyncIteration:
            raise self._broken(
                attempt, BadAnswer("the stream has no end mark")
            ) from None
        except BackendError as error:
            raise self._broken(attempt, error) from error.__cause__
        except asyncio.CancelledError:
            self._request.finish(attempt, "cancelled", ttft_s=self._ttft_s)
            raise
        except Exception as error:
            raise self._broken(
                attempt, plugin_fault(attempt.candidate, error)
            ) from error
        if chunk.end:
            self._end(attempt, chunk)
        return chunk

    async def _next(self, chunks: AsyncIterator[Chunk]) -> Chunk:
        if self._late:
            raise BackendTimeout(_TOO_LATE)
        self._waiting = task = asyncio.current_task()
        try:
            return await anext(chunks)
        except asyncio.CancelledError:
            if self._late and task is not None and not task.uncancel():
                raise BackendTimeout(_TOO_LATE) from None
            raise
        finally:
            self._waiting = None

    def _end_late(self) -> None:
        """Wake the reader: the time limit has passed."""
        self._late = True
        if self._waiting is not None:
            self._waiting.cancel()

    def _end(self, attempt: Attempt, chunk: Chunk) -> None:
        if chunk.answer is None or chunk.end == "truncated":
            self._request.finish(
                attempt, "truncated", error=BadAnswer.code, ttft_s=self._ttft_s
            )
        else:
            self.reply = self._answered(
                self._request, attempt, chunk.answer, self._ttft_s
            )

    def _broken(self, attempt: Attempt, error: BackendError) -> BackendError:
        """Close the attempt as truncated: text was already sent to the user."""
        error.backend = attempt.candidate.name
        error.request_id = self.request_id
        self._request.finish(
            attempt, "truncated", error=error.code, ttft_s=self._ttft_s
        )
        return error

    async def _open(
        self, backend: Backend, query: Query, timeout_s: float
    ) -> tuple[AsyncIterator[Chunk], Chunk]:
        chunks = backend.stream(query, timeout_s)
        try:
            async for chunk in chunks:
                check_chunk(chunk)
                if chunk.end == "truncated":
                    raise BadAnswer("the stream was cut before its first text")
                if chunk.text or chunk.tool_calls or chunk.end:
                    return chunks, chunk
            raise BadAnswer("the stream ended without text or end mark")
        except BaseException:
            await _close(chunks)
            raise


async def _close(chunks: AsyncIterator[Chunk] | None) -> None:
    """Run an async generator's clean-up now instead of at garbage collection."""
    close = getattr(chunks, "aclose", None)
    if close is None:
        return
    try:
        await close()
    except Exception as error:  # noqa: BLE001 - a fault in the plugin itself
        logger.error("closing a backend's stream failed: {!r}", error)
