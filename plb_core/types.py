"""The records that cross a plugin boundary.

Units are part of the names: `_s` seconds, `_micro_usd` millionths of a US dollar,
`_tokens`; rates, shares and qualities are 0..1.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from datetime import date
from types import MappingProxyType
from typing import Final, Literal

import attrs

Health = Literal["unknown", "healthy", "degraded", "unhealthy"]
Knowledge = Literal["any", "graph", "live"]
Wanted = Literal["either", "graph", "live", "hybrid"]
Result = Literal["answer", "no_answer", "error", "cancelled", "truncated"]
FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]
Action = Literal["next", "again", "wait", "larger", "stop"]

NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
NO_ATTRIBUTES: Final[Mapping[str, str]] = MappingProxyType({})


@attrs.frozen
class Problem:
    """One thing wrong with a configuration; printed as `file:line: key: message`."""

    message: str
    file: str = ""
    line: int = 0
    key: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.key, self.message) if part)


@attrs.frozen
class Query:
    """One question, as every algorithm and backend sees it.

    `text` is the question itself; `messages` the whole conversation in OpenAI's chat
    form, empty when there is only `text`. `kind` is the classifier's bounded label
    ("" before classification). `needs` are capabilities the backend must have
    (see `BackendTraits`), `options` sampling and tool parameters in OpenAI's names.
    `region` and `coordinates` (latitude, longitude in degrees) say where the client
    is. `budget_micro_usd` caps what this question may cost; None means no cap.
    `client` is the name of the client's key, for budgets and rate limits.
    `deadline_s` is the time allowed from now for everything; None: the configured one.
    """

    text: str = attrs.field(repr=lambda text: f"<{len(text)} characters>")
    model: str = "auto"
    kind: str = ""
    session: str = attrs.field(default="", repr=False)
    messages: tuple[Mapping[str, object], ...] = attrs.field(default=(), repr=False)
    max_output_tokens: int | None = None
    needs: frozenset[str] = frozenset()
    options: Mapping[str, object] = attrs.field(default=NOTHING, repr=False)
    region: str = ""
    coordinates: tuple[float, float] | None = None
    budget_micro_usd: int | None = None
    client: str = ""
    attributes: Mapping[str, str] = attrs.field(default=NO_ATTRIBUTES, repr=False)
    deadline_s: float | None = None

    def of_kind(self, kind: str) -> Query:
        """Return the same query with another kind.

        Written out because every question passes here: `attrs.evolve` takes 4 µs more.
        """
        return Query(
            self.text,
            self.model,
            kind,
            self.session,
            self.messages,
            self.max_output_tokens,
            self.needs,
            self.options,
            self.region,
            self.coordinates,
            self.budget_micro_usd,
            self.client,
            self.attributes,
            self.deadline_s,
        )


@attrs.frozen
class Decision:
    """What a classifier makes of a query.

    `wanted` narrows the candidates to backends with that knowledge ("either" and
    "hybrid" do not narrow). `kind` keys everything that is learned, so a classifier
    returns one of a small fixed set. `confidence` is 0..1.
    """

    wanted: Wanted
    kind: str
    confidence: float
    reason: str = ""


@attrs.frozen
class Usage:
    """What a backend consumed. `estimated` marks counts that plb guessed."""

    input_tokens: int = 0
    output_tokens: int = 0
    searches: int = 0
    estimated: bool = False


@attrs.frozen
class Source:
    """One cited source. `title` is shown, `url` may be a file's path."""

    title: str
    url: str = ""
    quote: str = ""
    published: str = ""


@attrs.frozen
class Answer:
    """A backend's complete answer.

    `cost_micro_usd` is what the backend itself says it billed, None when it does not
    say. `label` is a notice every display must show with the text, "" for none.
    `llm_generated` is False for quoted, extractive text.
    """

    text: str = attrs.field(repr=lambda text: f"<{len(text)} characters>")
    sources: tuple[Source, ...] = ()
    usage: Usage | None = None
    model: str = ""
    finish_reason: FinishReason = "stop"
    cost_micro_usd: int | None = None
    llm_generated: bool = True
    label: str = ""
    tool_calls: tuple[Mapping[str, object], ...] = attrs.field(default=(), repr=False)


@attrs.frozen
class Chunk:
    """A piece of a streamed answer.

    Every stream ends with exactly one chunk whose `end` is set: "complete" carries
    the whole `answer`, "truncated" says that the answer was cut after text was sent.
    `tool_calls` are OpenAI tool-call deltas, passed on unchanged.
    """

    text: str = ""
    end: Literal["", "complete", "truncated"] = ""
    answer: Answer | None = None
    tool_calls: tuple[Mapping[str, object], ...] = ()


@attrs.frozen
class Embeddings:
    """One vector per input, in input order."""

    vectors: tuple[tuple[float, ...], ...] = attrs.field(repr=False)
    usage: Usage | None = None
    model: str = ""


