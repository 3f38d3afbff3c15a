"""An embedded backend: answers with sentences quoted from your own documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plb_backend_documents.settings import DocumentsSettings
from plb_core import BuildContext, Provider, hookimpl

if TYPE_CHECKING:
    from plb_core.protocols import Backend


def _build(settings: DocumentsSettings, context: BuildContext) -> Backend:
    # Imported late: `plb index` and listings of plugins load this package too.
    from plb_backend_documents.backend import DocumentsBackend  # noqa: PLC0415

    return DocumentsBackend(settings, context)


@hookimpl
def plb_register_backend() -> Provider[Backend]:
    """Offer `documents`."""
    return Provider(
        name="documents",
        build=_build,
        settings=DocumentsSettings,
        summary="Quotes sentences from indexed Markdown and text; no key, no network.",
    )
