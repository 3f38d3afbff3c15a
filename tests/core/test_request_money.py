"""Money on a request's way: held before it is sent, charged by what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from plb_core import (
    Answer,
    BackendMisconfigured,
    BackendRefused,
    BackendTimeout,
    BackendUnreachable,
    BadAnswer,
    BudgetExhausted,
    ConfigError,
    NoAnswer,
    NoBackendAvailable,
    Provider,
    Query,
    Usage,
    hookimpl,
)
from plb_core.config import read_text
from plb_core.ledger_records import Scope
from plb_core.testing.fakes import FakeBackend, FakePlugin
from plb_core.types import BackendInfo

from .conftest import Rig

pytestmark = pytest.mark.asyncio
MakeRig = Callable[..., Rig]


class Scorer:
    """One micro-dollar per output token, at most the limit that is sent."""

    def ceiling(self, query: Query, info: BackendInfo) -> int | None:
        return query.max_output_tokens

    def estimate(self, query: Query, info: BackendInfo) -> int | None:
        return 1

    def actual(self, usage: Usage, info: BackendInfo) -> int | None:
        return usage.output_tokens

    @hookimpl
    def plb_register_cost_scorer(self) -> Provider[Scorer]:
        return Provider("money", lambda _s, _c: self)


PRICE = "price = { output_usd_per_mtok = 1.0 }\n"
FREE = "price = {}\n"


def text(budget: str, backends: str = f"[backend.a]\n{PRICE}") -> str:
    return f'[routing]\ncost_scorer = "money"\n[budget]\n{budget}\n{backends}'


def spent(r: Rig, scope: Scope | None = None) -> tuple[int, int]:
    assert r.balancer.ledger is not None
    done, held, _ = r.balancer.ledger.totals()[scope or Scope()]
    return done, held


def answer(tokens: int) -> Answer:
    return Answer("x", usage=Usage(1, tokens))


async def test_an_answer_is_charged_by_its_bill(rig: MakeRig) -> None:
    r = rig(text("daily_usd = 1"), extra=[Scorer()])
    async with r.balancer as balancer:
        r.a.answer = answer(70)
        await balancer.ask("q")
        assert spent(r) == (70, 0)
        r.a.answer = Answer("x", usage=Usage(1, 70), cost_micro_usd=33)
        await balancer.ask("q")
        assert spent(r) == (103, 0)
        assert spent(r, Scope("backend", "a")) == (103, 0)
        assert spent(r, Scope("track", "main")) == (103, 0)


async def test_a_limit_is_always_sent(rig: MakeRig) -> None:
    r = rig(text("max_output_tokens = 500"), extra=[Scorer()])
    async with r.balancer as balancer:
        await balancer.ask("q")
        await balancer.ask(Query("q", max_output_tokens=7))
    assert [query.max_output_tokens for query in r.a.calls] == [500, 7]


async def test_spending_stops_exactly_at_the_cap(rig: MakeRig) -> None:
    r = rig(text("daily_usd = 0.001\nmax_output_tokens = 100"), extra=[Scorer()])
    r.a.answer = answer(100)
    async with r.balancer as balancer:
        for _ in range(10):
            await balancer.ask("q")
        with pytest.raises(BudgetExhausted) as caught:
            await balancer.ask("q")
        assert spent(r) == (1000, 0)
    assert caught.value.request_id
    assert len(r.a.calls) == 10


async def test_two_hundred_at_once_spend_no_more_than_the_cap(rig: MakeRig) -> None:
    """Check-then-spend let 20 times the budget through."""
    budget = "daily_usd = 0.001\nmax_output_tokens = 100\nwait_s = 0"
    r = rig(text(budget), extra=[Scorer()])
    r.a.answer = answer(100)
    async with r.balancer as balancer:
        replies = await asyncio.gather(
            *(balancer.ask("q") for _ in range(200)), return_exceptions=True
        )
        assert spent(r) == (1000, 0)
    refused = [each for each in replies if isinstance(each, BudgetExhausted)]
    assert (len(r.a.calls), len(refused)) == (10, 190)


async def test_a_short_budget_shortens_the_answer(rig: MakeRig) -> None:
    budget = "daily_usd = 0.0001\nmax_output_tokens = 4096\nmin_output_tokens = 64"
    r = rig(text(budget), extra=[Scorer()])
    r.a.answer = answer(30)
    async with r.balancer as balancer:
        await balancer.ask("q")
        await balancer.ask("q")
        with pytest.raises(BudgetExhausted):
            await balancer.ask("q")
    assert [query.max_output_tokens for query in r.a.calls] == [100, 70]


async def test_without_room_a_free_backend_answers(rig: MakeRig) -> None:
    backends = f"[backend.a]\n{PRICE}[backend.b]\n{FREE}"
    r = rig(text("daily_usd = 0", backends), extra=[Scorer()])
    async with r.balancer as balancer:
        reply = await balancer.ask("q")
    assert reply.backend == "b"
    assert not r.a.calls


async def test_refusing_is_a_choice_of_the_configuration(rig: MakeRig) -> None:
    backends = f"[backend.a]\n{PRICE}[backend.b]\n{FREE}"
    budget = 'daily_usd = 0\nwhen_exhausted = "refuse"'
    r = rig(text(budget, backends), extra=[Scorer()])
    async with r.balancer as balancer:
        with pytest.raises(BudgetExhausted):
            await balancer.ask("q")
    assert not r.b.calls


@pytest.mark.parametrize(
    ("error", "charged"),
    [
        (BackendUnreachable("refused", sent=False), 0),
        (BackendTimeout("silent"), 50),
        (BackendRefused("500", status=500), 50),
        (BadAnswer("cut"), 50),
        (NoAnswer("nothing found"), 50),
        (NoAnswer("bad", reason="invalid_request"), 0),
    ],
)
async def test_what_a_failed_attempt_is_charged(
    rig: MakeRig, error: Exception, charged: int
) -> None:
    stop = 'on_error = { backend_unreachable = "next", backend_refused = "next" }\n'
    r = rig(
        text(
            "max_output_tokens = 50\nmin_output_tokens = 10",
            f"[backend.a]\n{PRICE}{stop}",
        ),
        extra=[Scorer()],
    )
    r.a.failures = [error]
    async with r.balancer as balancer:
        with pytest.raises((NoBackendAvailable, NoAnswer)):
            await balancer.ask("q")
        assert spent(r) == (charged, 0)


async def test_a_refusal_that_bills_nothing_is_charged_nothing(rig: MakeRig) -> None:
    r = rig(text("max_output_tokens = 50\nmin_output_tokens = 10"), extra=[Scorer()])
    refused = BackendMisconfigured("key")
    refused.billed_micro_usd = 0
    r.a.failures = [refused]
    async with r.balancer as balancer:
        with pytest.raises(NoBackendAvailable):
            await balancer.ask("q")
        assert spent(r) == (0, 0)


async def test_a_cancelled_question_is_charged_its_ceiling(rig: MakeRig) -> None:
    r = rig(text("max_output_tokens = 50\nmin_output_tokens = 10"), extra=[Scorer()])
    entered = asyncio.Event()

    async def hang(query: object, timeout_s: float) -> Answer:
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    r.a.ask = hang  # type: ignore[method-assign]
    async with r.balancer as balancer:
        task = asyncio.create_task(balancer.ask("q"))
        await entered.wait()
        assert spent(r) == (0, 50)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert spent(r) == (50, 0)


async def test_an_answer_without_counts_is_charged_its_ceiling(rig: MakeRig) -> None:
    r = rig(text("max_output_tokens = 50\nmin_output_tokens = 10"), extra=[Scorer()])
    async with r.balancer as balancer:
        await balancer.ask("q")
        assert spent(r) == (50, 0)


async def test_a_stream_is_charged_when_it_ends(rig: MakeRig) -> None:
    r = rig(text("max_output_tokens = 50\nmin_output_tokens = 10"), extra=[Scorer()])
    r.a.answer = answer(20)
    async with r.balancer as balancer:
        async with balancer.stream("q") as stream:
            await anext(stream)
            assert spent(r) == (0, 50)
            async for _ in stream:
                pass
        assert spent(r) == (20, 0)
        async with balancer.stream("q") as stream:
            await anext(stream)
        assert spent(r) == (70, 0)  # left early: nobody knows what it cost


async def test_a_chain_of_failures_costs_at_most_twice_the_price(rig: MakeRig) -> None:
    backends = "".join(f"[backend.{name}]\n{PRICE}" for name in "abc")
    r = rig(
        text("max_output_tokens = 50\nmin_output_tokens = 10", backends),
        extra=[Scorer()],
    )
    for backend in (r.a, r.b, r.c):
        backend.failures = [BadAnswer("cut")]
    async with r.balancer as balancer:
        with pytest.raises(NoBackendAvailable, match="more than twice the price"):
            await balancer.ask("q")
        assert spent(r) == (100, 0)
    assert not r.c.calls


async def test_a_questions_own_budget_is_kept(rig: MakeRig) -> None:
    r = rig(text("max_output_tokens = 500\nmin_output_tokens = 64"), extra=[Scorer()])
    async with r.balancer as balancer:
        await balancer.ask(Query("q", budget_micro_usd=80))
        with pytest.raises(BudgetExhausted, match="the question's own budget"):
            await balancer.ask(Query("q", budget_micro_usd=10))
    assert [query.max_output_tokens for query in r.a.calls] == [80]


async def test_a_clients_budget_is_its_own(rig: MakeRig) -> None:
    r = rig(text("max_output_tokens = 64\nclient = { ann = 0 }"), extra=[Scorer()])
    async with r.balancer as balancer:
        with pytest.raises(BudgetExhausted, match="client 'ann'"):
            await balancer.ask(Query("q", client="ann"))
        await balancer.ask(Query("q", client="bob"))


async def test_a_backend_without_a_price_stops_the_start(rig: MakeRig) -> None:
    with pytest.raises(ConfigError, match=r"backend\.a\.price: missing"):
        rig(text("daily_usd = 1", "[backend.a]\n"), extra=[Scorer()])


async def test_money_needs_a_started_balancer(rig: MakeRig) -> None:
    r = rig(text("daily_usd = 1"), extra=[Scorer()])
    with pytest.raises(RuntimeError, match="start the balancer"):
        await r.balancer.ask("q")


async def test_a_lease_cannot_hold_money(rig: MakeRig) -> None:
    backends = f"[backend.a]\n{PRICE}[backend.b]\n{FREE}"
    r = rig(text("daily_usd = 1", backends), extra=[Scorer()])
    async with r.balancer as balancer:
        with pytest.raises(RuntimeError, match="lease"), balancer.lease("q"):
            pass
        with balancer.lease(Query("q", model="b")) as lease:
            lease.answer(Answer("x"))
    assert r.idle()


async def test_caps_change_with_a_reload_and_the_store_does_not(rig: MakeRig) -> None:
    r = rig(text("daily_usd = 1\nmax_output_tokens = 64"), extra=[Scorer()])
    tail = '[track.main]\nalgorithm = "first"\n'
    async with r.balancer as balancer:
        await balancer.apply(read_text(text("daily_usd = 0") + tail))
        with pytest.raises(BudgetExhausted):
            await balancer.ask("q")
        moved = text("daily_usd = 1\ntimezone = 'Europe/Berlin'") + tail
        with pytest.raises(ConfigError, match="cannot change while plb runs"):
            await balancer.apply(read_text(moved))


async def test_a_question_waits_for_money_that_another_gives_back(
    rig: MakeRig,
) -> None:
    gate = asyncio.Event()

    class Waits(FakeBackend):
        async def ask(self, query: Query, timeout_s: float) -> Answer:
            self.calls.append(query)
            await gate.wait()
            return answer(1)

    budget = (
        "daily_usd = 0.000150\nmax_output_tokens = 100\nmin_output_tokens = 100\n"
        "wait_s = 20.0"
    )
    waits = Waits()
    toml = text(budget, f"[backend.w]\n{PRICE}")
    r = rig(toml, extra=[Scorer(), FakePlugin(w=waits)])
    async with r.balancer as balancer:
        tasks = [asyncio.create_task(balancer.ask("q")) for _ in range(2)]
        while not waits.calls:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(waits.calls) == 1
        gate.set()
        assert len(await asyncio.gather(*tasks)) == 2
        assert spent(r) == (2, 0)


async def test_a_seed_does_not_make_a_second_run_reuse_stored_attempts(
    rig: MakeRig, tmp_path: Path
) -> None:
    """With a seed every question of a second run failed with ledger_unavailable."""
    store = f'[store.sqlite]\npath = "{tmp_path / "ledger.sqlite"}"\n'
    config = text('store = "sqlite"\nmax_output_tokens = 64') + store
    for _ in range(2):
        r = rig(config, extra=[Scorer()])
        r.a.answer = answer(7)
        async with r.balancer as balancer:
            await balancer.ask("q")
    assert spent(r) == (14, 0)
