"""What can be set for an OpenAI-compatible backend."""

from __future__ import annotations

from typing import Literal

import attrs

from plb_core.http.client import HttpSettings, backend_url
from plb_core.settings import EnvVar, doc, positive

TokenLimit = Literal["auto", "max_tokens", "max_completion_tokens"]


@attrs.frozen(kw_only=True)
class OpenAISettings(HttpSettings):
    """Where the endpoint is, which key it wants and which models it is asked for."""

    base_url: str = attrs.field(
        default="https://api.openai.com/v1",
        validator=backend_url,
        metadata=doc("Address of the endpoint, with its version: …/v1."),
    )
    api_key_env: EnvVar | None = attrs.field(
        default=None,
        metadata=doc("Environment variable that holds the key; none sends no key."),
    )
    model: str = attrs.field(
        default="",
        metadata=doc("Model to ask for when the backend's `models` name none."),
    )
    embedding_model: str = attrs.field(
        default="",
        metadata=doc("Model for embeddings; empty switches embeddings off."),
    )
    token_limit_field: TokenLimit = attrs.field(
        default="auto",
        metadata=doc(
            "Name under which the token limit is sent; auto is max_completion_tokens"
            " for api.openai.com and max_tokens elsewhere."
        ),
    )
    stream_usage: bool = attrs.field(
        default=True,
        metadata=doc("Ask for token counts in streams (stream_options)."),
    )
    first_byte_timeout_s: float = attrs.field(
        default=60.0,
        validator=positive,
        metadata=doc(
            "Longest wait for the first byte; a whole answer is written before it."
        ),
    )
    idle_timeout_s: float = attrs.field(
        default=30.0,
        validator=positive,
        metadata=doc("Longest silence within an answer."),
    )
