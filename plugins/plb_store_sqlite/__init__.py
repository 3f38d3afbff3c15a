"""Store `sqlite`: the ledger of the money in one file, durable before it is spent."""

from plb_core import Provider, hookimpl
from plb_core.protocols import Store
from plb_store_sqlite.store import SqliteStore, SqliteStoreSettings


@hookimpl
def plb_register_store() -> Provider[Store]:
    """Offer the store."""
    return Provider(
        name="sqlite",
        build=lambda settings, context: SqliteStore(context.folder / settings.path),
        settings=SqliteStoreSettings,
        summary="Keeps the ledger in one SQLite file, durable before money is spent.",
    )
