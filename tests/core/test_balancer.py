from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from plb_core import (
    AlgorithmFailed,
    Answer,
    BackendBusy,
    BackendRefused,
    BackendTimeout,
    BackendTraits,
    BadAnswer,
    Choice,
    ConfigError,
    Decision,
    NoAnswer,
    NoBackendAvailable,
    Overloaded,
    Provider,
    Query,
    RateLimited,
    UnknownModel,
    Usage,
    hookimpl,
)
from plb_core.config import read_text
from plb_core.errors import UnknownRequest
from plb_core.testing.fakes import FakeBackend, FakePlugin

from .conftest import Rig

pytestmark = pytest.mark.asyncio
MakeRig = Callable[..., Rig]


class Hangs(FakeBackend):
    def __init__(self) -> None:
        super().__init__()
        self.entered = asyncio.Event()

    async def ask(self, query: Query, timeout_s: float) -> Answer:
        self.entered.set()
        await asyncio.Event().wait()
        raise AssertionError


async def test_answers_with_the_chosen_backend_and_how(rig: MakeRig) -> None:
    r = rig()
    async with r.balancer as balancer:
        reply = await balancer.ask("question")
    assert (reply.text, reply.backend, reply.track, reply.algorithm) == (
        "A",
        "a",
        "main",
        "first",
    )
    assert reply.attempts == 1
    assert 0 <= reply.overhead_s <= reply.latency_s
    assert reply.request_id.startswith("req_")
    assert r.a.started == r.a.closed == 1
    assert r.idle()


async def test_fails_over_and_counts_the_failure_once(rig: MakeRig) -> None:
    r = rig()
    r.a.failures = [BackendRefused("500", status=500)]
    reply = await r.balancer.ask("q")
    assert (reply.backend, reply.attempts) == ("b", 2)
    assert [(o.backend, o.result) for o in r.first.outcomes] == [
        ("a", "error"),
        ("b", "answer"),
    ]
    assert r.candidate("a").error_rate == 1.0
    assert r.candidate("b").error_rate == 0.0
    assert r.idle()


async def test_never_asks_one_backend_twice_for_one_question(rig: MakeRig) -> None:
    r = rig()
    for backend in (r.a, r.b, r.c):
        backend.failures = [BackendRefused("500", status=500)] * 3
    with pytest.raises(NoBackendAvailable) as caught:
        await r.balancer.ask("q")
    assert [len(b.calls) for b in (r.a, r.b, r.c)] == [1, 1, 1]
    assert isinstance(caught.value.__cause__, BackendRefused)
    assert caught.value.__cause__.backend == "a"
    assert caught.value.request_id.startswith("req_")


async def test_gives_up_after_the_permitted_attempts(rig: MakeRig) -> None:
    r = rig("[routing]\nmax_attempts = 2\n[backend.a]\n[backend.b]\n[backend.c]\n")
    r.a.failures = r.b.failures = [BackendRefused("500", status=500)] * 2
    with pytest.raises(NoBackendAvailable, match="gave up after 2 attempts"):
        await r.balancer.ask("q")
    assert not r.c.calls


async def test_no_answer_moves_on_and_is_not_a_failure(rig: MakeRig) -> None:
    r = rig()
    r.a.failures = [NoAnswer("nothing found")]
    assert (await r.balancer.ask("q")).backend == "b"
    assert r.candidate("a").error_rate == 0.0
    assert r.first.outcomes[0].result == "no_answer"


async def test_no_answer_anywhere_is_the_callers_answer(rig: MakeRig) -> None:
    r = rig()
    refusal = NoAnswer("too long", reason="context_length")
    r.a.failures, r.b.failures, r.c.failures = (
        [refusal],
        [NoAnswer("x")],
        [NoAnswer("y")],
    )
    with pytest.raises(NoAnswer) as caught:
        await r.balancer.ask("q")
    assert caught.value is refusal
    assert caught.value.request_id


async def test_a_failure_outranks_no_answer_when_both_happened(rig: MakeRig) -> None:
    r = rig("[backend.a]\n[backend.b]\n")
    r.a.failures, r.b.failures = [NoAnswer("x")], [BadAnswer("cut")]
    with pytest.raises(NoBackendAvailable, match="'b': cut"):
        await r.balancer.ask("q")


