"""Keep each tenant on one backend, and move as few as possible when backends change."""

from __future__ import annotations

import hashlib
from typing import Final

import attrs
from plb_core import (
    BuildContext,
    Candidate,
    Provider,
    Query,
    ScoringAlgorithm,
    doc,
    hookimpl,
)
from plb_core.settings import positive, share

HASH_BYTES: Final = 6  # 48 bits: hash + 1/2 is exact in a float, so u is never 1


@attrs.frozen
class Settings:
    """What `[algorithm.sticky_tenant]` accepts."""

    attribute: str = attrs.field(
        default="tenant",
        metadata=doc("Attribute of the query that names the tenant."),
    )
    use_session: bool = attrs.field(
        default=True,
        metadata=doc("Go by the session when a query names no tenant."),
    )
    full_share: float = attrs.field(
        default=1.0,
        validator=[positive, share],
        metadata=doc(
            "Share of max_in_flight from which a tenant moves on to its next backend."
        ),
    )


class StickyTenant(ScoringAlgorithm):
    """Prefer the backend that a hash of tenant and backend puts first.

    Score: u^(1/w), where u is the hash of tenant and backend's name in (0, 1) and w
    the backend's weight; 1 lower when the backend is full. So each backend gets its
    share of tenants by weight, and one that leaves moves only its own tenants.
    Knows no tenant: all scores are equal, so the choice is drawn by lot.
    Source: rendezvous hashing (Thaler and Ravishankar, 1998), weighted as in
    Schindelhauer and Schomaker (2005).
    Memory: none.
    """

    def __init__(self, settings: Settings, context: BuildContext) -> None:
        super().__init__(context)
        self.settings = settings

    def score(self, query: Query, candidate: Candidate) -> float:
        """Return the candidate's place in this tenant's order, -1..1."""
        tenant = query.attributes.get(self.settings.attribute, "")
        if not tenant and self.settings.use_session:
            tenant = query.session
        full = candidate.in_flight >= self.settings.full_share * candidate.max_in_flight
        place = 0.0
        if tenant and candidate.weight > 0:
            place = _hash(tenant, candidate.name) ** (1.0 / candidate.weight)
        return place - 1.0 if full else place


def _hash(tenant: str, backend: str) -> float:
    """Return a number in (0, 1), the same in every process and on every machine."""
    text = f"{len(tenant)}:{tenant}{backend}"  # the length keeps "ab"+"c" off "a"+"bc"
    digest = hashlib.blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=HASH_BYTES
    ).digest()
    return (int.from_bytes(digest) + 0.5) / 2.0 ** (8 * HASH_BYTES)


@hookimpl
def plb_register_algorithm() -> Provider[StickyTenant]:
    """Offer `sticky_tenant`."""
    return Provider(
        "sticky_tenant", StickyTenant, Settings, "one backend for each tenant"
    )
