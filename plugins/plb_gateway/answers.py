"""Build the HTTP answers: a closed list of headers, JSON bodies, error bodies."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from plb_core import strict_json
from plb_gateway.whole_answer import WholeAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plb_gateway.errors import Refusal

JSON_TYPE: Final = "application/json"
SSE_TYPE: Final = "text/event-stream"
# After two minutes OpenAI's client gives up instead of waiting.
_LONGEST_WAIT_S: Final = 86_400.0


def header_safe(value: str) -> str:
    """Return a name fit for a header; anything but printable ASCII is %-escaped."""
    if value.isascii() and value.isprintable():
        return value
    return quote(value, safe=" :/@")


def base_headers(content_type: str, request_id: str) -> dict[str, str]:
    """Return the headers every answer carries."""
    return {
        "Content-Type": content_type,
        "Server": "plb",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
        "x-request-id": request_id,
    }


def routed_headers(
    content_type: str,
    *,
    request_id: str,
    backend: str,
    track: str,
    algorithm: str,
    attempts: int,
    overhead_s: float,
) -> dict[str, str]:
    """Return the headers of an answer that a backend gave."""
    return {
        **base_headers(content_type, request_id),
        **_choice(backend, track, algorithm),
        "x-plb-attempts": str(attempts),
        "x-plb-overhead-us": str(round(overhead_s * 1e6)),
    }


# Bounded by configured names, but a reload may bring new ones for ever.
@lru_cache(maxsize=256)
def _choice(backend: str, track: str, algorithm: str) -> Mapping[str, str]:
    return {
        "x-plb-backend": header_safe(backend),
        "x-plb-track": header_safe(track),
        "x-plb-algorithm": header_safe(algorithm),
    }


def json_answer(
    body: object, headers: Mapping[str, str], status: int = 200
) -> WholeAnswer:
    """Return a JSON response."""
    return WholeAnswer(strict_json.dumps(body), headers, status)


def error_answer(refusal: Refusal, request_id: str) -> WholeAnswer:
    """Return the response of an error of the catalogue."""
    entry = refusal.entry
    headers = base_headers(JSON_TYPE, refusal.request_id or request_id)
    if entry.retry == "no":
        headers["x-should-retry"] = "false"
    wait_s = refusal.retry_after_s
    if wait_s is None:
        wait_s = entry.retry_after_s
    if wait_s is not None:
        wait_s = min(max(wait_s, 0.0), _LONGEST_WAIT_S)
        headers["retry-after-ms"] = str(math.ceil(wait_s * 1000))
        headers["Retry-After"] = str(math.ceil(wait_s))
    if refusal.allow:
        headers["Allow"] = refusal.allow
    if entry.status == 401:  # noqa: PLR2004 - RFC 9110 asks for the challenge
        headers["WWW-Authenticate"] = "Bearer"
    answer = json_answer(refusal.body(), headers, entry.status)
    if refusal.close:
        answer.force_close()
    return answer
