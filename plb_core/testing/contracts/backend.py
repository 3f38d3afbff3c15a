"""What every backend that talks to a server must do, as a test class to subclass."""

from __future__ import annotations

import asyncio
import socket
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, ClassVar

import pytest

from plb_core.errors import BackendError, BackendTimeout, NoAnswer
from plb_core.testing import fakes
from plb_core.testing.contracts.backend_calls import (
    CANARY,
    CAPABILITIES,
    FAULTS,
    PATIENCE_S,
    everything,
    failure_of,
    read_ask,
    read_stream,
    tasks_besides,
)
from plb_core.testing.emulators import Fault
from plb_core.types import NO_ATTRIBUTES, BackendTraits, Query

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from plb_core.hookspecs import Provider
    from plb_core.protocols import Backend
    from plb_core.testing.contracts.backend_calls import Call
    from plb_core.testing.emulators import Emulator

__all__ = ["CANARY", "BackendContract"]

_calls = pytest.mark.parametrize("call", [read_ask, read_stream])


class BackendContract:
    """Subclass as `class TestMine(BackendContract)`.

    Set `provider`, and write `emulator` (a server to talk to) and `settings` (those for
    its address; limits of a few MiB and private addresses allowed). `variables` are
    the environment variables the settings name; give them `CANARY`. `no_answer` is a
    fault under which the backend is healthy and has no answer, None when there is none.
    `unnoticed` are names of faults that this backend cannot tell from success.
    """

    provider: ClassVar[Provider[Backend]]
    variables: ClassVar[Mapping[str, str]] = NO_ATTRIBUTES
    no_answer: ClassVar[Fault | None] = None
    unnoticed: ClassVar[frozenset[str]] = frozenset()

    def emulator(self) -> Emulator:
        """Return the server to talk to, not yet started."""
        raise NotImplementedError

    def settings(self, url: str) -> object:
        """Return settings for a server at `url`."""
        raise NotImplementedError

    def query(self) -> Query:
        """Return a question that the server can answer."""
        return Query("What are metabolic pathways?")

    @pytest.fixture(autouse=True)
    def _variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in self.variables.items():
            monkeypatch.setenv(name, value)

    @asynccontextmanager
    async def pair(self) -> AsyncIterator[tuple[Emulator, Backend]]:
        """Run a server and a started backend that talks to it."""
        async with self.emulator() as up:
            backend = self.make(up.url)
            await backend.start()
            try:
                yield up, backend
            finally:
                await backend.close()

    def make(self, url: str) -> Backend:
        """Build the backend under test; time is the event loop's."""
        now = asyncio.get_running_loop().time
        return self.provider.build(self.settings(url), fakes.context(now=now))

    @pytest.mark.asyncio
    async def test_says_what_it_is(self) -> None:
        """Traits are complete before it was started, in known words."""
        backend = self.make("http://127.0.0.1:9")
        assert isinstance(backend.traits, BackendTraits)
        assert backend.traits.capabilities <= CAPABILITIES
        assert backend.traits.max_in_flight >= 1

    @pytest.mark.asyncio
    async def test_answers(self) -> None:
        """An answer has text and sane counts, several times in a row."""
        async with self.pair() as (_, backend):
            for _each in range(3):
                answer = await backend.ask(self.query(), PATIENCE_S)
                assert answer.text.strip()
                if answer.usage is not None:
                    assert answer.usage.input_tokens >= 0
                    assert answer.usage.output_tokens >= 0
                assert answer.cost_micro_usd is None or answer.cost_micro_usd >= 0

    @pytest.mark.asyncio
    async def test_a_stream_ends_with_one_end_and_says_what_the_answer_says(
        self,
    ) -> None:
        """The chunks' texts, joined, are the final answer's text."""
        async with self.pair() as (_, backend):
            asked = await backend.ask(self.query(), PATIENCE_S)
            chunks = await read_stream(backend, self.query(), PATIENCE_S)
        assert [chunk.end for chunk in chunks[:-1]] == [""] * (len(chunks) - 1)
        assert chunks[-1].end == "complete"
        final = chunks[-1].answer
        assert final is not None
        assert "".join(chunk.text for chunk in chunks) == final.text
        assert final.text == asked.text

    @pytest.mark.asyncio
    async def test_many_at_once_each_get_an_answer(self) -> None:
        """Calls share the backend without getting in one another's way."""
        async with self.pair() as (_, backend):
            many = [
                *(read_ask(backend, self.query(), PATIENCE_S) for _ in range(8)),
                *(read_stream(backend, self.query(), PATIENCE_S) for _ in range(8)),
            ]
            results = await asyncio.gather(*many)
        assert all(results)

    @pytest.mark.asyncio
    @_calls
    @pytest.mark.parametrize("name", FAULTS)
    async def test_a_failure_is_a_backend_error_and_passes(
        self, name: str, call: Call
    ) -> None:
        """No fault is taken for an answer, shows the key, or spoils the next call."""
        if name in self.unnoticed:
            pytest.skip("this backend cannot tell it from success")
        async with self.pair() as (up, backend):
            up.faults = lambda _: FAULTS[name]
            error = await failure_of(call, backend, self.query())
            assert CANARY not in everything(error)
            assert CANARY not in repr(backend)
        # A new pair: some faults rightly make a backend wait before it asks again.
        async with self.pair() as (up, backend):
            answer = await backend.ask(self.query(), PATIENCE_S)
            assert answer.text

    @pytest.mark.asyncio
    @_calls
    async def test_no_answer_is_nofailure_of(self, call: Call) -> None:
        """A healthy backend that cannot answer says `NoAnswer`."""
        fault = self.no_answer
        if fault is None:
            pytest.skip("this backend always has an answer")
        async with self.pair() as (up, backend):
            up.faults = lambda _: fault
            with pytest.raises(NoAnswer):
                await call(backend, self.query(), PATIENCE_S)

    @pytest.mark.asyncio
    @_calls
    @pytest.mark.parametrize("fault", [Fault.hang(), Fault.stall(5)])
    async def test_obeys_its_time_limit(self, fault: Fault, call: Call) -> None:
        """A server that falls silent costs no more than `timeout_s`."""
        async with self.pair() as (up, backend):
            up.faults = lambda _: fault
            async with asyncio.timeout(PATIENCE_S):
                with pytest.raises(BackendTimeout):
                    await call(backend, self.query(), 0.3)
                assert not (await backend.ping(0.3)).ok
            up.faults = []
            assert await call(backend, self.query(), PATIENCE_S)

    @pytest.mark.asyncio
    @_calls
    @pytest.mark.parametrize("fault", [Fault.hang(), Fault.stall(0), Fault.stall(30)])
    async def test_cancelling_leaves_nothing_behind(
        self, fault: Fault, call: Call
    ) -> None:
        """A cancelled call ends at once, its connection with it, and others go on."""
        async with self.pair() as (up, backend):
            await backend.ask(self.query(), PATIENCE_S)
            before = tasks_besides(up)
            up.faults = lambda _: fault
            seen, left = len(up.requests), up.abandoned
            task = asyncio.create_task(call(backend, self.query(), PATIENCE_S * 4))
            async with asyncio.timeout(PATIENCE_S):
                await up.until(lambda: len(up.requests) > seen)
                for _each in range(20):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await up.until(lambda: up.abandoned > left)
            assert tasks_besides(up) == before
            up.faults = []
            assert await call(backend, self.query(), PATIENCE_S)

    @pytest.mark.asyncio
    async def test_a_stream_may_be_left_early(self) -> None:
        """Whoever closes a stream after its first chunk leaves a usable backend."""
        async with self.pair() as (up, backend):
            before = tasks_besides(up)
            for _each in range(3):
                chunks = backend.stream(self.query(), PATIENCE_S)
                async with aclosing(chunks):  # type: ignore[type-var]
                    async for chunk in chunks:
                        assert chunk
                        break
            assert tasks_besides(up) == before
            assert await read_stream(backend, self.query(), PATIENCE_S)

    @pytest.mark.asyncio
    async def test_a_ping_bills_nothing_and_tells_health(self) -> None:
        """Health is asked where no bill comes from."""
        async with self.pair() as (up, backend):
            result = await backend.ping(PATIENCE_S)
            assert result.ok
            assert result.latency_s >= 0
            assert up.book == []

    @pytest.mark.asyncio
    @pytest.mark.parametrize("name", FAULTS)
    async def test_a_ping_never_raises(self, name: str) -> None:
        """Whatever comes back, a ping is a result, without the key."""
        async with self.pair() as (up, backend):
            up.faults = lambda _: FAULTS[name]
            async with asyncio.timeout(PATIENCE_S):
                result = await backend.ping(PATIENCE_S)
            assert CANARY not in repr(result)

    @pytest.mark.asyncio
    async def test_starts_while_the_server_is_down(self) -> None:
        """Being down is found out by calls; then nothing was sent."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            backend = self.make(f"http://127.0.0.1:{taken.getsockname()[1]}")
            await backend.start()
            try:
                for call in (read_ask, read_stream):
                    with pytest.raises(BackendError) as caught:
                        await call(backend, self.query(), PATIENCE_S)
                    assert not caught.value.sent
                assert not (await backend.ping(PATIENCE_S)).ok
            finally:
                await backend.close()

    @pytest.mark.asyncio
    async def test_closes_without_ever_having_been_used(self) -> None:
        """A plan that is thrown away again leaves nothing open."""
        before = asyncio.all_tasks()
        backend = self.make("http://127.0.0.1:9")
        await backend.start()
        await backend.close()
        await backend.close()
        assert asyncio.all_tasks() == before