async def test_a_hanging_backend_is_left_at_its_time_limit(rig: MakeRig) -> None:
    hangs = Hangs()
    r = rig(
        "[backend.h]\ntimeout_s = 0.05\n[backend.a]\n",
        extra=[FakePlugin(h=hangs)],
    )
    reply = await r.balancer.ask("q")
    assert (reply.backend, reply.attempts) == ("a", 2)
    assert r.first.outcomes[0].error == BackendTimeout.code


async def test_the_deadline_covers_all_attempts(rig: MakeRig) -> None:
    r = rig("[backend.h]\n[backend.a]\n", extra=[FakePlugin(h=Hangs())])
    with pytest.raises(NoBackendAvailable, match="time allowed is used up"):
        await r.balancer.ask(Query("q", deadline_s=0.05))
    assert not r.a.calls


async def test_cancelling_gives_the_slot_back_and_blames_nobody(rig: MakeRig) -> None:
    hangs = Hangs()
    r = rig("[backend.h]\n", extra=[FakePlugin(h=hangs)])
    task = asyncio.create_task(r.balancer.ask("q"))
    await hangs.entered.wait()
    assert r.candidate("h").in_flight == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert r.idle()
    assert r.candidate("h").error_rate is None
    assert [o.result for o in r.first.outcomes] == ["cancelled"]


async def test_busy_closes_the_backend_for_as_long_as_it_asks(rig: MakeRig) -> None:
    r = rig("[backend.a]\n")
    r.a.failures = [BackendBusy("429", retry_after_s=30.0)]
    with pytest.raises(NoBackendAvailable) as caught:
        await r.balancer.ask("q")
    assert caught.value.busy
    assert 29 < (caught.value.retry_after_s or 0) <= 30
    with pytest.raises(NoBackendAvailable) as again:
        await r.balancer.ask("q")
    assert again.value.busy
    assert len(r.a.calls) == 1
    assert not r.balancer.ready()
    assert r.candidate("a").error_rate is None  # load, not sickness


async def test_an_absurd_pause_is_clamped(rig: MakeRig) -> None:
    r = rig("[backend.a]\n")
    r.a.failures = [BackendRefused("503", status=503, retry_after_s=1e12)]
    with pytest.raises(NoBackendAvailable) as caught:
        await r.balancer.ask("q")
    assert (caught.value.retry_after_s or 0) <= 3600


async def test_a_full_backend_is_passed_over(rig: MakeRig) -> None:
    r = rig("[backend.a]\nmax_in_flight = 1\n[backend.b]\n")
    r.candidate("a").in_flight = 1
    assert (await r.balancer.ask("q")).backend == "b"
    r.candidate("b").max_in_flight = 0
    with pytest.raises(NoBackendAvailable) as caught:
        await r.balancer.ask("q")
    assert caught.value.busy


async def test_an_unhealthy_backend_is_passed_over(rig: MakeRig) -> None:
    r = rig("[backend.a]\n[backend.b]\n")
    r.candidate("a").health = "unhealthy"
    assert (await r.balancer.ask("q")).backend == "b"
    r.candidate("b").health = "unhealthy"
    with pytest.raises(NoBackendAvailable) as caught:
        await r.balancer.ask("q")
    assert not caught.value.busy


async def test_the_next_tier_waits_until_the_first_is_used_up(rig: MakeRig) -> None:
    r = rig("[backend.c]\npriority = 2\n[backend.a]\n[backend.b]\n")
    assert (await r.balancer.ask("q")).backend == "a"
    r.a.failures, r.b.failures = [BadAnswer("x")], [BadAnswer("y")]
    reply = await r.balancer.ask("q")
    assert (reply.backend, reply.attempts) == ("c", 3)


class BrokenPlugin:
    @hookimpl
    def plb_register_backend(self) -> Provider[FakeBackend]:
        class Broken(FakeBackend):
            async def ask(self, query: Query, timeout_s: float) -> Answer:
                return self.outcome  # type: ignore[attr-defined,no-any-return]

        broken = Broken()
        broken.outcome = None  # type: ignore[attr-defined]
        return Provider("broken", lambda _s, _c: broken)


async def test_a_plugins_impossible_return_is_a_bad_answer(rig: MakeRig) -> None:
    r = rig("[backend.broken]\n[backend.a]\n", extra=[BrokenPlugin()])
    reply = await r.balancer.ask("q")
    assert reply.backend == "a"
    assert r.first.outcomes[0].error == BadAnswer.code


