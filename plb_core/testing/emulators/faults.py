"""What can go wrong between plb and a backend, as scripts for an emulator.

A fault is done to one call. Give an emulator a list of them (one per call, None for
"no fault") or a plan: a function from `Call` to a fault or None.
"""

from __future__ import annotations

import functools
import random
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from plb_core.testing.emulators.wire import Reply, Request, json_reply

if TYPE_CHECKING:
    from plb_core.testing.emulators.wire import Wire

MIB: Final = 1024 * 1024


@attrs.frozen
class Call:
    """One call as a plan sees it: counted from 1, `at_s` seconds after the start."""

    number: int
    at_s: float
    request: Request


class KnowsErrors(Protocol):
    """Whoever can word an error in a backend's own form."""

    def error(self, status: int) -> Reply:
        """Return the error reply with that status."""
        ...


Play = Callable[["Wire", Reply], Awaitable[None]]
Edit = Callable[[KnowsErrors, Reply], Reply]
Plan = Callable[[Call], "Fault | None"]


def _unchanged(_: KnowsErrors, reply: Reply) -> Reply:
    return reply


@attrs.frozen
class Fault:
    """One thing that goes wrong.

    `edit` replaces the reply, `play` sends it (None: as usual). `bills` says whether
    the call is billed although the client does not get the answer. `hidden` names a
    failure the backend itself hides behind a 200. `drops` ends the connection.
    """

    name: str
    edit: Edit = _unchanged
    play: Play | None = None
    bills: bool = False
    hidden: str = ""
    drops: bool = False

    @classmethod
    def status(
        cls,
        status: int,
        *,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        bills: bool = False,
    ) -> Fault:
        """Answer with a status; without a body, in the backend's own error form.

        `body` may be bytes, sent as they are, or anything JSON can hold.
        """
        more = dict(headers or {})

        def edit(backend: KnowsErrors, reply: Reply) -> Reply:
            if body is None:
                made = backend.error(status)
            elif isinstance(body, bytes):
                made = Reply(status, body, {"content-type": "application/json"})
            else:
                made = json_reply(body, status)
            headers = {**made.headers, **more}
            return attrs.evolve(made, headers=headers, micro_usd=reply.micro_usd)

        return cls(f"status {status}", edit, bills=bills)

    @classmethod
    def busy(
        cls,
        retry_after_s: float | str | None = None,
        *,
        retry_after_ms: float | None = None,
        should_retry: bool | None = None,
    ) -> Fault:
        """Answer 429 with the given hints."""
        headers: dict[str, str] = {}
        if retry_after_s is not None:
            headers["retry-after"] = str(retry_after_s)
        if retry_after_ms is not None:
            headers["retry-after-ms"] = str(retry_after_ms)
        if should_retry is not None:
            headers["x-should-retry"] = str(should_retry).lower()
        return cls.status(429, headers=headers)

    @classmethod
    def redirect(cls, url: str, status: int = 307) -> Fault:
        """Send the client somewhere else."""
        return cls.status(status, body=b"", headers={"location": url})

    @classmethod
    def behind_200(cls, hidden: str, *, bills: bool = True) -> Fault:
        """Fail in a way the backend hides; see the emulator for the names it knows."""
        return cls(f"behind 200: {hidden}", bills=bills, hidden=hidden)

    @classmethod
    def slow(cls, seconds: float) -> Fault:
        """Answer correctly, but so much later."""

        def edit(_: KnowsErrors, reply: Reply) -> Reply:
            return attrs.evolve(reply, delay_s=reply.delay_s + seconds)

        return cls("slow", edit, bills=True)

    @classmethod
    def hang(cls, *, bills: bool = False) -> Fault:
        """Take the request and send nothing at all."""

        async def play(wire: Wire, _: Reply) -> None:
            await wire.hang()

        return cls("hang", play=play, bills=bills, drops=True)

    @classmethod
    def stall(cls, after_bytes: int = 0) -> Fault:
        """Send the headers and so many bytes of the body, then nothing."""

        async def play(wire: Wire, reply: Reply) -> None:
            await wire.send(reply, limit=after_bytes)
            await wire.hang()

        return cls("stall", play=play, bills=True, drops=True)

    @classmethod
    def drop(cls, *, bills: bool = False) -> Fault:
        """Close the connection in an orderly way instead of answering."""

        async def play(wire: Wire, _: Reply) -> None:
            await wire.close()

        return cls("drop", play=play, bills=bills, drops=True)

    @classmethod
    def reset(cls, after_bytes: int | None = None, *, bills: bool = False) -> Fault:
        """Reset the connection: at once, or after so many bytes of the body."""

        async def play(wire: Wire, reply: Reply) -> None:
            if after_bytes is not None:
                await wire.send(reply, limit=after_bytes)
            await wire.reset()

        return cls("reset", play=play, bills=bills, drops=True)

    @classmethod
    def cut(cls, after_bytes: int) -> Fault:
        """Announce the whole body, close after so many bytes of it."""

        async def play(wire: Wire, reply: Reply) -> None:
            await wire.send(reply, limit=after_bytes)

        return cls("cut", play=play, bills=True, drops=True)

    @classmethod
    def cut_unframed(cls, after_bytes: int) -> Fault:
        """Cut a body whose only end is the end of the connection: HTTP cannot tell."""

        async def play(wire: Wire, reply: Reply) -> None:
            await wire.send(reply, framing="eof", limit=after_bytes)

        return cls("cut unframed", play=play, bills=True, drops=True)

    @classmethod
    def close_after(cls) -> Fault:
        """Answer, then close without having said so: the client's pool goes stale."""
        return cls("close after", bills=True, drops=True)

    @classmethod
    def drip(cls, bytes_per_s: float) -> Fault:
        """Send the body byte by byte, or in small steps when that is faster."""
        step = max(1, round(bytes_per_s / 50))

        async def play(wire: Wire, reply: Reply) -> None:
            content = reply.content
            steps = range(0, len(content), step)
            pieces = tuple(content[start : start + step] for start in steps)
            dripped = attrs.evolve(reply, pieces=pieces)
            await wire.send(dripped, gap_s=step / bytes_per_s)

        return cls("drip", play=play, bills=True)

    @classmethod
    def bomb(cls, decoded_bytes: int = 64 * MIB) -> Fault:
        """Send a small gzip body that unpacks to very much."""
        packed = _packed_blanks(decoded_bytes)
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        return cls("bomb", lambda _, __: Reply(200, packed, headers))

    @classmethod
    def endless(cls) -> Fault:
        """Send a body that never ends, as fast as it is read."""

        async def play(wire: Wire, reply: Reply) -> None:
            await wire.head(reply, "chunked")
            block = b"%x\r\n%s\r\n" % (64 * 1024, b" " * (64 * 1024))
            while True:
                await wire.raw(block)

        return cls("endless", play=play, bills=True, drops=True)

    @classmethod
    def header_flood(cls, count: int = 200, size: int = 1000) -> Fault:
        """Answer correctly under a mountain of headers."""

        def edit(_: KnowsErrors, reply: Reply) -> Reply:
            flood = {f"x-flood-{number}": "x" * size for number in range(count)}
            return attrs.evolve(reply, headers={**reply.headers, **flood})

        return cls("header flood", edit, bills=True, drops=True)

    @classmethod
    def malformed(cls) -> Fault:
        """Send the first half of the body as if it were all: bad JSON, whole HTTP."""

        def edit(_: KnowsErrors, reply: Reply) -> Reply:
            half = reply.content[: len(reply.content) // 2]
            return attrs.evolve(reply, body=half, pieces=None)

        return cls("malformed", edit, bills=True)

    @classmethod
    def bad_utf8(cls) -> Fault:
        """Put bytes that are not UTF-8 into the first string of the body."""

        def edit(_: KnowsErrors, reply: Reply) -> Reply:
            head, colon, rest = reply.content.partition(b'"')
            return attrs.evolve(
                reply, body=head + colon + b"\xff\xfe" + rest, pieces=None
            )

        return cls("bad utf-8", edit, bills=True)

    @classmethod
    def bad_encoding(cls) -> Fault:
        """Say the body is gzip when it is not."""

        def edit(_: KnowsErrors, reply: Reply) -> Reply:
            headers = {**reply.headers, "content-encoding": "gzip"}
            return attrs.evolve(reply, headers=headers)

        return cls("bad encoding", edit, bills=True)

    @classmethod
    def empty(cls) -> Fault:
        """Answer 200 with nothing in it."""
        return cls("empty", lambda _, reply: Reply(200, b"", reply.headers))

    @classmethod
    def wrong_type(cls) -> Fault:
        """Answer 200 with a web page, as a captive portal or proxy does."""
        page = b"<!doctype html><title>Sign in</title><p>Please sign in."
        headers = {"content-type": "text/html; charset=utf-8"}
        return cls("wrong type", lambda _, __: Reply(200, page, headers))

    @classmethod
    def garbage(cls) -> Fault:
        """Answer with bytes that are not HTTP."""

        async def play(wire: Wire, _: Reply) -> None:
            await wire.raw(b"\x16\x03\x01\x00\x05hello\r\n\r\n")

        return cls("garbage", play=play, drops=True)


def on_calls(fault: Fault, *numbers: int) -> Plan:
    """Return a plan: `fault` for exactly the calls with these numbers (from 1)."""
    return lambda call: fault if call.number in numbers else None


def share_of_calls(fault: Fault, share: float, seed: int = 0) -> Plan:
    """Return a plan: `fault` for that share (0..1) of the calls, at random."""
    rng = random.Random(seed)
    return lambda _: fault if rng.random() < share else None


def between(fault: Fault, start_s: float, end_s: float) -> Plan:
    """Return a plan: `fault` from `start_s` until before `end_s` after the start."""
    return lambda call: fault if start_s <= call.at_s < end_s else None


def on_paths(plan: Plan, *paths: str) -> Plan:
    """Return the plan limited to requests for these paths."""
    return lambda call: plan(call) if call.request.path in paths else None


@functools.lru_cache(maxsize=4)
def _packed_blanks(decoded_bytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    packed = bytearray(packer.compress(b"["))
    for start in range(0, decoded_bytes, MIB):
        packed += packer.compress(b" " * min(MIB, decoded_bytes - start))
    return bytes(packed + packer.compress(b"]") + packer.flush())
