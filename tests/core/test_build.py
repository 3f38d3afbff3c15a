"""What is refused while a plan is built, before anything runs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import attrs
import pytest

from plb_core import (
    BackendTraits,
    BuildContext,
    Chunk,
    ConfigError,
    Price,
    Problem,
    Provider,
    Query,
    doc,
    hookimpl,
)
from plb_core.build import plain_context
from plb_core.config import read_text
from plb_core.testing.fakes import FakeBackend, FakePlugin

from .conftest import First, Rig

MakeRig = Callable[..., Rig]


def refused(rig: MakeRig, toml: str, *extra: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        rig(toml, extra=extra)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("traits", "message"),
    [
        (None, "the traits of 'odd' are not BackendTraits"),
        (BackendTraits(capabilities=["chat"]), "capabilities"),  # type: ignore[arg-type]
        (BackendTraits(capabilities="chat"), "capabilities"),  # type: ignore[arg-type]
        (BackendTraits(max_in_flight=0), "max_in_flight"),
        (BackendTraits(max_in_flight=True), "max_in_flight"),
        (BackendTraits(max_in_flight="8"), "max_in_flight"),  # type: ignore[arg-type]
        (BackendTraits(max_in_flight=math.nan), "max_in_flight"),  # type: ignore[arg-type]
        (BackendTraits(knowledge="all"), "knowledge"),  # type: ignore[arg-type]
        (BackendTraits(price=5), "price"),  # type: ignore[arg-type]
        (
            BackendTraits(capabilities=frozenset({"embeddings"})),
            "embeddings, but it has no `embed`",
        ),
    ],
)
def test_traits_that_cannot_be_true_are_refused(
    rig: MakeRig, traits: Any, message: str
) -> None:
    """They ended every question with a TypeError, or let no request through."""
    odd = FakeBackend()
    odd.traits = traits
    found = refused(rig, "[backend.odd]\n", FakePlugin(odd=odd))
    assert len(found) == 1
    assert found[0].startswith("c.toml:1: backend.odd: ")
    assert message in found[0]


def test_sound_traits_are_taken(rig: MakeRig) -> None:
    traits = BackendTraits("live", frozenset({"chat"}), 3, Price(1))
    r = rig("[backend.odd]\n", extra=[FakePlugin(odd=FakeBackend(traits=traits))])
    assert r.candidate("odd").info.traits == traits
    assert r.candidate("odd").max_in_flight == 3


def test_every_common_key_overrides_a_trait(rig: MakeRig) -> None:
    r = rig(
        '[backend.a]\nknowledge = "graph"\ncapabilities = ["chat", "tools"]\n'
        "max_in_flight = 5\n[backend.a.price]\nrequest_usd = 0.01\n"
    )
    traits = r.candidate("a").info.traits
    assert traits == BackendTraits(
        "graph",
        frozenset({"chat", "tools"}),
        5,
        Price(request_micro_usd=10_000),
    )


class Offers:
    """Offers one object as a plugin of the given kind, called `odd`."""

    def __init__(self, **made: Any) -> None:
        self.made = made

    def _provider(self, kind: str) -> Any:
        if kind not in self.made:
            return []
        return Provider("odd", lambda _s, _c: self.made[kind])

    @hookimpl
    def plb_register_algorithm(self) -> Any:
        return self._provider("algorithm")

    @hookimpl
    def plb_register_backend(self) -> Any:
        return self._provider("backend")

    @hookimpl
    def plb_register_health_check(self) -> Any:
        return self._provider("health_check")

    @hookimpl
    def plb_register_quality_scorer(self) -> Any:
        return self._provider("quality_scorer")

    @hookimpl
    def plb_register_listener(self) -> Any:
        return self._provider("listener")

    @hookimpl
    def plb_register_service(self) -> Any:
        return self._provider("service")


class AsyncAlgorithm:
    async def choose(self, query: object, candidates: object) -> None: ...
    def observe(self, outcome: object) -> None: ...


class AsyncScorer:
    async def score(self, query: object, answer: object) -> None: ...


class AsyncListener:
    async def observe(self, outcome: object) -> None: ...


class CoroutineStream(FakeBackend):
    async def stream(  # type: ignore[override]  # on purpose
        self, query: Query, timeout_s: float
    ) -> list[Chunk]:
        return []


class Judge:
    interval_s = 1.0

    async def probe(self, backend: object) -> None: ...
    def judge(self, record: object) -> Any: ...


class AsyncJudge(Judge):
    async def judge(self, record: object) -> Any: ...


@pytest.mark.parametrize(
    ("toml", "offers", "message"),
    [
        (
            '[backend.a]\n[track.t]\nalgorithm = "odd"\n',
            {"algorithm": AsyncAlgorithm()},
            "`choose` of 'odd' is async; it must not wait",
        ),
        (
            '[routing]\nquality_scorer = "odd"\n[backend.a]\n',
            {"quality_scorer": AsyncScorer()},
            "`score` of 'odd' is async; it must not wait",
        ),
        (
            "[backend.a]\n[listener.odd]\n",
            {"listener": AsyncListener()},
            "`observe` of 'odd' is async; it must not wait",
        ),
        (
            '[routing]\nhealth_check = "odd"\n[backend.a]\n',
            {"health_check": AsyncJudge()},
            "`judge` of 'odd' is async; it must not wait",
        ),
        (
            "[backend.odd]\n",
            {"backend": CoroutineStream()},
            "`stream` of 'odd' is async without `yield`",
        ),
        (
            "[backend.a]\n[service.odd]\n",
            {"service": object()},
            "'odd' built a object without start and close",
        ),
    ],
)
def test_a_method_of_the_wrong_form_is_refused_at_load(
    rig: MakeRig, toml: str, offers: dict[str, Any], message: str
) -> None:
    """An async `choose` failed on every question, with a coroutine never awaited."""
    found = refused(rig, toml, Offers(**offers))
    assert len(found) == 1
    assert message in found[0]


@pytest.mark.parametrize("interval_s", [0, -1.0, math.nan, math.inf, "5", None, True])
def test_a_probe_interval_that_is_no_duration_is_refused(
    rig: MakeRig, interval_s: Any
) -> None:
    """At 0 the probes took the whole processor; a string ended them in silence."""
    check = Judge()
    check.interval_s = interval_s
    toml = '[routing]\nhealth_check = "odd"\n[backend.a]\n'
    found = refused(rig, toml, Offers(health_check=check))
    assert len(found) == 1
    assert "interval_s" in found[0]


def test_one_mistake_is_one_problem(rig: MakeRig) -> None:
    """A wrong algorithm section was reported once for each mention of its name."""
    found = refused(
        rig,
        '[backend.a]\n[track.x]\nalgorithm = "health_aware"\n'
        'fallback_algorithms = ["health_aware"]\n'
        '[track.y]\nalgorithm = "health_aware"\n[routing]\ntrack = "x"\n'
        "[algorithm.health_aware]\nnonsense = 1\n",
    )
    assert found == ["c.toml:10: algorithm.health_aware.nonsense: unknown key"]


def test_an_unknown_algorithm_is_reported_where_it_is_named(rig: MakeRig) -> None:
    found = refused(
        rig,
        '[backend.a]\n[track.x]\nalgorithm = "nope"\n[route.y]\nalgorithm = "nope"\n',
    )
    assert [each.partition(": no ")[0] for each in found] == [
        "c.toml:3: track.x.algorithm",
        "c.toml:5: route.y.algorithm",
    ]


def test_a_backend_stands_once_in_a_track_and_in_a_route(rig: MakeRig) -> None:
    """Named twice, it was drawn twice as often; over two tiers, asked out of turn."""
    found = refused(
        rig,
        '[backend.a]\n[backend.b]\n[track.x]\nalgorithm = "first"\n'
        'backends = ["a", "b", "a"]\n[route.y]\ntiers = [["a"], ["b", "a"]]\n',
    )
    assert found == [
        "c.toml:5: track.x.backends[2]: 'a' stands here twice",
        "c.toml:7: route.y.tiers[1][1]: 'a' stands here twice",
    ]


def test_a_track_without_backends_is_refused(rig: MakeRig) -> None:
    found = refused(rig, '[backend.a]\n[track.x]\nalgorithm = "first"\nbackends = []\n')
    assert found == ["c.toml:4: track.x.backends: no backend is left"]


class Composite(First):
    """Chooses through another algorithm of the configuration."""

    def __init__(self, context: BuildContext, inner: Sequence[str]) -> None:
        super().__init__()
        self.inner = [context.algorithm(name) for name in inner]


@attrs.frozen
class CompositeSettings:
    of: tuple[str, ...] = attrs.field(
        default=("first",), metadata=doc("The algorithms it asks.")
    )


class CompositePlugin:
    @hookimpl
    def plb_register_algorithm(self) -> Provider[Composite]:
        return Provider(
            "composite",
            lambda settings, context: Composite(context, settings.of),
            CompositeSettings,
        )


@pytest.mark.asyncio
async def test_inner_algorithms_of_a_track_and_of_a_route_learn(rig: MakeRig) -> None:
    """Those inside a route's own algorithm never saw an outcome."""
    toml = (
        '[backend.a]\n[track.main]\nalgorithm = "second"\n'
        '[route.special]\nalgorithm = "composite"\n'
    )
    r = rig(toml, extra=[CompositePlugin()])
    await r.balancer.ask(Query("q", model="special"))
    assert len(r.first.outcomes) == 1
    await r.balancer.ask(Query("q"))
    assert len(r.first.outcomes) == 1
    assert len(r.algorithms.second.outcomes) == 2


