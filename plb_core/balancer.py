"""The balancer: the one way in for applications, the gateway and the command line."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self

import attrs
from loguru import logger

from plb_core.attempts import Request
from plb_core.build import build_plan
from plb_core.config import Config, read_file
from plb_core.errors import BadAnswer, NoBackendAvailable, UnknownRequest
from plb_core.health import HealthMonitor
from plb_core.history import Attempt, History, Trace
from plb_core.lease import Lease
from plb_core.lifecycle import Leaving, start_all
from plb_core.loader import Loader
from plb_core.replies import EmbeddingsReply, Reply
from plb_core.retry_budget import RetryBudget
from plb_core.shared import Shared, make_gate, make_ledger, make_limiter, make_till
from plb_core.stream import ReplyStream
from plb_core.trust import (
    UNCLASSIFIED,
    answer_bill,
    answer_cost,
    answer_quality,
    classify,
    is_answer,
    usage_cost,
)
from plb_core.types import Answer, Embeddings, Event, Query, Rating

if TYPE_CHECKING:
    from pathlib import Path

    from plb_core.plan import Plan
    from plb_core.protocols import Backend


FIRST_EXTRA_ATTEMPTS: Final = 50.0
"""When a backend falls silent, all that wait for it fail at once, before its breaker
can open; so many are answered elsewhere even if few requests earned it."""


class Balancer:
    """Routes questions to backends by one plan, which can be replaced while it runs.

    `plugins` are plugin objects the application hands over besides the installed
    ones. `seed` makes every random choice reproducible. Raises `ConfigError` or
    `PluginError` when the configuration cannot be used.

    One balancer belongs to one event loop. `candidates` shows the live backends; an
    application may change a candidate's `weight` at any time.
    """

    def __init__(
        self,
        config: Config,
        *,
        plugins: Sequence[object] = (),
        seed: int | None = None,
    ) -> None:
        self._rng = random.Random(seed)
        self._now = time.monotonic
        self._loader = Loader(config.plugins, plugins)
        self._plan = build_plan(config, self._loader, now=self._now, rng=self._rng)
        self._run = secrets.token_hex(4)
        self._retries = RetryBudget(self._now, reserve=FIRST_EXTRA_ATTEMPTS)
        self._gate = make_gate(config, self._now, self._new_rng())
        self._limiter = make_limiter(config, self._now)
        self.ledger = make_ledger(self._plan, self._announce)
        self._shared = self._make_shared(self._plan)
        self._history = History()
        self._monitor: HealthMonitor | None = None
        self._state: Literal["new", "open", "closed"] = "new"
        self._changing = asyncio.Lock()
        self._replaced: list[Plan] = []
        self._leaving = Leaving()

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        plugins: Sequence[object] = (),
        seed: int | None = None,
    ) -> Balancer:
        """Return a balancer for a TOML file."""
        return cls(read_file(path), plugins=plugins, seed=seed)

    @property
    def plan(self) -> Plan:
        """The plan that the next request will use."""
        return self._plan

    async def start(self) -> None:
        """Open the backends and begin health checks; does so once.

        Raises `RuntimeError` after `close`.
        """
        async with self._changing:
            self._refuse_when_closed()
            if self._state == "new":
                if self.ledger is not None:
                    await self.ledger.open()
                try:
                    await start_all(self._plan.backends.values())
                except BaseException:  # cancelled too: the ledger must not stay open
                    if self.ledger is not None:
                        await self.ledger.close()
                    raise
                self._state = "open"
                self._watch()

    async def close(self) -> None:
        """Refuse new questions, let running ones end, and close the backends.

        Waits no longer for them than the deadline of `[routing]`.
        """
        async with self._changing:
            was, self._state = self._state, "closed"
            if self._monitor is not None:
                await self._monitor.stop()
                self._monitor = None
            if was == "open":
                self._retire(self._plan, set())
                await self._leaving.close(self._plan.config.routing.deadline_s)
                if self.ledger is not None:
                    await self.ledger.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def ask(self, query: Query | str) -> Reply:
        """Return the answer of the first backend that has one.

        Raises `UnknownModel`, `NoAnswer`, `NoBackendAvailable`, `AlgorithmFailed`,
        `BudgetExhausted`, `LedgerUnavailable`, `Overloaded` or `RateLimited`.
        Cancelling the call cancels the backend's.
        """
        request = self._request(query)
        await request.enter()
        try:
            attempt, answer = await request.run(_ask)
            return self._answered(request, attempt, answer, None)
        finally:
            request.leave()

    def stream(self, query: Query | str) -> ReplyStream:
        """Return the answer as it comes; see `ReplyStream`."""
        return ReplyStream(self._request(query, "stream"), self._answered)

    async def embed(self, query: Query, inputs: Sequence[str]) -> EmbeddingsReply:
        """Return one vector per input from a backend that has embeddings.

        `query` says where to send it (`model`, `session`, …); its text is not used.
        """
        # Its text is what the ceiling of the cost is reckoned from.
        query = attrs.evolve(query, text="\n".join(inputs), max_output_tokens=1)
        request = self._request(query, "embeddings")

        async def call(backend: Backend, query: Query, timeout_s: float) -> Embeddings:
            # `pool` admits only backends that declare "embeddings".
            made = await backend.embed(query, inputs, timeout_s)  # type: ignore[attr-defined]
            if not isinstance(made, Embeddings) or len(made.vectors) != len(inputs):
                raise BadAnswer("the plugin did not return one vector per input")
            return made

        await request.enter()
        try:
            attempt, embeddings = await request.run(call)
            usage, info = embeddings.usage, attempt.candidate.info
            cost = usage_cost(request.plan.cost_scorer, usage, info)
            request.finish(
                attempt, "answer", usage=usage, cost_micro_usd=cost, bill=cost
            )
        finally:
            request.leave()
        total_s = self._now() - request.started_s
        return EmbeddingsReply(
            request.trace.request_id,
            embeddings,
            attempt.candidate.name,
            request.pool.track.name,
            attempt.named.name,
            attempt.number,
            total_s,
            total_s - request.waited_s,
            cost,
        )

    def lease(self, query: Query | str) -> Lease:
        """Choose a backend and hold a slot of it; see `Lease`."""
        return Lease(self._request(query), self._answered)

    def rate(self, request_id: str, dimensions: Mapping[str, float]) -> None:
        """Take a later verdict on an answer in: {dimension: 0..1}, at least one.

        Raises `UnknownRequest` when no answer of that id is remembered, `ValueError`
        for a value outside 0..1.
        """
        if not dimensions or not all(0.0 <= x <= 1.0 for x in dimensions.values()):
            raise ValueError("a rating needs at least one value, each from 0 to 1")
        trace = self._history.find(request_id)
        attempt = next((a for a in trace.attempts if a.result == "answer"), None)
        if attempt is None:
            raise UnknownRequest(f"request {request_id[:64]!r} has no answer to rate")
        rating = Rating(
            request_id,
            attempt.candidate.name,
            attempt.named.name,
            trace.kind,
            dict(dimensions),
            attempt.choice.via,
        )
        attempt.candidate.rate(rating)
        algorithms = self._plan.algorithms  # a reload may have built new ones
        for named in trace.track.observers:
            algorithms.get(named.name, named).rate(rating)

    def explain(self, request_id: str) -> dict[str, object]:
        """Return why a recent request went where it went, JSON-safe.

        Raises `UnknownRequest`.
        """
        return self._history.find(request_id).explanation()

    def ready(self) -> bool:
        """Whether some backend of the default track is open, if perhaps full."""
        now_s = self._now()
        return self._state != "closed" and any(
            each.health != "unhealthy"
            and each.closed_until_s <= now_s
            and each.breaker.state != "open"
            for tier in self._plan.track.tiers
            for each in tier
        )

    async def apply(self, config: Config) -> None:
        """Replace the plan; running requests finish on the old one.

        Backends and listeners whose section is unchanged go on as they are. Services
        are not restarted: a change of theirs is logged and waits for a restart.
        Raises `ConfigError` or `PluginError` and changes nothing when the new
        configuration cannot be used, `RuntimeError` after `close`.
        """
        async with self._changing:
            self._refuse_when_closed()
            old = self._plan
            new = build_plan(
                config, self._loader, now=self._now, rng=self._rng, previous=old
            )
            if self._state == "open":
                kept = set(map(id, old.backends.values()))
                await start_all(b for b in new.backends.values() if id(b) not in kept)
            try:
                if self._monitor is not None:
                    await self._monitor.stop()
            finally:  # even if cancelled just now: what was opened is to be used
                self._swap(old, new)

    def _swap(self, old: Plan, new: Plan) -> None:
        self._plan = new
        self._shared = self._make_shared(new)
        if self.ledger is not None and new.config.budget is not None:
            self.ledger.limit(new.config.budget.caps())
        if self._state == "open":
            self._watch()
            self._retire(old, set(map(id, new.backends.values())))
        if old.config.instances["service"] != new.config.instances["service"]:
            logger.warning("a changed [service.NAME] needs a restart to take effect")
        self._announce(Event("plan_applied", {"backends": list(new.backends)}))

    def _retire(self, plan: Plan, kept: set[int]) -> None:
        """Let go of the backends of a plan that are not `kept`, by identity."""
        self._replaced = [each for each in self._replaced if each.choosing] + [plan]
        for name, backend in plan.backends.items():
            if id(backend) not in kept:
                self._leaving.add(name, backend, self._replaced)

    def _refuse_when_closed(self) -> None:
        if self._state == "closed":
            raise RuntimeError("the balancer is closed; make a new one")

    def _request(self, query: Query | str, need: str = "") -> Request:
        plan = self._plan
        if self._state == "closed":
            raise NoBackendAvailable("the balancer is closed")
        if self.ledger is not None and self._state == "new":
            raise RuntimeError("with [budget], start the balancer before asking")
        decision = UNCLASSIFIED
        if isinstance(query, str):
            # Set at once where nothing classifies: evolving costs three times as much.
            kind = "" if plan.classifier is not None else decision.kind
            query = Query(query, kind=kind)
        if self._limiter is not None:
            self._limiter.admit(query.client)
        if plan.classifier is not None and not query.kind and query.text:
            decision = classify(plan.classifier, query)
        if not query.kind:
            query = query.of_kind(decision.kind)
        needs = query.needs | {need} if need else query.needs
        pool = plan.pool(query.model, needs, decision.wanted)
        trace = Trace(
            f"req_{self._rng.getrandbits(64):016x}",
            query.model,
            query.kind,
            decision.wanted,
            decision.reason,
            pool.track,
        )
        self._history.add(trace)
        self._retries.deposit()
        return Request(plan, query, pool, trace, self._shared)

    def _answered(
        self, request: Request, attempt: Attempt, answer: Answer, ttft_s: float | None
    ) -> Reply:
        """Score an answer, close its attempt and return the reply."""
        plan = request.plan
        cost = answer_cost(
            plan.cost_scorer, request.query, answer, attempt.candidate.info
        )
        quality = answer_quality(plan.quality_scorer, request.query, answer)
        bill = None
        if attempt.reservation is not None:
            bill = answer_bill(plan.cost_scorer, answer, attempt.candidate.info)
        request.finish(
            attempt,
            "answer",
            ttft_s=ttft_s,
            usage=answer.usage,
            cost_micro_usd=cost,
            bill=bill,
            quality=quality,
        )
        total_s = self._now() - request.started_s
        return Reply(
            request.trace.request_id,
            answer,
            attempt.candidate.name,
            request.pool.track.name,
            attempt.named.name,
            attempt.number,
            total_s,
            total_s - request.waited_s,
            cost,
            quality,
        )

    def _make_shared(self, plan: Plan) -> Shared:
        till = make_till(plan, self.ledger, self._run)
        return Shared(self._now, self._rng, self._retries, till, self._gate)

    def _new_rng(self) -> random.Random:
        return random.Random(self._rng.getrandbits(64))

    def _watch(self) -> None:
        self._monitor = HealthMonitor(
            self._plan,
            announce=self._announce,
            rng=self._new_rng(),
        )
        self._monitor.start()

    def _announce(self, event: Event) -> None:
        logger.info("{}: {}", event.name, dict(event.data))
        self._loader.announce(event)


async def _ask(backend: Backend, query: Query, timeout_s: float) -> Answer:
    answer = await backend.ask(query, timeout_s)
    if not is_answer(answer):
        raise BadAnswer("the plugin returned no answer with text")
    return answer
