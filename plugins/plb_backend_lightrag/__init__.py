"""The `lightrag` backend: a LightRAG server and its knowledge graph.

Wire facts were recorded from lightrag-server 1.5.7 (API version 0344).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plb_backend_lightrag.backend import LightRAGBackend, build
from plb_backend_lightrag.settings import LightRAGSettings
from plb_core import Provider, hookimpl

if TYPE_CHECKING:
    from plb_core.protocols import Backend

__all__ = ["LightRAGBackend", "LightRAGSettings", "plb_register_backend"]


@hookimpl
def plb_register_backend() -> Provider[Backend]:
    """Offer the backend."""
    return Provider(
        name="lightrag",
        build=build,
        settings=LightRAGSettings,
        summary="a LightRAG server: graph knowledge with references, streaming",
    )
