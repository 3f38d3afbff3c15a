"""JSON Schemas of the bodies that the gateway sends."""

from __future__ import annotations

from typing import Final

from plb_gateway.catalogue import CATALOGUE
from plb_gateway.schema_forms import (
    COUNT,
    FLAG,
    MAYBE_STRING,
    MESSAGE,
    OBJECT,
    SEARCH_RESULT,
    SHARE,
    STRING,
    USAGE,
    USD,
    listing,
    record,
)

CHAT_ANSWER: Final = record(
    ("id", "object", "created", "model", "choices", "usage", "citations"),
    id=STRING,
    object={"const": "chat.completion"},
    created=COUNT,
    model=STRING,
    system_fingerprint=STRING,
    choices=listing(
        record(
            ("index", "message", "finish_reason"),
            index=COUNT,
            message=MESSAGE,
            finish_reason={"enum": ["stop", "length", "content_filter", "tool_calls"]},
        )
    ),
    usage=USAGE,
    citations=listing(STRING),
    search_results=listing(SEARCH_RESULT),
)
RESPONSES_ANSWER: Final = record(
    ("id", "object", "created_at", "status", "model", "output", "usage"),
    id=STRING,
    object={"const": "response"},
    created_at=COUNT,
    status={"enum": ["completed", "incomplete"]},
    model=STRING,
    output=listing(record(("type",), type=STRING)),
    usage=USAGE,
    citations=listing(STRING),
    search_results=listing(SEARCH_RESULT),
)
EMBEDDINGS_ANSWER: Final = record(
    ("object", "data", "model", "usage"),
    object={"const": "list"},
    data=listing(
        record(
            ("index", "embedding"),
            index=COUNT,
            embedding={"oneOf": [STRING, listing({"type": "number"})]},
        )
    ),
    model=STRING,
    usage=OBJECT,
)
ANSWER: Final = record(
    ("request_id", "answer", "sources", "backend", "track", "algorithm", "label"),
    request_id=STRING,
    answer=STRING,
    sources=listing(
        record(
            ("title", "url"), title=STRING, url=STRING, quote=STRING, published=STRING
        )
    ),
    label=STRING,
    llm_generated=FLAG,
    finish_reason=STRING,
    backend=STRING,
    model=STRING,
    track=STRING,
    algorithm=STRING,
    attempts=COUNT,
    cost_usd=USD,
    quality={"type": ["object", "null"], "additionalProperties": SHARE},
    usage=USAGE,
    latency_ms={"type": "number", "minimum": 0},
)
MODEL_ENTRY: Final = record(
    ("id", "object", "created", "owned_by"),
    id=STRING,
    object={"const": "model"},
    created=COUNT,
    owned_by=STRING,
)
ERROR: Final = record(
    ("error",),
    error=record(
        ("message", "type", "param", "code"),
        message=STRING,
        type=STRING,
        param=MAYBE_STRING,
        code={"enum": list(CATALOGUE)},
    ),
)
