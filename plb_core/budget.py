"""The section `[budget]`: how much money may be spent a day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, tzinfo
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Literal
from zoneinfo import ZoneInfo

import attrs

from plb_core.ledger_records import Scope
from plb_core.settings import at_least, doc, share
from plb_core.spending import LARGEST_MICRO_USD, Caps
from plb_core.structure import StructureError
from plb_core.toml_lines import Path


def _amount(value: float) -> str:
    """Return what is wrong with a daily amount in US dollars, "" for nothing."""
    most = LARGEST_MICRO_USD // 1_000_000
    if 0 <= value <= most:
        return ""
    return f"expected US dollars from 0 to {most}, got {value!r}"


def _daily(_: Any, __: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and (wrong := _amount(value)):
        raise ValueError(wrong)


def _daily_by_name(
    _: Any, __: attrs.Attribute[Any], table: Mapping[str, float]
) -> None:
    wrong: list[tuple[Path, str]] = [
        ((name,), _amount(usd)) for name, usd in table.items() if _amount(usd)
    ]
    if wrong:
        raise StructureError(wrong)


def _zone_name(_: Any, __: attrs.Attribute[Any], name: str) -> None:
    try:
        _zone(name)
    except (OSError, ValueError, LookupError) as error:
        message = (
            f"there is no time zone {name!r} on this machine; names are like"
            " 'Europe/Berlin' (the package tzdata brings them where they are missing)"
        )
        raise ValueError(message) from error


def _zone(name: str) -> tzinfo:
    # Works without a time zone database, as small containers have none.
    return UTC if name == "UTC" else ZoneInfo(name)


def _micro(usd: float) -> int:
    """Return micro-dollars, rounded down: a cap is never overstated."""
    micro = Decimal(repr(usd)) * 1_000_000
    return int(micro.to_integral_value(ROUND_FLOOR))


@attrs.frozen
class Budget:
    """`[budget]`: how much money may be spent a day, and what happens then.

    Without any cap all money is counted and none refused.
    """

    store: str = attrs.field(
        default="memory",
        metadata=doc(
            "Where the ledger is kept: a section `[store.NAME]` or a plugin; `memory`"
            " forgets it at the end."
        ),
    )
    timezone: str = attrs.field(
        default="UTC",
        validator=_zone_name,
        metadata=doc("The time zone whose midnight begins a new day."),
    )
    daily_usd: float | None = attrs.field(
        default=None,
        validator=_daily,
        metadata=doc("US dollars a day for everything; absent: no such cap."),
    )
    alert_share: float = attrs.field(
        default=0.8,
        validator=share,
        metadata=doc("Share of a cap at which `budget_alert` is announced, once."),
    )
    when_exhausted: Literal["elsewhere", "refuse"] = attrs.field(
        default="elsewhere",
        metadata=doc(
            "Without room: `elsewhere` asks backends that still fit or are free;"
            " `refuse` refuses the question."
        ),
    )
    min_output_tokens: int = attrs.field(
        default=64,
        validator=at_least(1),
        metadata=doc("Output tokens below which an answer is not cut to fit a budget."),
    )
    max_output_tokens: int = attrs.field(
        default=4096,
        validator=at_least(1),
        metadata=doc("Output tokens sent and reserved when the question sets none."),
    )
    wait_s: float = attrs.field(
        default=0.2,
        validator=at_least(0),
        metadata=doc("Seconds to wait for other questions' bills before refusing."),
    )
    backend: Mapping[str, float] = attrs.field(
        factory=dict,
        validator=_daily_by_name,
        metadata=doc("US dollars a day by backend."),
    )
    track: Mapping[str, float] = attrs.field(
        factory=dict,
        validator=_daily_by_name,
        metadata=doc("US dollars a day by track."),
    )
    client: Mapping[str, float] = attrs.field(
        factory=dict,
        validator=_daily_by_name,
        metadata=doc("US dollars a day by client key's name."),
    )

    def __attrs_post_init__(self) -> None:
        if self.min_output_tokens > self.max_output_tokens:
            raise ValueError("min_output_tokens is above max_output_tokens")

    def zone(self) -> tzinfo:
        """Return the time zone of the days."""
        return _zone(self.timezone)

    def caps(self) -> Caps:
        """Return the caps in micro-USD, rounded down: a cap is never overstated."""
        limits: dict[Scope, int] = {}
        if self.daily_usd is not None:
            limits[Scope()] = _micro(self.daily_usd)
        for name, usd in self.backend.items():
            limits[Scope("backend", name)] = _micro(usd)
        for name, usd in self.track.items():
            limits[Scope("track", name)] = _micro(usd)
        for name, usd in self.client.items():
            limits[Scope("client", name)] = _micro(usd)
        return Caps(limits, self.alert_share)
