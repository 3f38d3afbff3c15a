"""The sections of `config.toml` that the core itself understands, key by key."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import ROUND_CEILING, Decimal
from typing import Final, Literal

import attrs

from plb_core.error_actions import known_codes
from plb_core.settings import at_least, doc, positive, share
from plb_core.types import Action, Knowledge, Price

Kind = Literal[
    "algorithm",
    "backend",
    "classifier",
    "command",
    "cost_scorer",
    "health_check",
    "listener",
    "quality_scorer",
    "service",
    "store",
]

INSTANCE_KINDS: Final[tuple[Kind, ...]] = (
    "algorithm",
    "classifier",
    "cost_scorer",
    "health_check",
    "listener",
    "quality_scorer",
    "service",
    "store",
)
"""Kinds whose instances have sections `[KIND.NAME]` with nothing but settings."""

AUTO: Final = "auto"
"""The model name that leaves everything to plb."""


@attrs.frozen
class Routing:
    """`[routing]`: what holds for every request."""

    track: str = attrs.field(
        default="", metadata=doc("The track for `auto`; needed when there are several.")
    )
    deadline_s: float = attrs.field(
        default=120.0,
        validator=positive,
        metadata=doc("Seconds one question may take, all attempts together."),
    )
    max_attempts: int = attrs.field(
        default=3,
        validator=at_least(1),
        metadata=doc("Backends asked for one question before giving up."),
    )
    longest_wait_s: float = attrs.field(
        default=2.0,
        validator=at_least(0),
        metadata=doc(
            "Seconds that a busy backend may ask to be waited for when nothing else"
            " is open; longer ones close it until then."
        ),
    )
    classifier: str = attrs.field(
        default="", metadata=doc("The query classifier; empty: none narrows.")
    )
    cost_scorer: str = attrs.field(
        default="", metadata=doc("The cost scorer; empty: costs stay unknown.")
    )
    quality_scorer: str = attrs.field(
        default="", metadata=doc("The quality scorer; empty: nothing is scored.")
    )
    health_check: str = attrs.field(
        default="", metadata=doc("The active health check; empty: none probes.")
    )


@attrs.frozen
class BreakerSettings:
    """`[breaker]`: when calls to a failing backend stop, and how they come back."""

    failure_threshold: int = attrs.field(
        default=5,
        validator=at_least(1),
        metadata=doc("Failures in a row that open the breaker."),
    )
    success_threshold: int = attrs.field(
        default=3,
        validator=at_least(1),
        metadata=doc("Successful trials that close it again."),
    )
    timeout_s: float = attrs.field(
        default=5.0,
        validator=positive,
        metadata=doc(
            "Seconds without calls when it opens; twice as long each time that it"
            " opens again before it was closed for a whole window."
        ),
    )
    max_timeout_s: float = attrs.field(
        default=300.0,
        validator=positive,
        metadata=doc("The longest such time in seconds, before jitter."),
    )
    jitter: float = attrs.field(
        default=0.5,
        validator=share,
        metadata=doc("Share by which that time is made longer or shorter at random."),
    )
    window_s: float = attrs.field(
        default=30.0,
        validator=positive,
        metadata=doc("Seconds of calls that the two rates look at."),
    )
    minimum_calls: int = attrs.field(
        default=20,
        validator=at_least(1),
        metadata=doc("Calls in the window below which the rates decide nothing."),
    )
    failure_rate: float = attrs.field(
        default=0.5,
        validator=[positive, share],
        metadata=doc("Share of failed calls in the window that opens it."),
    )
    slow_call_s: float | None = attrs.field(
        default=None,
        validator=positive,
        metadata=doc("Seconds above which a call is slow; absent: none is."),
    )
    slow_rate: float = attrs.field(
        default=0.5,
        validator=[positive, share],
        metadata=doc(
            "Share of slow calls in the window that opens it, and of slow trials"
            " that keeps it from closing."
        ),
    )
    half_open_permits: int = attrs.field(
        default=1,
        validator=at_least(1),
        metadata=doc("Trials at once after the open time."),
    )

    def __attrs_post_init__(self) -> None:
        if self.max_timeout_s < self.timeout_s:
            raise ValueError(
                f"max_timeout_s = {self.max_timeout_s:g} is less than"
                f" timeout_s = {self.timeout_s:g}"
            )


@attrs.frozen
class RateLimitSettings:
    """`[overload.rate_limit]`: how often one client may ask."""

    requests_per_minute: int = attrs.field(
        validator=at_least(1),
        metadata=doc(
            "Requests a minute that each client may make for ever; those without a"
            " name count as one."
        ),
    )
    burst: int = attrs.field(
        default=10,
        validator=at_least(1),
        metadata=doc("Requests that a client who was quiet may make at once."),
    )


@attrs.frozen
class OverloadSettings:
    """`[overload]`: how many requests run, how many wait, and for how long."""

    max_in_flight: int | None = attrs.field(
        default=None,
        validator=at_least(1),
        metadata=doc("Requests at once; absent: found out from the backends' speed."),
    )
    initial_limit: int = attrs.field(
        default=64,
        validator=at_least(1),
        metadata=doc("Requests at once to begin with, where that is found out."),
    )
    min_limit: int = attrs.field(
        default=4,
        validator=at_least(1),
        metadata=doc("Requests at once that always may run, where that is found out."),
    )
    max_limit: int = attrs.field(
        default=1024,
        validator=at_least(1),
        metadata=doc("The most requests at once, where that is found out."),
    )
    queue_length: int = attrs.field(
        default=256,
        validator=at_least(0),
        metadata=doc("Requests that may wait for their turn; others are refused."),
    )
    queue_age_s: float = attrs.field(
        default=1.0,
        validator=positive,
        metadata=doc("Seconds after which a waiting request is refused."),
    )
    admin_lane: int = attrs.field(
        default=4,
        validator=at_least(1),
        metadata=doc("Health and admin requests at once, beside all others."),
    )
    rate_limit: RateLimitSettings | None = attrs.field(
        default=None,
        metadata=doc("How often one client may ask; absent: as often as it likes."),
    )

    def __attrs_post_init__(self) -> None:
        if not self.min_limit <= self.initial_limit <= self.max_limit:
            raise ValueError("expected min_limit <= initial_limit <= max_limit")


@attrs.frozen
class PluginPolicy:
    """`[plugins]`: which installed distributions may provide plugins."""

    allow: tuple[str, ...] | None = attrs.field(
        default=None,
        metadata=doc(
            "Distributions, as `name` or `name==version`, whose plugins may be used;"
            " absent: every installed one that the configuration names."
        ),
    )


@attrs.frozen
class PriceTable:
    """`[backend.NAME.price]`: prices in US dollars."""

    input_usd_per_mtok: float = attrs.field(
        default=0.0,
        validator=at_least(0),
        metadata=doc("US dollars per million input tokens."),
    )
    output_usd_per_mtok: float = attrs.field(
        default=0.0,
        validator=at_least(0),
        metadata=doc("US dollars per million output tokens."),
    )
    request_usd: float = attrs.field(
        default=0.0, validator=at_least(0), metadata=doc("US dollars per request.")
    )
    search_usd: float = attrs.field(
        default=0.0, validator=at_least(0), metadata=doc("US dollars per web search.")
    )
    as_of: date | None = attrs.field(
        default=None, metadata=doc("The day on which these prices were true.")
    )

    def price(self) -> Price:
        """Return integer prices, rounded up to a whole micro-dollar."""
        return Price(
            _micro(self.input_usd_per_mtok),
            _micro(self.output_usd_per_mtok),
            _micro(self.request_usd),
            _micro(self.search_usd),
            self.as_of,
        )


@attrs.frozen
class BackendTable:
    """Keys that every `[backend.NAME]` has besides its plugin's own."""

    plugin: str = attrs.field(
        default="", metadata=doc("The backend plugin; default: the section's name.")
    )
    priority: int = attrs.field(
        default=1,
        validator=at_least(1),
        metadata=doc("Tier: 1 is tried first, 2 when nothing of tier 1 is left."),
    )
    weight: float = attrs.field(
        default=1.0,
        validator=at_least(0),
        metadata=doc("Share of traffic relative to others, for weighted algorithms."),
    )
    timeout_s: float = attrs.field(
        default=60.0,
        validator=positive,
        metadata=doc("Seconds one attempt on this backend may take."),
    )
    max_in_flight: int | None = attrs.field(
        default=None,
        validator=at_least(1),
        metadata=doc("Requests at once; default: what the plugin declares safe."),
    )
    region: str = attrs.field(
        default="", metadata=doc("Where the backend is, for `geographic`.")
    )
    coordinates: tuple[float, float] | None = attrs.field(
        default=None, metadata=doc("Latitude and longitude in degrees, instead.")
    )
    knowledge: Knowledge | None = attrs.field(
        default=None, metadata=doc("What it knows best; default: the plugin's.")
    )
    capabilities: tuple[str, ...] | None = attrs.field(
        default=None, metadata=doc("What it can do; default: the plugin's.")
    )
    models: Mapping[str, str] = attrs.field(
        factory=dict,
        metadata=doc(
            "Model names it serves: requested name, or pattern with `*` = name sent"
            ' upstream; "*" sends the requested name.'
        ),
    )
    price: PriceTable | None = attrs.field(
        default=None, metadata=doc("Prices; default: the plugin's.")
    )
    context_tokens: int | None = attrs.field(
        default=None,
        validator=at_least(1),
        metadata=doc("Tokens its context holds, to find a larger one when it is full."),
    )
    on_error: Mapping[str, Action] = attrs.field(
        factory=dict,
        validator=known_codes,
        metadata=doc(
            "What to do about an error, by its code; see `plb explain errors`."
        ),
    )


@attrs.frozen
class Track:
    """`[track.NAME]`: a way of choosing among backends."""

    algorithm: str = attrs.field(
        metadata=doc("The algorithm: a section `[algorithm.NAME]` or a plugin.")
    )
    fallback_algorithms: tuple[str, ...] = attrs.field(
        default=(), metadata=doc("Algorithms that choose, in order, when it fails.")
    )
    backends: tuple[str, ...] | None = attrs.field(
        default=None, metadata=doc("The backends it uses; default: all.")
    )


@attrs.frozen
class Route:
    """`[route."MODEL"]`: special treatment for one requested model name."""

    track: str | None = attrs.field(
        default=None, metadata=doc("The track; default: the one of `[routing]`.")
    )
    algorithm: str | None = attrs.field(
        default=None, metadata=doc("The algorithm, instead of the track's.")
    )
    tiers: tuple[tuple[str, ...], ...] | None = attrs.field(
        default=None, metadata=doc("Backends by tier, instead of their `priority`.")
    )


def _micro(usd: float) -> int:
    """Return micro-dollars, rounded up: a price is never understated."""
    micro = Decimal(repr(usd)) * 1_000_000
    return int(micro.to_integral_value(ROUND_CEILING))
