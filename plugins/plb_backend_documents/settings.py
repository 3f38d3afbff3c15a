"""What can be set for a `documents` backend."""

from __future__ import annotations

import attrs

from plb_core import doc
from plb_core.settings import at_least, share


def _file_name(_: object, __: attrs.Attribute[str | None], value: str | None) -> None:
    if value is not None and not value.strip():
        message = "expected the path of an index file, got an empty string"
        raise ValueError(message)


@attrs.frozen
class DocumentsSettings:
    """Settings of a `documents` backend."""

    index: str | None = attrs.field(
        default=None,
        validator=_file_name,
        metadata=doc(
            "The index file made by `plb index`, relative to the configuration file;"
            " without it the shipped starter collection is searched."
        ),
    )
    min_coverage: float = attrs.field(
        default=0.4,
        validator=share,
        metadata=doc(
            "Weighted share of the question's words that the quoted sentences must"
            " contain; below it the backend has no answer."
        ),
    )
    max_sentences: int = attrs.field(
        default=4,
        validator=at_least(1),
        metadata=doc("How many sentences an answer quotes at most."),
    )
    passages: int = attrs.field(
        default=8,
        validator=at_least(1),
        metadata=doc("How many of the best passages are searched for sentences."),
    )
    semantic: bool = attrs.field(
        default=False,
        metadata=doc(
            "Whether questions without enough common words are also compared by"
            " meaning; needs `plb index --semantic` and the extra `plb[semantic]`."
        ),
    )