@pytest.mark.asyncio
async def test_an_algorithm_reached_twice_learns_once(rig: MakeRig) -> None:
    toml = (
        '[backend.a]\n[track.main]\nalgorithm = "composite"\n'
        'fallback_algorithms = ["first", "second"]\n'
        '[algorithm.composite]\nof = ["first", "second", "first"]\n'
    )
    r = rig(toml, extra=[CompositePlugin()])
    await r.balancer.ask("q")
    assert len(r.first.outcomes) == len(r.algorithms.second.outcomes) == 1


def test_algorithms_in_a_circle_are_refused(rig: MakeRig) -> None:
    found = refused(
        rig,
        '[backend.a]\n[track.main]\nalgorithm = "x"\n'
        '[algorithm.x]\nplugin = "composite"\nof = ["y"]\n'
        '[algorithm.y]\nplugin = "composite"\nof = ["x"]\n',
        CompositePlugin(),
    )
    assert any("refer to one another: x → y → x" in each for each in found)


def test_a_broken_inner_algorithm_is_reported_at_its_own_section(rig: MakeRig) -> None:
    found = refused(
        rig,
        '[backend.a]\n[track.main]\nalgorithm = "composite"\n'
        '[algorithm.composite]\nof = ["nope"]\n',
        CompositePlugin(),
    )
    assert len(found) == 1
    assert "no installed plugin is called 'nope'" in found[0]


