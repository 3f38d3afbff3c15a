"""Backend `openai`: any OpenAI-compatible endpoint, for chat and embeddings."""

from plb_backend_openai.backend import OpenAIBackend
from plb_backend_openai.settings import OpenAISettings
from plb_core import Provider, hookimpl
from plb_core.protocols import Backend


@hookimpl
def plb_register_backend() -> Provider[Backend]:
    """Offer OpenAI-compatible endpoints."""
    return Provider(
        name="openai",
        build=OpenAIBackend,
        settings=OpenAISettings,
        summary="Any OpenAI-compatible endpoint: chat, streams, embeddings.",
    )
