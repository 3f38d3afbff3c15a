"""Requests by the clock, whatever becomes of those before, and what came of each."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from typing import Literal

import aiohttp
import attrs

from plb_gateway.catalogue import CATALOGUE

Outcome = Literal["ok", "shed", "documented", "undocumented", "lost"]
SHED_STATUSES = (429, 503)
ANSWER_FIELDS = ("id", "choices", "usage")
QUESTION = "What are metabolic pathways?"


@attrs.define
class Sent:
    """One request. `complete`: its body reached its proper end. `marked`: it was cut,
    and said so. `text` is what a reader saw of the answer."""

    number: int
    stream: bool
    sent_s: float
    latency_s: float = 0.0
    status: int = 0
    code: str = ""
    complete: bool = False
    marked: bool = False
    text: str = ""
    backend: str = ""
    attempts: int = 0
    retry_after_ms: int | None = None
    trouble: str = ""

    @property
    def outcome(self) -> Outcome:
        """What the client makes of it; "lost" is what must never happen."""
        if not self.status:
            return "lost"
        if self.status == 200:
            if self.complete:
                return "ok"
            return "documented" if self.marked else "lost"
        entry = CATALOGUE.get(self.code)
        if entry is None or entry.status != self.status or not self.complete:
            return "undocumented"
        return "shed" if self.status in SHED_STATUSES else "documented"


class Load:
    """Sends `rate` requests a second for `seconds`; every `stream_every`th streams.

    Waits for each answer until `patience_s` after it was sent; later is "lost".
    """

    def __init__(
        self,
        url: str,
        *,
        rate: float,
        seconds: float,
        stream_every: int = 4,
        patience_s: float = 10.0,
        seed: int = 1,
        on_send: Callable[[int], None] | None = None,
        body: dict[str, object] | None = None,
    ) -> None:
        self.url = f"{url}/v1/chat/completions"
        self.rate = rate
        self.seconds = seconds
        self.stream_every = stream_every
        self.patience_s = patience_s
        self.on_send = on_send
        self.body = body or {}
        self.sent: list[Sent] = []
        self._rng = random.Random(seed)
        self._session: aiohttp.ClientSession | None = None

    async def run(self) -> Sequence[Sent]:
        """Send them all and wait for every answer."""
        loop = asyncio.get_running_loop()
        begin_s = at_s = loop.time()
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(connector=connector) as self._session,
            asyncio.TaskGroup() as group,
        ):
            while at_s < begin_s + self.seconds:
                number = len(self.sent)
                if self.on_send is not None:
                    self.on_send(number)
                stream = self.stream_every > 0 and number % self.stream_every == 0
                # From the planned moment: a stalled sender counts as latency.
                one = Sent(number, stream, at_s)
                self.sent.append(one)
                group.create_task(self._send(one))
                at_s += self._rng.expovariate(self.rate)
                await asyncio.sleep(at_s - loop.time())
        return self.sent

    async def _send(self, one: Sent) -> None:
        body: dict[str, object] = {
            "model": "auto",
            "messages": [{"role": "user", "content": QUESTION}],
            "stream": one.stream,
            **self.body,
        }
        assert self._session is not None
        try:
            async with (
                asyncio.timeout(self.patience_s),
                self._session.post(self.url, json=body) as answer,
            ):
                one.status = answer.status
                one.backend = answer.headers.get("x-plb-backend", "")
                one.attempts = int(answer.headers.get("x-plb-attempts", "0"))
                wait_ms = answer.headers.get("retry-after-ms")
                one.retry_after_ms = int(wait_ms) if wait_ms is not None else None
                await _read(one, answer)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            one.trouble = type(error).__name__
        one.latency_s = asyncio.get_running_loop().time() - one.sent_s


async def _read(one: Sent, answer: aiohttp.ClientResponse) -> None:
    data = bytearray()
    try:
        async for piece in answer.content.iter_any():
            data += piece
    finally:
        _judge(one, answer.content_type, bytes(data), ended=answer.content.at_eof())


def _judge(one: Sent, kind: str, data: bytes, *, ended: bool) -> None:
    """Fill in what a careful client reads out of the body."""
    if kind == "text/event-stream":
        events = [
            line[6:] for line in data.decode().splitlines() if line.startswith("data: ")
        ]
        done = bool(events) and events[-1] == "[DONE]"
        read = [json.loads(event) for event in events if event != "[DONE]"]
        one.marked = any("error" in event for event in read)
        one.text = "".join(
            choice["delta"].get("content") or ""
            for event in read
            for choice in event.get("choices", ())
        )
        one.complete = ended and done and not one.marked
        return
    body = json.loads(data)
    if one.status == 200:
        one.complete = ended and all(field in body for field in ANSWER_FIELDS)
        one.text = body["choices"][0]["message"]["content"] or ""
    else:
        one.code = body["error"]["code"]
        one.complete = ended


def percentile_ms(values_s: Sequence[float], share: float) -> float:
    """Return a percentile in milliseconds, 0 of nothing."""
    if not values_s:
        return 0.0
    ordered = sorted(values_s)
    return 1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]
