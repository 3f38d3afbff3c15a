"""Store `memory`: the ledger of the money, forgotten when the process ends."""

from plb_core import Provider, hookimpl
from plb_core.protocols import Store
from plb_core.store import MemoryStore


@hookimpl
def plb_register_store() -> Provider[Store]:
    """Offer the store."""
    return Provider(
        name="memory",
        build=lambda _settings, _context: MemoryStore(),
        summary="Keeps the ledger in memory; nothing survives the process.",
    )
