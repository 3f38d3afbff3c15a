"""A plugin's fault never reaches the user, leaks no slot and poisons no statistics."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from plb_core import (
    Answer,
    BackendError,
    BackendTraits,
    BadAnswer,
    Chunk,
    Decision,
    Embeddings,
    NoAnswer,
    Provider,
    Query,
    Usage,
    hookimpl,
)
from plb_core.testing.fakes import FakeBackend, FakePlugin

from .conftest import Rig

pytestmark = pytest.mark.asyncio
MakeRig = Callable[..., Rig]

SCORED = '[routing]\ncost_scorer = "money"\nquality_scorer = "marks"\n[backend.a]\n'


class Scorers:
    """A cost scorer, a quality scorer and a classifier that do as they are told."""

    def __init__(self, value: Any = None, error: Exception | None = None) -> None:
        self.value = value
        self.error = error

    def _say(self, *_: object) -> Any:
        if self.error is not None:
            raise self.error
        return self.value

    ceiling = estimate = actual = score = classify = _say

    @hookimpl
    def plb_register_cost_scorer(self) -> Provider[Any]:
        return Provider("money", lambda _s, _c: self)

    @hookimpl
    def plb_register_quality_scorer(self) -> Provider[Any]:
        return Provider("marks", lambda _s, _c: self)

    @hookimpl
    def plb_register_classifier(self) -> Provider[Any]:
        return Provider("sorter", lambda _s, _c: self)


@pytest.mark.parametrize("usage", [None, Usage(1, 2)])
@pytest.mark.parametrize("how", ["ask", "stream", "lease"])
async def test_a_scorer_that_raises_costs_its_figure_only(
    rig: MakeRig, how: str, usage: Usage | None
) -> None:
    """The user got the scorer's exception, and the slot was never given back."""
    r = rig(SCORED, extra=[Scorers(error=ZeroDivisionError("x"))])
    r.a.answer = Answer("text", usage=usage)
    if how == "ask":
        reply = await r.balancer.ask("q")
    elif how == "stream":
        async with r.balancer.stream("q") as stream:
            async for _ in stream:
                pass
        assert stream.reply is not None
        reply = stream.reply
    else:
        with r.balancer.lease("q") as lease:
            reply = lease.answer(r.a.answer)
    assert reply.text == "text"
    assert (reply.cost_micro_usd, reply.quality) == (None, None)
    assert [o.result for o in r.first.outcomes] == ["answer"]
    assert r.idle()


@pytest.mark.parametrize("value", [-1, True, 1.5, math.nan, math.inf, "12", {}])
async def test_a_cost_that_is_no_amount_is_unknown(rig: MakeRig, value: object) -> None:
    """A NaN stayed in the mean cost for ever; a string ended the request."""
    r = rig(SCORED, extra=[Scorers(value)])
    reply = await r.balancer.ask("q")
    assert reply.cost_micro_usd is None
    assert r.candidate("a").cost_micro_usd is None
    assert r.first.outcomes[0].cost_micro_usd is None


@pytest.mark.parametrize("billed", [-1, True, 1.5, math.nan, "12"])
async def test_a_bill_that_is_no_amount_gives_way_to_the_scorer(
    rig: MakeRig, billed: Any
) -> None:
    r = rig(SCORED, extra=[Scorers(70)])
    r.a.answer = Answer("text", cost_micro_usd=billed)
    assert (await r.balancer.ask("q")).cost_micro_usd == 70


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"relevance": math.nan},
        {"relevance": 1.1},
        {"relevance": -0.1},
        {"relevance": "good"},
        {"relevance": 0.5, "content": None},
        0.5,
        "good",
        [0.5],
    ],
)
async def test_a_quality_outside_0_to_1_is_no_opinion(
    rig: MakeRig, value: object
) -> None:
    r = rig(SCORED, extra=[Scorers(value)])
    reply = await r.balancer.ask("q")
    assert reply.quality is None
    assert r.candidate("a").quality_mean is None
    assert r.idle()