async def test_a_plugins_own_exception_fails_over_and_is_named(rig: MakeRig) -> None:
    r = rig("[backend.a]\n")
    r.a.failures = [ZeroDivisionError("secret text")]
    with pytest.raises(NoBackendAvailable, match="raised ZeroDivisionError") as caught:
        await r.balancer.ask("q")
    assert "secret text" not in str(caught.value)


TWO = """
[backend.a]
[backend.b]
[track.main]
algorithm = "first"
fallback_algorithms = ["second"]
"""


@pytest.mark.parametrize(
    "answer",
    [
        lambda _c: None,
        lambda c: c[0],
        lambda _c: Choice("a"),  # type: ignore[arg-type]  # on purpose
        lambda c: Choice(c[0], probability=0.0),
        lambda c: Choice(c[0], probability=float("nan")),
        lambda c: Choice(c[0], probability=2.0),
    ],
)
async def test_an_impossible_choice_goes_to_the_fallback(
    rig: MakeRig, answer: Callable[..., object]
) -> None:
    r = rig(TWO)
    r.first.answer = answer
    reply = await r.balancer.ask("q")
    assert reply.algorithm == "second"
    assert r.balancer.plan.algorithms["first"].failures == 1
    attempts = r.balancer.explain(reply.request_id)["attempts"]
    assert attempts[0]["fallbacks"] == ["first"]  # type: ignore[index]


async def test_without_a_fallback_the_failure_is_shown_never_a_default(
    rig: MakeRig,
) -> None:
    r = rig()
    r.first.error = KeyError("x")
    with pytest.raises(AlgorithmFailed, match="'first': choosing raised KeyError"):
        await r.balancer.ask("q")
    assert r.idle()


async def test_an_algorithm_that_cannot_learn_does_not_hurt(rig: MakeRig) -> None:
    r = rig()
    r.first.outcomes = None  # type: ignore[assignment]  # append now fails
    assert (await r.balancer.ask("q")).text == "A"
    assert r.balancer.plan.algorithms["first"].failures == 1


ROUTES = """
[backend.a]
[backend.a.models]
"fast" = "up/fast"
[backend.b]
[backend.b.models]
"fast" = "other"
"gpt-*" = "*"
[backend.c]
[route.special]
tiers = [["c"], ["a"]]
algorithm = "second"
[track.main]
algorithm = "first"
[track.only_b]
algorithm = "second"
backends = ["b"]
[routing]
track = "main"
"""


@pytest.mark.parametrize(
    ("model", "backend", "algorithm"),
    [
        ("auto", "a", "first"),
        ("only_b", "b", "second"),
        ("c", "c", "first"),
        ("fast", "a", "first"),
        ("gpt-x", "b", "first"),
        ("special", "c", "second"),
    ],
)
async def test_the_model_name_decides_where_to_go(
    rig: MakeRig, model: str, backend: str, algorithm: str
) -> None:
    reply = await rig(ROUTES).balancer.ask(Query("q", model=model))
    assert (reply.backend, reply.algorithm) == (backend, algorithm)


async def test_a_routes_tiers_replace_priorities(rig: MakeRig) -> None:
    r = rig(ROUTES)
    r.c.failures = [BadAnswer("x")]
    assert (await r.balancer.ask(Query("q", model="special"))).backend == "a"


async def test_an_unknown_model_lists_what_is_served(rig: MakeRig) -> None:
    with pytest.raises(UnknownModel) as caught:
        await rig(ROUTES).balancer.ask(Query("q", model="nope"))
    assert caught.value.known == (
        "auto",
        "special",
        "main",
        "only_b",
        "a",
        "b",
        "c",
        "fast",
    )


async def test_endless_wildcard_names_do_not_fill_memory(rig: MakeRig) -> None:
    r = rig(ROUTES)
    for number in range(2000):
        await r.balancer.ask(Query("q", model=f"gpt-{number}"))
    assert len(r.balancer.plan._pools) <= 512


async def test_a_backend_without_the_capability_is_no_candidate(rig: MakeRig) -> None:
    able = FakeBackend("able", traits=BackendTraits(capabilities=frozenset({"tools"})))
    r = rig("[backend.a]\n[backend.t]\n", extra=[FakePlugin(t=able)])
    query = Query("q", needs=frozenset({"tools"}))
    assert (await r.balancer.ask(query)).backend == "t"
    with pytest.raises(UnknownModel, match="auto with images"):
        await r.balancer.ask(Query("q", needs=frozenset({"images"})))