@attrs.frozen
class Price:
    """Integer prices in micro-USD; `as_of` is the day they were true."""

    input_micro_usd_per_mtok: int = 0
    output_micro_usd_per_mtok: int = 0
    request_micro_usd: int = 0
    search_micro_usd: int = 0
    as_of: date | None = None

    @property
    def by_use(self) -> bool:
        """Whether a call's cost depends on what was used."""
        return bool(
            self.input_micro_usd_per_mtok
            or self.output_micro_usd_per_mtok
            or self.search_micro_usd
        )

    @property
    def free(self) -> bool:
        """Whether no call can ever cost anything."""
        return not (self.by_use or self.request_micro_usd)


@attrs.frozen
class ModelMap:
    """Which requested model names a backend serves, and what it sends upstream.

    Exact names win over wildcards; among wildcards the longest pattern wins. The
    upstream name "*" means "the requested name, unchanged".
    """

    exact: Mapping[str, str] = attrs.field(factory=dict)
    wildcards: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_table(cls, table: Mapping[str, str]) -> ModelMap:
        """Split a TOML table of requested name → upstream name."""
        exact = {name: up for name, up in table.items() if "*" not in name}
        patterns = [(name, up) for name, up in table.items() if "*" in name]
        patterns.sort(key=lambda pair: -len(pair[0]))
        return cls(exact, tuple((_only_stars(name), up) for name, up in patterns))

    def upstream(self, requested: str) -> str | None:
        """Return the name to send upstream, or None when it is not served."""
        target = self.exact.get(requested)
        if target is None:
            for pattern, candidate in self.wildcards:
                if fnmatch.fnmatchcase(requested, pattern):
                    target = candidate
                    break
        return requested if target == "*" else target


def _only_stars(pattern: str) -> str:
    """Return a pattern for fnmatch in which nothing but `*` is special."""
    return pattern.replace("[", "[[]").replace("?", "[?]")


@attrs.frozen
class BackendTraits:
    """What a backend plugin knows about itself; TOML keys of the same name override.

    `capabilities` are words from: chat, stream, embeddings, tools, images,
    response_format. `max_in_flight` is its own safe concurrency. `price` None means
    unknown.
    """

    knowledge: Knowledge = "any"
    capabilities: frozenset[str] = frozenset({"chat", "stream"})
    max_in_flight: int = 64
    price: Price | None = None


@attrs.frozen
class BackendInfo:
    """The fixed facts about one configured backend.

    `context_tokens` is None when not known. `on_error` maps error codes to what to do
    instead of the default.
    """

    name: str
    plugin: str
    traits: BackendTraits = BackendTraits()
    priority: int = 1
    weight: float = 1.0
    timeout_s: float = 60.0
    region: str = ""
    coordinates: tuple[float, float] | None = None
    models: ModelMap = ModelMap()
    context_tokens: int | None = None
    on_error: Mapping[str, Action] = attrs.field(factory=dict)


@attrs.frozen
class ProbeResult:
    """One health probe. `detail` is short, fixed text without secrets."""

    ok: bool
    latency_s: float
    detail: str = ""
    degraded: bool = False


@attrs.frozen
class HealthRecord:
    """What a health check judges: probes in a row, and recent real traffic.

    `success_rate` is None until real requests were seen.
    """

    health: Health
    probe: ProbeResult
    successes_in_a_row: int
    failures_in_a_row: int
    success_rate: float | None = None


@attrs.frozen
class Event:
    """A rare thing that happened; `data` is small, JSON-safe and without secrets."""

    name: str
    data: Mapping[str, object] = NOTHING


# Not frozen: built once per attempt on the hot path and never changed afterwards;
# a frozen attrs class costs three times as much to create.
@attrs.define
class Outcome:
    """One finished attempt; `Algorithm.observe` sees each exactly once.

    `latency_s` runs from send to the end, `ttft_s` to the first text of a stream
    (None otherwise). `quality` is 0..1 or None when not scored. `probability` is that
    with which the algorithm picked this backend; `via` the inner algorithm it used.
    """

    request_id: str
    backend: str
    track: str
    algorithm: str
    kind: str
    result: Result
    attempt: int
    at_s: float
    latency_s: float
    ttft_s: float | None = None
    usage: Usage | None = None
    cost_micro_usd: int | None = None
    quality: float | None = None
    error: str = ""
    probability: float = 1.0
    via: str = ""


@attrs.frozen
class Rating:
    """A later verdict on an answer, by a person or a slow judge; qualities are 0..1."""

    request_id: str
    backend: str
    algorithm: str
    kind: str
    dimensions: Mapping[str, float]
    via: str = ""

    @property
    def quality(self) -> float:
        """The mean over all dimensions."""
        return sum(self.dimensions.values()) / len(self.dimensions)