class Picky:
    def __init__(self, error: Exception) -> None:
        self.error = error

    @hookimpl
    def plb_register_backend(self) -> Provider[FakeBackend]:
        def build(settings: object, context: object) -> FakeBackend:
            raise self.error

        return Provider("picky", build)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ConfigError([Problem("too far away")]),
            "c.toml:1: backend.picky: too far away",
        ),
        (
            ConfigError([Problem("no such place", key="backend.picky.region")]),
            "c.toml:2: backend.picky.region: no such place",
        ),
        (
            ZeroDivisionError("division"),
            "c.toml:1: backend.picky: building failed: ZeroDivisionError: division",
        ),
    ],
)
def test_what_a_plugin_finds_wrong_gets_its_line(
    rig: MakeRig, error: Exception, message: str
) -> None:
    toml = '[backend.picky]\nregion = "moon"\n'
    assert refused(rig, toml, Picky(error)) == [message]


def test_outside_a_plan_there_are_no_algorithms() -> None:
    context = plain_context("command")
    assert context.backends == ()
    with pytest.raises(ConfigError, match="no algorithm 'x' outside a plan"):
        context.algorithm("x")


def test_a_sync_stream_that_returns_an_iterator_is_sound(rig: MakeRig) -> None:
    class Returns(FakeBackend):
        def stream(self, query: Query, timeout_s: float) -> AsyncIterator[Chunk]:
            return super().stream(query, timeout_s)

    rig("[backend.s]\n", extra=[FakePlugin(s=Returns())])


def test_a_number_too_long_to_read_is_a_problem() -> None:
    """It came out of the parser as a bare ValueError."""
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_text("x = " + "1" * 5000)


@pytest.mark.parametrize("nest", [("[", "]"), ("{a = ", "}")])
def test_no_depth_of_nesting_is_a_crash(nest: tuple[str, str]) -> None:
    """At one depth the parser had just enough stack and the search for lines not."""
    opening, closing = nest
    for depth in range(100, 600):
        with contextlib.suppress(ConfigError):
            read_text(f"x = {opening * depth}1{closing * depth}")
