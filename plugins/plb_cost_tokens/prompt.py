"""How long a prompt is: an upper bound of its tokens, without a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from plb_core import Query

_TOKENS_PER_MESSAGE: Final = 16
"""Role names and separators; chat templates in use spend four to ten."""
_TOKENS_PER_IMAGE: Final = 4096
"""A remote image's bytes are not in the prompt; the dearest tile scheme in use
spends about 3,000 tokens on one."""


def prompt_bytes(query: Query) -> int:
    """Return a bound of the prompt's tokens: no tokenizer makes two of one byte.

    Counts the conversation, or the question where there is none, and tool and format
    definitions, which are read as part of the prompt.
    """
    total = sum(_json_bytes(value) for value in query.options.values())
    if not query.messages:
        return total + _TOKENS_PER_MESSAGE + _bytes(query.text)
    for message in query.messages:
        total += _TOKENS_PER_MESSAGE + sum(map(_value_bytes, message.values()))
    return total


def _value_bytes(value: object) -> int:
    if isinstance(value, str):
        return _bytes(value)
    if isinstance(value, list | tuple):
        return sum(_part_bytes(part) for part in value)
    return _json_bytes(value)


def _part_bytes(part: object) -> int:
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return _bytes(part["text"])
    return _TOKENS_PER_IMAGE + _json_bytes(part)


def _json_bytes(value: object) -> int:
    return _bytes(json.dumps(value, ensure_ascii=False, default=str))


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