@pytest.mark.parametrize(
    "decision",
    [
        None,
        "live",
        Decision("sideways", "general", 1.0),  # type: ignore[arg-type]
        Decision(["live"], "general", 1.0),  # type: ignore[arg-type]
        Decision("live", 3, 1.0),  # type: ignore[arg-type]
    ],
)
async def test_an_impossible_decision_leaves_the_choice_open(
    rig: MakeRig, decision: object
) -> None:
    """A classifier that returned None ended every request with AttributeError."""
    text = '[routing]\nclassifier = "sorter"\n[backend.a]\n[backend.b]\n'
    r = rig(text, extra=[Scorers(decision)])
    reply = await r.balancer.ask("q")
    assert reply.backend == "a"
    told = r.balancer.explain(reply.request_id)
    assert (told["kind"], told["wanted"]) == ("general", "either")


@pytest.mark.parametrize("text", [None, 5, b"bytes"])
async def test_an_answer_without_text_is_a_bad_answer(rig: MakeRig, text: Any) -> None:
    r = rig()
    r.a.answer = Answer(text)
    reply = await r.balancer.ask("q")
    assert reply.backend == "b"
    assert r.first.outcomes[0].error == BadAnswer.code


class Streams(FakeBackend):
    def __init__(self, *steps: Any, on_close: Exception | None = None) -> None:
        super().__init__()
        self.steps = steps
        self.on_close = on_close

    async def stream(self, query: Query, timeout_s: float) -> AsyncIterator[Chunk]:
        try:
            for step in self.steps:
                yield step
        finally:
            if self.on_close is not None:
                raise self.on_close


@pytest.mark.parametrize(
    "steps",
    [
        [None],
        ["text"],
        [Chunk(None)],  # type: ignore[arg-type]
        [Chunk(b"bytes")],  # type: ignore[arg-type]
        [Chunk(end="complete", answer="text")],  # type: ignore[arg-type]
        [Chunk(end="done", answer=Answer("x"))],  # type: ignore[arg-type]
    ],
)
@pytest.mark.parametrize("first", [[], [Chunk("one ")]])
async def test_what_is_no_chunk_is_a_bad_answer(
    rig: MakeRig, first: list[Chunk], steps: list[Any]
) -> None:
    """The reader got AttributeError, and the attempt counted as cancelled."""
    backend = Streams(*first, *steps)
    r = rig("[backend.s]\n[backend.b]\n", extra=[FakePlugin(s=backend)])

    async def texts() -> list[str]:
        async with r.balancer.stream("q") as stream:
            return [chunk.text async for chunk in stream]

    if first:
        with pytest.raises(BadAnswer):
            await texts()
    else:
        assert await texts() == ["B ", ""]
    assert r.first.outcomes[0].error == BadAnswer.code
    assert r.candidate("s").error_rate == 1.0
    assert r.idle()


async def test_a_streams_failing_clean_up_is_not_the_readers_problem(
    rig: MakeRig,
) -> None:
    """Leaving a complete stream raised what the plugin's clean-up raised."""
    end = Chunk(end="complete", answer=Answer("one"))
    backend = Streams(Chunk("one"), end, on_close=OSError("socket"))
    r = rig("[backend.s]\n", extra=[FakePlugin(s=backend)])
    async with r.balancer.stream("q") as stream:
        texts = [chunk.text async for chunk in stream]
    assert texts == ["one", ""]
    assert stream.reply is not None
    with pytest.raises(KeyError, match="the reader's own"):
        async with r.balancer.stream("q"):
            raise KeyError("the reader's own")
    assert r.idle()


class Embeds(FakeBackend):
    def __init__(self, made: Any) -> None:
        capabilities = frozenset({"chat", "stream", "embeddings"})
        super().__init__(traits=BackendTraits(capabilities=capabilities))
        self.made = made

    async def embed(
        self, query: Query, inputs: Sequence[str], timeout_s: float
    ) -> Embeddings:
        made: Embeddings = self.made
        return made


EMBEDDED = (
    '[routing]\ncost_scorer = "money"\nquality_scorer = "marks"\n'
    "[backend.e]\n[backend.f]\n"
)