class ClassifierPlugin:
    def __init__(self, decision: Decision | Exception) -> None:
        self.decision = decision

    def classify(self, query: Query) -> Decision:
        if isinstance(self.decision, Exception):
            raise self.decision
        return self.decision

    @hookimpl
    def plb_register_classifier(self) -> Provider[ClassifierPlugin]:
        return Provider("sorter", lambda _s, _c: self)


KNOWING = """
[routing]
classifier = "sorter"
[backend.a]
[backend.b]
knowledge = "live"
"""


async def test_the_classifier_narrows_but_never_excludes(rig: MakeRig) -> None:
    plugin = ClassifierPlugin(Decision("live", "news", 0.9, "latest"))
    r = rig(KNOWING, extra=[plugin])
    reply = await r.balancer.ask("q")
    assert reply.backend == "b"
    assert r.first.outcomes[0].kind == "news"
    assert r.balancer.explain(reply.request_id)["reason"] == "latest"
    r.b.failures = [BadAnswer("x")]
    assert (await r.balancer.ask("q")).backend == "a"


async def test_a_failing_classifier_leaves_the_choice_open(rig: MakeRig) -> None:
    r = rig(KNOWING, extra=[ClassifierPlugin(ValueError("x"))])
    assert (await r.balancer.ask("q")).backend == "a"
    assert r.first.outcomes[0].kind == "general"


async def test_a_callers_own_kind_is_kept(rig: MakeRig) -> None:
    plugin = ClassifierPlugin(Decision("live", "news", 0.9))
    r = rig(KNOWING, extra=[plugin])
    await r.balancer.ask(Query("q", kind="mine"))
    assert r.first.outcomes[0].kind == "mine"


class ScorerPlugin:
    def ceiling(self, query: object, info: object) -> int | None:
        return 900

    def estimate(self, query: object, info: object) -> int | None:
        return 500

    def actual(self, usage: Usage, info: object) -> int | None:
        return usage.output_tokens * 10

    def score(self, query: object, answer: object) -> dict[str, float] | None:
        return {"relevance": 0.5, "content": 1.0}

    @hookimpl
    def plb_register_cost_scorer(self) -> Provider[ScorerPlugin]:
        return Provider("money", lambda _s, _c: self)

    @hookimpl
    def plb_register_quality_scorer(self) -> Provider[ScorerPlugin]:
        return Provider("marks", lambda _s, _c: self)


SCORED = '[routing]\ncost_scorer = "money"\nquality_scorer = "marks"\n[backend.a]\n'


@pytest.mark.parametrize(
    ("answer", "cost"),
    [
        (Answer("x", usage=Usage(1, 7)), 70),
        (Answer("x"), 500),
        (Answer("x", usage=Usage(1, 7), cost_micro_usd=33), 33),
    ],
)
async def test_cost_is_billed_then_counted_then_estimated(
    rig: MakeRig, answer: Answer, cost: int
) -> None:
    r = rig(SCORED, extra=[ScorerPlugin()])
    r.a.answer = answer
    reply = await r.balancer.ask("q")
    assert reply.cost_micro_usd == cost
    assert reply.quality == {"relevance": 0.5, "content": 1.0}
    assert r.first.outcomes[0].quality == 0.75
    assert r.candidate("a").cost_micro_usd == cost
    assert r.candidate("a").quality_mean == 0.75


async def test_a_rating_reaches_the_candidate_and_the_algorithm(rig: MakeRig) -> None:
    r = rig()
    reply = await r.balancer.ask("q")
    r.balancer.rate(reply.request_id, {"user_satisfaction": 0.2, "content": 0.4})
    assert r.first.ratings[0].backend == "a"
    assert r.first.ratings[0].quality == pytest.approx(0.3)
    assert r.candidate("a").quality_mean == pytest.approx(0.3)


async def test_a_rating_must_be_sound_and_for_a_known_answer(rig: MakeRig) -> None:
    r = rig()
    for backend in (r.a, r.b, r.c):
        backend.failures = [NoAnswer("x")]
    with pytest.raises(NoAnswer) as caught:
        await r.balancer.ask("q")
    with pytest.raises(UnknownRequest, match="no answer to rate"):
        r.balancer.rate(caught.value.request_id, {"x": 1.0})
    with pytest.raises(UnknownRequest):
        r.balancer.rate("req_nope", {"x": 1.0})
    for bad in ({}, {"x": 1.1}, {"x": float("nan")}):
        with pytest.raises(ValueError, match="from 0 to 1"):
            r.balancer.rate(caught.value.request_id, bad)


