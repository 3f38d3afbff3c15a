"""Corners that the other tests of the core pass by."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime
from pathlib import Path

import attrs
import pytest

from plb_core import (
    AlgorithmFailed,
    Answer,
    BackendInfo,
    BackendRefused,
    BackendTraits,
    BuildContext,
    Chunk,
    ConfigError,
    ModelMap,
    NoBackendAvailable,
    Price,
    Provider,
    Query,
    Usage,
    attempts,
    hookimpl,
    store,
)
from plb_core.balancer import Balancer
from plb_core.config import read_text
from plb_core.errors import LedgerUnavailable, Overloaded
from plb_core.history import Attempt
from plb_core.ledger_records import LedgerRow
from plb_core.lifecycle import Leaving
from plb_core.payment import charge
from plb_core.protocols import Choice
from plb_core.settings import http_url
from plb_core.store import MemoryStore
from plb_core.testing.fakes import FakeBackend, FakePlugin
from plb_core.toml_lines import key_lines
from plb_core.trust import answer_bill

from .conftest import First, Rig

pytestmark = pytest.mark.asyncio
MakeRig = Callable[..., Rig]


async def test_a_balancer_is_made_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[backend.a]\n[track.t]\nalgorithm = "round_robin"\n')
    balancer = Balancer.from_file(path, plugins=[FakePlugin(a=FakeBackend("A"))])
    reply = await balancer.ask("q")
    assert reply.text == "A"
    balancer.rate(reply.request_id, {"content": 1.0})  # round_robin takes none in
    assert balancer.plan.algorithms["round_robin"].failures == 0


async def test_a_refusal_at_the_gate_names_its_request(rig: MakeRig) -> None:
    overload = "[overload]\nmax_in_flight = 1\nqueue_length = 0\n"
    r = rig("[backend.a]\n" + overload)
    with r.balancer.lease("q"):
        with pytest.raises(Overloaded) as caught:
            await r.balancer.ask("q")
        assert caught.value.request_id.startswith("req_")
        with pytest.raises(Overloaded), r.balancer.lease("q"):
            pass
    assert r.idle()


async def test_an_algorithm_may_say_itself_that_it_failed(rig: MakeRig) -> None:
    r = rig()
    r.first.error = AlgorithmFailed("inner", "knows nothing")
    with pytest.raises(AlgorithmFailed, match="'inner': knows nothing"):
        await r.balancer.ask("q")


async def test_there_is_no_second_try_beyond_the_deadline(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "AGAIN_WITHIN_S", 1e12)
    r = rig("[backend.a]\n")
    r.a.failures = [BackendRefused("500", status=500)]
    with pytest.raises(NoBackendAvailable):
        await r.balancer.ask("q")
    assert len(r.a.calls) == 1


async def test_the_gates_settings_cannot_change_while_running(rig: MakeRig) -> None:
    r = rig("[backend.a]\n[overload]\nmax_in_flight = 1\n")
    toml = '[backend.a]\n[track.main]\nalgorithm = "first"\n[overload]\n'
    with pytest.raises(ConfigError, match=r"overload: .*restart"):
        await r.balancer.apply(read_text(toml))


async def test_other_breaker_settings_make_new_candidates(rig: MakeRig) -> None:
    r = rig("[backend.a]\n")
    before = r.candidate("a")
    toml = '[backend.a]\n[track.main]\nalgorithm = "first"\n[breaker]\ntimeout_s = 9\n'
    await r.balancer.apply(read_text(toml))
    assert r.candidate("a") is not before


class Late(First):
    """Looks its inner algorithm up when it chooses, not when it is built."""

    def __init__(self, context: BuildContext) -> None:
        super().__init__()
        self.context = context

    def choose(self, query: Query, candidates: object) -> Choice:
        return self.context.algorithm("first").choose(query, candidates)  # type: ignore[arg-type]


class LatePlugin:
    @hookimpl
    def plb_register_algorithm(self) -> Provider[Late]:
        return Provider("late", lambda _s, context: Late(context))


async def test_an_algorithm_may_be_looked_up_late(rig: MakeRig) -> None:
    toml = (
        '[backend.a]\n[track.main]\nalgorithm = "late"\n'
        'fallback_algorithms = ["first"]\n'
    )
    assert (await rig(toml, extra=[LatePlugin()]).balancer.ask("q")).text == "A"


async def test_leaving_a_stream_that_was_never_entered_does_nothing(
    rig: MakeRig,
) -> None:
    r = rig()
    await r.balancer.stream("q").__aexit__(None, None, None)
    assert r.first.outcomes == []
    assert r.idle()


async def test_a_stream_may_be_an_iterator_without_clean_up(rig: MakeRig) -> None:
    class Chunks:
        def __init__(self) -> None:
            self.left = [Chunk("one"), Chunk(end="complete", answer=Answer("one"))]

        def __aiter__(self) -> Chunks:
            return self

        async def __anext__(self) -> Chunk:
            return self.left.pop(0)

    class Plain(FakeBackend):
        def stream(self, query: Query, timeout_s: float) -> AsyncIterator[Chunk]:
            return Chunks()

    r = rig("[backend.s]\n", extra=[FakePlugin(s=Plain())])
    async with r.balancer.stream("q") as stream:
        assert [chunk.text async for chunk in stream] == ["one", ""]


async def test_closing_when_nobody_leaves_returns_at_once() -> None:
    async with asyncio.timeout(1.0):
        await Leaving().close(60.0)


async def test_an_address_that_is_not_set_is_accepted() -> None:
    http_url(None, None, None)  # type: ignore[arg-type]  # only the value is looked at


async def test_the_search_for_lines_ends_even_on_what_is_no_toml() -> None:
    for text in ("!", "= 1", "[", '"', "a = [1", "[[x", "\x00"):
        assert isinstance(key_lines(text), dict)


class Meter:
    def ceiling(self, query: Query, info: BackendInfo) -> int | None:
        return None

    def estimate(self, query: Query, info: BackendInfo) -> int | None:
        return 1

    def actual(self, usage: Usage, info: BackendInfo) -> int | None:
        return 10 + usage.output_tokens

    @hookimpl
    def plb_register_cost_scorer(self) -> Provider[Meter]:
        return Provider("money", lambda _s, _c: self)


@pytest.mark.parametrize(
    ("price", "answer", "bill"),
    [
        (Price(1), Answer("x", cost_micro_usd=3), 3),
        (Price(1), Answer("x"), None),
        (None, Answer("x"), None),
        (Price(request_micro_usd=1), Answer("x"), 10),
        (Price(1), Answer("x", usage=Usage(1, 2)), 12),
        (Price(1), Answer("x", usage=Usage(1, 2, estimated=True)), None),
    ],
)
async def test_a_bill_is_never_a_guess(
    price: Price | None, answer: Answer, bill: int | None
) -> None:
    info = BackendInfo("a", "a", BackendTraits(price=price), models=ModelMap())
    assert answer_bill(Meter(), answer, info) == bill


BUDGET = (
    '[routing]\ncost_scorer = "money"\n[budget]\ndaily_usd = 1\n[backend.a]\n'
    "price = { output_usd_per_mtok = 1.0 }\n"
)


async def test_without_a_ceiling_no_money_can_be_held(rig: MakeRig) -> None:
    r = rig(BUDGET, extra=[Meter()])
    async with r.balancer as balancer:
        with pytest.raises(LedgerUnavailable, match="'a' has no price"):
            await balancer.ask("q")
    assert r.a.calls == []


async def test_a_failed_start_closes_the_ledger_too(rig: MakeRig) -> None:
    class Fails(FakeBackend):
        async def start(self) -> None:
            raise OSError("no disk")

    r = rig(
        BUDGET + "[backend.f]\nprice = {}\n", extra=[Meter(), FakePlugin(f=Fails())]
    )
    with pytest.raises(OSError, match="no disk"):
        await r.balancer.start()
    assert r.a.closed == 1
    with pytest.raises(RuntimeError, match="start the balancer"):
        await r.balancer.ask("q")


async def test_what_holds_no_money_is_not_charged(rig: MakeRig) -> None:
    r = rig("[backend.a]\n")
    named, choice = r.balancer.plan.algorithms["first"], Choice(r.candidate("a"))
    attempt = Attempt(1, choice.candidate, named, choice, [], [], [], 0.0)
    charge(attempt, 5)
    assert attempt.reservation is None


async def test_the_store_in_memory_forgets_old_rows_and_days(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "CLOSED_KEPT", 3)
    kept = MemoryStore()
    for number in range(1, 9):
        row = LedgerRow(
            attempt_id=f"x.{number}",
            request_id="x",
            backend="a",
            track="t",
            client="",
            day=date(2026, 11, number),
            state="reserved",
            ceiling_micro_usd=5,
            charged_micro_usd=5,
            at_utc=datetime(2026, 11, number, tzinfo=UTC),
        )
        await kept.write(row)
        await kept.write(attrs.evolve(row, state="settled"))
    assert list(kept._closed) == ["x.6", "x.7", "x.8"]
    assert len(kept._spent) == 3
    assert (await kept.load(date(2026, 11, 8))).day == date(2026, 11, 8)
