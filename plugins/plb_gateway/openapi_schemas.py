"""Every JSON Schema of the OpenAPI document by name."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from plb_gateway import answer_schemas as answers
from plb_gateway import request_schemas as requests
from plb_gateway.schema_forms import OBJECT, SHARE, STRING, Schema, listing, record

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL: Final[Mapping[str, Schema]] = MappingProxyType(
    {
        "ChatRequest": requests.CHAT_REQUEST,
        "ChatAnswer": answers.CHAT_ANSWER,
        "ResponsesRequest": requests.RESPONSES_REQUEST,
        "ResponsesAnswer": answers.RESPONSES_ANSWER,
        "EmbeddingsRequest": requests.EMBEDDINGS_REQUEST,
        "EmbeddingsAnswer": answers.EMBEDDINGS_ANSWER,
        "Models": record(
            ("object", "data"),
            object={"const": "list"},
            data=listing(answers.MODEL_ENTRY),
        ),
        "Model": answers.MODEL_ENTRY,
        "Question": requests.QUESTION,
        "Answer": answers.ANSWER,
        "Feedback": requests.FEEDBACK,
        "Accepted": record(
            ("request_id", "accepted"),
            request_id=STRING,
            accepted={"type": "object", "additionalProperties": SHARE},
        ),
        "Explanation": record(
            ("request_id", "track", "attempts"),
            request_id=STRING,
            track=STRING,
            attempts=listing(OBJECT),
        ),
        "Status": record(("status",), status=STRING),
        "Document": OBJECT,
        "Error": answers.ERROR,
    }
)
