"""What can be set for a LightRAG backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import attrs

from plb_core.http.client import HttpSettings, backend_url
from plb_core.settings import EnvVar, at_least, doc, positive

if TYPE_CHECKING:
    from collections.abc import Mapping

Mode = Literal["local", "global", "hybrid", "naive", "mix", "bypass"]


def _not_blank(_: Any, __: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not value.strip():
        message = "expected some text"
        raise ValueError(message)


@attrs.frozen
class LightRAGSettings(HttpSettings):
    """Settings of one `[backend.NAME]` with `plugin = "lightrag"`."""

    base_url: str = attrs.field(
        default="http://127.0.0.1:9621",
        validator=backend_url,
        metadata=doc("Address of the server, with its API prefix if it has one."),
    )
    allow_private: bool = attrs.field(
        default=True,
        metadata=doc(
            "Allow loopback and private addresses, where LightRAG usually runs."
        ),
    )
    # A graph question is two language-model calls before the first byte, often by a
    # local model; the general defaults would cut those off.
    first_byte_timeout_s: float = attrs.field(
        default=60.0,
        validator=positive,
        metadata=doc("Longest wait for the first byte of an answer, in seconds."),
    )
    idle_timeout_s: float = attrs.field(
        default=30.0,
        validator=positive,
        metadata=doc("Longest silence in the middle of an answer, in seconds."),
    )
    mode: Mode = attrs.field(
        default="mix",
        metadata=doc(
            "Retrieval mode; `naive` uses passages alone, `bypass` no retrieval."
        ),
    )
    top_k: int | None = attrs.field(
        default=None,
        validator=at_least(1),
        metadata=doc(
            "Entities or relations to retrieve; the server's default if unset."
        ),
    )
    chunk_top_k: int | None = attrs.field(
        default=None,
        validator=at_least(1),
        metadata=doc("Text passages to retrieve; the server's default if unset."),
    )
    response_type: str | None = attrs.field(
        default=None,
        validator=_not_blank,
        metadata=doc("Form of the answer in words, such as `Bullet Points`."),
    )
    include_references: bool = attrs.field(
        default=True,
        metadata=doc("Ask for the sources of each answer."),
    )
    include_chunk_content: bool = attrs.field(
        default=True,
        metadata=doc("Ask for the text of each source, to quote from it."),
    )
    api_key_env: EnvVar | None = attrs.field(
        default=None,
        metadata=doc("Environment variable with the key sent as `X-API-Key`."),
    )
    username_env: EnvVar | None = attrs.field(
        default=None,
        metadata=doc(
            "Environment variable with the account's name, for servers with a login."
        ),
    )
    password_env: EnvVar | None = attrs.field(
        default=None,
        metadata=doc("Environment variable with the account's password."),
    )
    degraded: bool = attrs.field(
        default=False,
        metadata=doc(
            "Answer with quoted passages while the server's language model is down,"
            " instead of failing over."
        ),
    )

    def retrieval(self) -> Mapping[str, object]:
        """Return the request fields that are the same for every question."""
        optional = {
            "top_k": self.top_k,
            "chunk_top_k": self.chunk_top_k,
            "response_type": self.response_type,
        }
        return {
            "mode": self.mode,
            "include_references": self.include_references,
            "include_chunk_content": (
                self.include_references and self.include_chunk_content
            ),
            **{name: value for name, value in optional.items() if value is not None},
        }