@pytest.mark.parametrize("made", [None, Embeddings(((1.0,),)), Embeddings(None)])  # type: ignore[arg-type]
async def test_embeddings_that_do_not_match_fail_over(
    rig: MakeRig, made: object
) -> None:
    good = Embeddings(((1.0,), (2.0,)), usage=Usage(3))
    plugin = FakePlugin(e=Embeds(made), f=Embeds(good))
    r = rig(EMBEDDED, extra=[plugin, Scorers(12)])
    reply = await r.balancer.embed(Query(""), ["x", "y"])
    assert (reply.backend, reply.attempts, reply.cost_micro_usd) == ("f", 2, 12)
    assert reply.embeddings is good
    assert 0 <= reply.overhead_s <= reply.latency_s
    assert r.idle()


async def test_embeddings_survive_a_scorer_that_raises(rig: MakeRig) -> None:
    """The vectors were lost and the slot was never given back."""
    plugin = FakePlugin(e=Embeds(Embeddings(((1.0,),), Usage(1))), f=Embeds(None))
    r = rig(EMBEDDED, extra=[plugin, Scorers(error=ValueError("x"))])
    reply = await r.balancer.embed(Query(""), ["x"])
    assert (reply.backend, reply.cost_micro_usd) == ("e", None)
    assert r.idle()


class Hears:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.results: list[str] = []

    def observe(self, outcome: Any) -> None:
        self.results.append(outcome.result)
        if self.error is not None:
            raise self.error

    @hookimpl
    def plb_register_listener(self) -> Provider[Any]:
        return Provider("ears", lambda _s, _c: self)


async def test_a_listener_that_fails_is_counted_and_goes_on_hearing(
    rig: MakeRig,
) -> None:
    ears = Hears(RuntimeError("x"))
    r = rig("[backend.a]\n[listener.ears]\n", extra=[ears])
    for _ in range(2):
        assert (await r.balancer.ask("q")).text == "A"
    assert ears.results == ["answer", "answer"]
    assert r.balancer.plan.listeners[0].failures == 2


async def test_an_algorithm_that_cannot_take_a_rating_does_not_hurt(
    rig: MakeRig,
) -> None:
    r = rig()
    reply = await r.balancer.ask("q")
    r.first.ratings = None  # type: ignore[assignment]  # append now fails
    r.balancer.rate(reply.request_id, {"content": 1.0})
    assert r.balancer.plan.algorithms["first"].failures == 1
    assert r.candidate("a").quality_mean == 1.0


async def test_a_program_that_ends_gives_the_slot_back(rig: MakeRig) -> None:
    class Stop(BaseException):
        pass

    class Ends(FakeBackend):
        async def ask(self, query: Query, timeout_s: float) -> Answer:
            raise Stop

    r = rig("[backend.h]\n", extra=[FakePlugin(h=Ends())])
    with pytest.raises(Stop):
        await r.balancer.ask("q")
    assert [o.result for o in r.first.outcomes] == ["cancelled"]
    assert r.idle()


async def test_two_balancers_in_two_loops_do_not_meet(rig: MakeRig) -> None:
    def run(name: str) -> str:
        async def use() -> str:
            r = rig(f"[backend.{name}]\n")
            async with r.balancer as balancer:
                return (await balancer.ask("q")).text

        return asyncio.run(use())

    both = await asyncio.gather(*(asyncio.to_thread(run, name) for name in "ab"))
    assert both == ["A", "B"]


class OutOfQuota(BackendError):
    """A plugin's own kind of failure, with a code of its own."""

    code = "out_of_quota"


class Garbled(BadAnswer):
    code = "garbled"


@pytest.mark.parametrize(
    "error",
    [
        OutOfQuota("none left"),
        Garbled("x"),
        NoAnswer("x", reason="mystery"),  # type: ignore[arg-type]  # on purpose
    ],
)
async def test_an_error_of_a_plugins_own_kind_goes_to_the_next_backend(
    rig: MakeRig, error: BackendError | NoAnswer
) -> None:
    """The user got KeyError: no action was known for the code."""
    r = rig()
    r.a.failures = [error]
    assert (await r.balancer.ask("q")).backend == "b"
    assert r.first.outcomes[0].error == error.code


async def test_a_kind_of_its_own_is_treated_as_what_it_derives_from(
    rig: MakeRig,
) -> None:
    r = rig('[backend.a]\n[backend.a.on_error]\nbad_answer = "stop"\n[backend.b]\n')
    r.a.failures = [Garbled("x")]
    with pytest.raises(Garbled):
        await r.balancer.ask("q")
