"""A backend is gone, silent, cut, slow, busy, wrong or hostile."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from email.utils import formatdate

import pytest

from plb_core import Price
from plb_core.http import exchange
from plb_core.testing.emulators import Call, Emulator, Fault, OpenAIEmulator
from plb_core.testing.emulators.facts import answer_text
from tests.faults.case import FULL, SECONDS, Case, base_latency_s, three_backends
from tests.faults.load import QUESTION, percentile_ms
from tests.faults.proxy import FaultProxy
from tests.faults.watch import LISTENER, Watch

pytestmark = [pytest.mark.faults, pytest.mark.asyncio, pytest.mark.timeout(600)]
NEVER_OPENS = "[breaker]\nfailure_threshold = 1000000\nminimum_calls = 1000000\n"
WHOLE = answer_text(QUESTION)


def always(fault: Fault, counted: list[float] | None = None) -> Callable[..., object]:
    """Return a plan: `fault` for each question; notes when in `counted`."""

    def plan(call: Call) -> Fault | None:
        if call.request.method != "POST":
            return None
        if counted is not None:
            counted.append(call.at_s)
        return fault

    return plan


def failing(fault: Fault, name: str = "graph1") -> dict[str, Emulator]:
    ups = three_backends()
    ups[name].faults = always(fault)  # type: ignore[assignment]
    return ups


def openais(*names: str) -> dict[str, Emulator]:
    return {name: OpenAIEmulator(latency_s=base_latency_s) for name in names}


async def refused(name: str) -> Case:
    ups = three_backends()
    async with FaultProxy(1) as proxy:
        port = proxy.port  # free again once the proxy is closed
    case = Case(name, "refuses connections", ups, via={"graph1": port})
    async with case:
        sent = await case.load()
        extra = sum(each.attempts - 1 for each in sent)
        case.exactly("user_failures", case.failures(), 0)
        if name == "F01":
            p99 = percentile_ms([each.latency_s for each in sent], 0.99)
            case.figure("added_p99_ms", p99 - 40.0, at_most=50)
        else:
            case.figure("attempts_until_open", extra, at_most=5)
    return case


async def test_f01_a_backend_refuses_connections() -> None:
    await refused("F01")


async def test_f01_the_breaker_opens() -> None:
    await refused("F01 breaker")


async def silent(name: str) -> None:
    options = {"graph1": "first_byte_timeout_s = 0.5"}
    ups = failing(Fault.hang(bills=True))
    watch = Watch()
    async with Case(
        name,
        "accepts, never answers",
        ups,
        options=options,
        more=LISTENER,
        plugins=[watch],
    ) as case:
        await case.load()
        slowest = max(each.latency_s for each in case.sent)
        case.exactly("user_failures", case.failures(), 0)
        case.figure("max_ms", 1000 * slowest, at_most=700)
        if name == "F02 breaker":
            failures = watch.failures_until_open("graph1")
            case.figure("attempts_until_open", failures, at_most=5)
            case.exactly("begun_while_open", watch.begun_while_open("graph1"), 0)


async def test_f02_a_backend_accepts_and_never_answers() -> None:
    await silent("F02")


async def test_f02_the_breaker_opens() -> None:
    await silent("F02 breaker")


async def test_f03_headers_then_silence() -> None:
    ups = openais("a", "b")
    ups["a"].faults = always(Fault.stall(after_bytes=1200))  # type: ignore[assignment]
    options = {"a": "idle_timeout_s = 0.5"}
    async with Case("F03", "headers, then hangs", ups, options=options) as case:
        await case.load(stream_every=1)
        cut = [each for each in case.sent if not each.complete]
        case.figure("cut_streams", len(cut), at_least=1)
        case.exactly("cut_without_mark", sum(not each.marked for each in cut), 0)
        case.figure("max_ms", 1000 * max(s.latency_s for s in cut), at_most=800)


async def test_f04_reset_in_the_middle_in_three_framings() -> None:
    cuts = dict.fromkeys(("chunked", "fixed", "until_close"), 0)
    kinds = ("chunked", "fixed", "until_close")
    turns = itertools.cycle(kinds)

    def plan(call: Call) -> Fault | None:
        if call.request.method != "POST":
            return None
        # Streams are chunked and whole answers have a length, unless cut unframed.
        streamed = bool(call.request.fields.get("stream"))
        kind = "chunked" if streamed else "fixed"
        if next(turns) == "until_close":
            kind = "until_close"
        cuts[kind] += 1
        if kind == "until_close":
            return Fault.cut_unframed(1200 if streamed else 300)
        return Fault.reset(1200 if streamed else 300)

    ups = openais("a", "b", "spare")
    for name in "ab":
        ups[name].faults = plan
    options = {"spare": "priority = 2"}
    routing = "max_attempts = 3"
    async with Case(
        "F04",
        "reset mid-answer, 3 framings",
        ups,
        options=options,
        routing=routing,
        more=NEVER_OPENS,
    ) as case:
        await case.load(stream_every=1)
        # Few whole answers: each is asked three times, and extra attempts are a budget.
        await case.load(rate=6.0, stream_every=0)
        answered = [each for each in case.sent if each.complete]
        short = sum(each.text != WHOLE for each in answered)
        case.figure("cuts", sum(cuts.values()), at_least=300 if FULL else 150)
        case.figure("kinds_cut", sum(bool(n) for n in cuts.values()), at_least=3)
        case.exactly("truncated_as_complete", short, 0)
        plain = [each for each in case.sent if not each.stream]
        case.exactly("plain_failures", case.failures(plain), 0)


async def test_f05_a_byte_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    window_s = 10.0 if FULL else 2.0
    monkeypatch.setattr(exchange, "RATE_WINDOW_S", window_s)
    monkeypatch.setattr(exchange, "MIN_BYTES_PER_WINDOW", round(64 * window_s))
    ups = openais("a", "b")
    ups["a"].faults = always(Fault.drip(1.0))  # type: ignore[assignment]
    options = {"a": "max_in_flight = 8"}
    held = 0

    def look(_: int) -> None:
        nonlocal held
        held = max(held, case.balancer.plan.candidates["a"].in_flight)

    case = Case("F05", "slow drip, 1 byte/s", ups, options=options)
    async with case:
        await case.load(on_send=look, stream_every=0, patience_s=30.0)
        slowed = [s.latency_s for s in case.sent if s.latency_s > window_s / 2]
        case.exactly("user_failures", case.failures(), 0)
        case.figure("cut_from_s", min(slowed), at_least=window_s)
        case.figure("cut_until_s", max(slowed), at_most=1.2 * window_s + 0.2)
        case.figure("slots_held", held, at_most=8)


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_f06_busy_with_retry_after(form: str) -> None:
    times: list[float] = []
    wait = {"retry-after": "2"}
    if form == "date":
        wait = {
            "date": formatdate(1_800_000_000, usegmt=True),
            "retry-after": formatdate(1_800_000_002, usegmt=True),
        }
    first = Fault.status(429, headers=wait)

    def plan(call: Call) -> Fault | None:
        if call.request.method == "POST":
            times.append(call.at_s)
            return first if len(times) == 1 else None
        return None

    ups = three_backends()
    ups["graph1"].faults = plan
    async with Case(f"F06 {form}", "429 with Retry-After 2", ups) as case:
        await case.load(seconds=max(SECONDS, 3.0))
        begin = times[0]
        # Those already on their way when the refusal came are not calls against it.
        within = [t for t in times if begin + 0.05 < t < begin + 2.0]
        later = [t for t in times if t >= begin + 2.0]
        case.exactly("user_failures", case.failures(), 0)
        case.exactly("calls_within_window", len(within), 0)
        case.figure("calls_after", len(later), at_least=1)
        health = case.balancer.plan.candidates["graph1"].error_rate or 0.0
        case.exactly("counted_as_failure", health, 0)


async def test_f07_every_backend_is_busy() -> None:
    ups = three_backends()
    for wait_s, up in zip((60, 70, 80), ups.values(), strict=True):
        up.faults = always(Fault.busy(wait_s))  # type: ignore[assignment]
        up.latency_s = 0.0
    async with Case("F07", "429 from all", ups) as case:
        await case.load()
        latencies = [each.latency_s for each in case.sent]
        waits = [each.retry_after_ms or 0 for each in case.sent]
        other = sum(s.outcome != "shed" for s in case.sent)
        case.exactly("not_shed", other, 0)
        case.figure("p99_ms", percentile_ms(latencies, 0.99), at_most=20)
        calls = case.posts() / len(case.sent)
        case.figure("upstream_calls_per_request", calls, at_most=1.1)
        # Those that came while the first backend was being asked may know less.
        case.figure("longest_wait_s", max(waits[5:]) / 1000, at_most=60)
        case.figure("shortest_wait_s", min(waits[5:]) / 1000, at_least=50)


async def test_f10_malformed_answers() -> None:
    bad = itertools.cycle(
        [
            Fault.malformed(),
            Fault.wrong_type(),
            Fault.behind_200("failed"),
            Fault.empty(),
            Fault.bad_utf8(),
        ]
    )
    played = 0

    def plan(call: Call) -> Fault | None:
        nonlocal played
        if call.request.method != "POST":
            return None
        played += 1
        return next(bad)

    ups = three_backends()
    ups["live"].faults = plan
    options = {"graph1": "priority = 2", "graph2": "priority = 2"}
    async with Case(
        "F10", "malformed, wrong type, error in 200", ups, options=options
    ) as case:
        await case.load(stream_every=3)
        shown = sum(each.backend == "live" for each in case.sent if each.complete)
        case.figure("malformed", played, at_least=1)
        case.exactly("shown_as_success", shown, 0)
        # A stream that turns bad after its first text can only say so.
        plain = [each for each in case.sent if not each.stream]
        case.exactly("plain_failures", case.failures(plain), 0)


async def test_f11_bomb_endless_body_header_flood() -> None:
    bad = [Fault.bomb(), Fault.endless(), Fault.header_flood(1000, 1000)]
    turns = itertools.cycle(bad)
    ups = three_backends()
    ups["graph1"].faults = lambda call: (
        next(turns) if call.request.method == "POST" else None
    )
    options = {"graph2": "priority = 2", "live": "priority = 2"}
    async with Case(
        "F11", "gzip bomb, endless body, 1 MiB header", ups, options=options, rss_mib=32
    ) as case:
        await case.load(rate=10.0, seconds=max(SECONDS, 3.0), stream_every=4)
        case.exactly("user_failures", case.failures(), 0)


async def late(name: str) -> None:
    ups = failing(Fault.slow(0.6))
    flat = "price = { request_usd = 0.001 }\n"
    for graph in ("graph1", "graph2"):
        ups[graph].price = Price(request_micro_usd=1000)
    options = {"graph1": f"{flat}first_byte_timeout_s = 0.3", "graph2": flat}
    async with Case(
        name,
        "answers after the timeout, billed",
        ups,
        options=options,
        routing='cost_scorer = "tokens"',
        more="[budget]\n",
    ) as case:
        await case.load()
        case.exactly("user_failures", case.failures(), 0)
        from_late = sum(each.backend == "graph1" for each in case.sent)
        case.exactly("late_answers_shown", from_late, 0)
        case.figure("late_calls_billed", len(ups["graph1"].book), at_least=1)
        if name == "F18 ledger":
            # A flat price is its own ceiling, and Perplexity's bill comes along.
            booked = sum(each.micro_usd for up in ups.values() for each in up.book)
            over = (case.ledger_micro_usd() or 0) - booked
            case.exactly("ledger_over_books_micro_usd", over, 0)


async def test_f18_an_answer_after_the_time_limit() -> None:
    await late("F18")


async def test_f18_the_ledger_charges_it() -> None:
    await late("F18 ledger")