async def test_only_recent_requests_are_remembered(rig: MakeRig) -> None:
    r = rig()
    first = await r.balancer.ask("q")
    for _ in range(2048):
        await r.balancer.ask("q")
    with pytest.raises(UnknownRequest):
        r.balancer.explain(first.request_id)
    assert len(r.balancer._history._traces) == 2048


async def test_apply_swaps_the_plan_and_keeps_unchanged_backends(rig: MakeRig) -> None:
    r = rig("[backend.a]\n[backend.b]\n")
    async with r.balancer as balancer:
        await balancer.ask("q")
        r.candidate("a").weight = 7.0
        text = "[backend.a]\n[backend.c]\n[track.main]\nalgorithm='first'\n"
        await balancer.apply(read_text(text))
        assert list(balancer.plan.candidates) == ["a", "c"]
        assert r.candidate("a").weight == 7.0
        assert r.candidate("a").served == 1
        assert (r.a.started, r.c.started) == (1, 1)
        await balancer._leaving.settled()
        assert r.b.closed == 1
    assert (r.a.closed, r.b.closed, r.c.closed) == (1, 1, 1)


async def test_a_bad_configuration_changes_nothing(rig: MakeRig) -> None:
    r = rig("[backend.a]\n")
    async with r.balancer as balancer:
        plan = balancer.plan
        with pytest.raises(ConfigError):
            await balancer.apply(read_text("[backend.nope]\n[track.x]\n"))
        assert balancer.plan is plan
        assert (await balancer.ask("q")).text == "A"


async def test_running_requests_finish_on_the_old_plan(rig: MakeRig) -> None:
    class Waits(FakeBackend):
        def __init__(self) -> None:
            super().__init__("waited")
            self.entered, self.go = asyncio.Event(), asyncio.Event()

        async def ask(self, query: Query, timeout_s: float) -> Answer:
            self.entered.set()
            await self.go.wait()
            return self.answer

    waits = Waits()
    r = rig("[backend.w]\n", extra=[FakePlugin(w=waits)])
    async with r.balancer as balancer:
        task = asyncio.create_task(balancer.ask("q"))
        await waits.entered.wait()
        await balancer.apply(read_text("[backend.a]\n[track.m]\nalgorithm='first'"))
        assert waits.closed == 0
        waits.go.set()
        assert (await task).text == "waited"
        await balancer._leaving.settled()
        assert waits.closed == 1


async def test_a_backend_that_cannot_start_closes_the_others(rig: MakeRig) -> None:
    class Fails(FakeBackend):
        async def start(self) -> None:
            raise OSError("no disk")

    r = rig("[backend.a]\n[backend.f]\n", extra=[FakePlugin(f=Fails())])
    with pytest.raises(OSError, match="no disk"):
        await r.balancer.start()
    assert r.a.closed == 1


async def test_one_seed_makes_one_history(rig: MakeRig) -> None:
    ids = [(await rig().balancer.ask("q")).request_id for _ in range(2)]
    assert ids[0] == ids[1]


async def test_a_client_that_asks_too_often_is_told_when_to_come_back(
    rig: MakeRig,
) -> None:
    limit = "[overload.rate_limit]\nrequests_per_minute = 1\nburst = 2\n"
    r = rig(limit + "[backend.a]\n")
    for _ in range(2):
        await r.balancer.ask(Query("q", client="ann"))
    with pytest.raises(RateLimited) as caught:
        await r.balancer.ask(Query("q", client="ann"))
    assert 0 < caught.value.retry_after_s <= 60
    assert (await r.balancer.ask(Query("q", client="bob"))).text == "A"
    assert len(r.a.calls) == 3


async def test_what_the_gate_has_no_place_for_is_refused_at_once(rig: MakeRig) -> None:
    hangs = Hangs()
    limit = "[overload]\nmax_in_flight = 1\nqueue_length = 0\n"
    r = rig(limit + "[backend.h]\n", extra=[FakePlugin(h=hangs)])
    task = asyncio.create_task(r.balancer.ask("q"))
    await hangs.entered.wait()
    with pytest.raises(Overloaded) as caught:
        await r.balancer.ask("q")
    assert caught.value.request_id
    with pytest.raises(Overloaded), r.balancer.lease("q"):
        pass
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert r.idle()
