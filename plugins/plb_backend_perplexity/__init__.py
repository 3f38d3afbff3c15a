"""Backend `perplexity`: Perplexity's Agent API, and relays of its retired chat form.

The Search API is a backend of its own, in `plb_backend_perplexity.search_api`.
"""

from plb_backend_perplexity.backend import Perplexity
from plb_backend_perplexity.settings import PerplexitySettings
from plb_core import Provider, hookimpl
from plb_core.protocols import Backend


@hookimpl
def plb_register_backend() -> Provider[Backend]:
    """Offer the Agent API."""
    return Provider(
        name="perplexity",
        build=Perplexity,
        settings=PerplexitySettings,
        summary="Perplexity's Agent API: sourced answers from the live web.",
    )
