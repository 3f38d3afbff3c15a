"""Background runs: submit, look until done, cancel when nobody waits any more."""

from __future__ import annotations

import asyncio
import re
from typing import Final

from plb_backend_perplexity import wire
from plb_backend_perplexity.refusals import refuse
from plb_backend_perplexity.request import AGENT_PATH, Call
from plb_core import BackendError, BackendTimeout, BadAnswer
from plb_core.http.client import HttpAnswer, HttpClient

_RUNNING: Final = frozenset({"queued", "in_progress"})
_RUN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""The id becomes part of a path, so nothing else may be in it."""
_LOOK_TIMEOUT_S: Final = 10.0
_FAILED_LOOKS: Final = 3
"""A run is paid for; one lost look must not lose it, a dead backend must."""


class Runs:
    """The background runs of one backend."""

    def __init__(self, client: HttpClient, poll_interval_s: float) -> None:
        self._client = client
        self._poll_interval_s = poll_interval_s
        self._cancelling: set[asyncio.Task[None]] = set()

    async def result(self, call: Call, timeout_s: float) -> object:
        """Return the finished run's response object, whatever its status.

        A run that is not finished when time is up, or when the caller goes away, is
        cancelled at Perplexity, so that it stops costing money.
        """
        run_id = ""
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._client.request(
                    "POST", call.path, body=call.body, timeout_s=timeout_s
                )
                if answer.status not in range(200, 300):
                    raise refuse(answer, model_from_client=call.model_from_client)
                if _is_running(answer):
                    run_id = _run_id(answer)
                    answer = await self._finished(run_id)
                    run_id = ""
                return answer.data
        except TimeoutError as error:
            message = "Perplexity's background run took too long and was cancelled"
            raise BackendTimeout(message) from error
        finally:
            if run_id:
                self._cancel(run_id)

    async def close(self) -> None:
        """Wait for cancellations that are under way."""
        await asyncio.gather(*self._cancelling)

    async def _finished(self, run_id: str) -> HttpAnswer:
        failed_looks = 0
        wait_s = self._poll_interval_s
        while True:
            await asyncio.sleep(wait_s)
            wait_s = self._poll_interval_s
            try:
                answer = await self._look(run_id)
            except BackendError as error:
                failed_looks += 1
                if not error.retryable or failed_looks == _FAILED_LOOKS:
                    raise
                wait_s = max(wait_s, error.retry_after_s or 0.0)
                continue
            failed_looks = 0
            if answer.status == 404:  # noqa: PLR2004 - an HTTP status
                message = "Perplexity no longer knows the background run"
                raise BadAnswer(message)
            if not _is_running(answer):
                return answer

    async def _look(self, run_id: str) -> HttpAnswer:
        answer = await self._client.request(
            "GET", f"{AGENT_PATH}/{run_id}", timeout_s=_LOOK_TIMEOUT_S
        )
        if answer.status != 404 and answer.status not in range(200, 300):  # noqa: PLR2004 - an HTTP status
            raise refuse(answer)
        return answer

    def _cancel(self, run_id: str) -> None:
        task = asyncio.create_task(self._send_cancel(run_id))
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)

    async def _send_cancel(self, run_id: str) -> None:
        try:
            await self._client.request(
                "POST", f"{AGENT_PATH}/{run_id}/cancel", timeout_s=_LOOK_TIMEOUT_S
            )
        except BackendError:
            return  # nobody waits for it, and there is nothing else to try


def _is_running(answer: HttpAnswer) -> bool:
    return wire.text(wire.table(answer.data).get("status")) in _RUNNING


def _run_id(answer: HttpAnswer) -> str:
    run_id = wire.text(wire.table(answer.data).get("id"))
    if not _RUN_ID.fullmatch(run_id):
        message = "Perplexity started a background run without a usable id"
        raise BadAnswer(message)
    return run_id
