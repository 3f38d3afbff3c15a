"""What can be set for the two Perplexity backends."""

from __future__ import annotations

import re
from datetime import date
from typing import Any, Final, Literal

import attrs

from plb_core.http.client import HttpSettings, backend_url
from plb_core.settings import EnvVar, at_least, doc, positive

_EFFORT: Final = re.compile(
    r"(fast|low|medium|high|xhigh)(@\d{4}-\d{2}-\d{2}\.\d{1,6})?"
)
_MODEL: Final = re.compile(r"[a-z0-9_-]+/[A-Za-z0-9._:-]+")
_DOMAIN: Final = re.compile(r"-?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(/[^\s?#]*)?")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_MAX_DOMAINS: Final = 20
"""The vendor's limit on a domain filter."""


def effort_level(name: str) -> str | None:
    """Return the level of a plain or pinned effort, or None for any other name."""
    match = _EFFORT.fullmatch(name)
    return match[1] if match else None


def _effort(_: Any, __: attrs.Attribute[Any], value: str) -> None:
    if value and effort_level(value) is None:
        message = (
            "expected fast, low, medium, high or xhigh, optionally pinned as in"
            f" 'fast@2026-10-16.0', or '' for none; got {value[:40]!r}"
        )
        raise ValueError(message)


def _domains(_: Any, __: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    if len(value) > _MAX_DOMAINS:
        message = f"expected at most {_MAX_DOMAINS} domains, got {len(value)}"
        raise ValueError(message)
    for domain in value:
        if not _DOMAIN.fullmatch(domain):
            message = (
                "expected domains like 'nature.com', or '-example.org' to leave one"
                f" out; got {domain[:60]!r}"
            )
            raise ValueError(message)


def _country(_: Any, __: attrs.Attribute[Any], value: str | None) -> None:
    if value is not None and not _COUNTRY.fullmatch(value):
        message = f"expected a country code of two capitals, got {value[:20]!r}"
        raise ValueError(message)


def is_namespaced(model: str) -> bool:
    """Return whether a model name has the form `provider/model`."""
    return _MODEL.fullmatch(model) is not None


@attrs.frozen
class SearchFilters:
    """`[backend.NAME.search]`: where and how the web is searched."""

    domains: tuple[str, ...] = attrs.field(
        default=(),
        validator=_domains,
        metadata=doc(
            "Domains to search, or with a leading `-` to leave out; up to 20."
        ),
    )
    recency: Literal["hour", "day", "week", "month", "year"] | None = attrs.field(
        default=None, metadata=doc("Only pages as recent as this.")
    )
    after: date | None = attrs.field(
        default=None, metadata=doc("Only pages published after this day.")
    )
    before: date | None = attrs.field(
        default=None, metadata=doc("Only pages published before this day.")
    )
    context_size: Literal["low", "medium", "high"] | None = attrs.field(
        default=None, metadata=doc("How much of each page is read.")
    )
    type: Literal["web", "fast"] | None = attrs.field(
        default=None, metadata=doc("Standard or fast search; fast costs less.")
    )
    country: str | None = attrs.field(
        default=None,
        validator=_country,
        metadata=doc("Two-letter country code that results are meant for."),
    )


@attrs.frozen
class AccountSettings(HttpSettings):
    """What every call to Perplexity needs."""

    base_url: str = attrs.field(
        default="https://api.perplexity.ai",
        validator=backend_url,
        metadata=doc("Address of the API, or of a compatible relay."),
    )
    first_byte_timeout_s: float = attrs.field(
        default=60.0,
        validator=positive,
        metadata=doc(
            "Seconds until the answer begins; searching and thinking come first."
        ),
    )
    idle_timeout_s: float = attrs.field(
        default=60.0,
        validator=positive,
        metadata=doc("Longest silence within an answer; searching makes pauses."),
    )
    api_key_env: EnvVar = attrs.field(
        default=EnvVar("PERPLEXITY_API_KEY"),
        metadata=doc("Name of the environment variable that holds the API key."),
    )
    search: SearchFilters = attrs.field(
        factory=SearchFilters, metadata=doc("Where and how the web is searched.")
    )
    prices_file: str | None = attrs.field(
        default=None,
        metadata=doc("A price file written by `plb prices`; default: the shipped one."),
    )


@attrs.frozen
class PerplexitySettings(AccountSettings):
    """`[backend.NAME]` with `plugin = "perplexity"`."""

    api: Literal["agent", "chat"] = attrs.field(
        default="agent",
        metadata=doc(
            "`agent` for Perplexity itself; `chat` for relays that still speak the"
            " retired chat-completions form."
        ),
    )
    effort: str = attrs.field(
        default="fast",
        validator=_effort,
        metadata=doc(
            "Effort level, plain or pinned (`fast@2026-10-16.0`); `''` leaves it to"
            " `model`. `medium` and above run in the background."
        ),
    )
    model: str | None = attrs.field(
        default=None,
        metadata=doc(
            "Model as `provider/model`; default: the one the effort level picks."
        ),
    )
    instructions: str | None = attrs.field(
        default=None, metadata=doc("System instructions sent with every question.")
    )
    max_steps: int | None = attrs.field(
        default=None,
        validator=at_least(1),
        metadata=doc("Most search-and-read rounds per question, up to 100."),
    )
    max_output_tokens: int | None = attrs.field(
        default=None,
        validator=at_least(1),
        metadata=doc("Longest answer in tokens when the question sets no limit."),
    )
    poll_interval_s: float = attrs.field(
        default=2.0,
        validator=positive,
        metadata=doc("Seconds between two looks at a background run."),
    )


@attrs.frozen
class SearchApiSettings(AccountSettings):
    """`[backend.NAME]` with `plugin = "perplexity_search"`."""

    max_results: int = attrs.field(
        default=5,
        validator=at_least(1),
        metadata=doc("Most results in an answer, up to 20."),
    )
