"""Turn Perplexity's error responses into what they mean for plb."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from plb_backend_perplexity import wire
from plb_backend_perplexity.answers import is_busy
from plb_core import BackendBusy, BackendMisconfigured, NoAnswer, RequestError
from plb_core.http.client import HttpAnswer, refusal, retry_after_s

WHO: Final = "Perplexity"
_MESSAGE_CHARACTERS: Final = 2000
_MAX_WAIT_S: Final = 3600.0
_ABOUT_LENGTH: Final = re.compile(
    r"context[ _](length|window)|maximum context|too many (input )?tokens|too long",
    re.IGNORECASE,
)
_ABOUT_MODEL: Final = re.compile(
    r"\bmodels?\b.*\b(not supported|unsupported|unknown|invalid|not found|"
    r"not available|does not exist)\b"
    r"|\b(unsupported|unknown|invalid)\b.{0,20}\bmodels?\b"
    r"|when using \w+ models",
    re.IGNORECASE | re.DOTALL,
)
_ABOUT_SETTINGS: Final = re.compile(
    r"\btools\[|\bmax_output_tokens is required"
    r"|\b(effort|preset|max[ _]steps|user[ _]location|"
    r"search[ _](domain|recency|after|before|context|type)\w*)\b",
    re.IGNORECASE,
)


def refuse(answer: HttpAnswer, *, model_from_client: bool = False) -> RequestError:
    """Return the error for a response that is not a success.

    A 400 blames whoever chose the offending value: the configuration for a model,
    effort or filter it set, the question otherwise.
    """
    error = wire.table(wire.table(answer.data).get("error"))
    if error.get("type") == "chat_completions_not_available":
        message = "Perplexity retired its chat-completions endpoints: set api = 'agent'"
        return BackendMisconfigured(message)
    if answer.status == 429 or is_busy(error):  # noqa: PLR2004 - an HTTP status
        wait_s = retry_after_s(answer.headers)
        if wait_s is None and answer.status == 429:  # noqa: PLR2004 - as above
            wait_s = until_reset_s(answer.headers)
        return BackendBusy(f"{WHO} asks for less traffic", retry_after_s=wait_s)
    if answer.status in (400, 422):
        return _invalid(error, model_from_client=model_from_client)
    return refusal(answer, WHO)


def _invalid(error: Mapping[str, object], *, model_from_client: bool) -> RequestError:
    message = wire.text(error.get("message"))[:_MESSAGE_CHARACTERS]
    if _ABOUT_LENGTH.search(message):
        return NoAnswer(f"too long for {WHO}", reason="context_length")
    about_model = error.get("type") == "invalid_model" or _ABOUT_MODEL.search(message)
    if about_model and not model_from_client:
        return BackendMisconfigured(
            f"{WHO} refuses the configured model; names have the form provider/model"
        )
    if not about_model and _ABOUT_SETTINGS.search(message):
        return BackendMisconfigured(
            f"{WHO} refuses a configured effort, limit or search filter"
        )
    return NoAnswer(f"{WHO} calls the request invalid", reason="invalid_request")


def until_reset_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds until a used-up rate limit starts anew, at most an hour.

    The reset is an epoch time; it is compared with the response's own `Date`, so a
    wrong clock on either side does no harm. None when the headers do not say.
    """
    reset = headers.get("x-ratelimit-reset", "").strip()
    spent = headers.get("x-ratelimit-remaining", "").strip() == "0"
    if not spent or not re.fullmatch(r"[0-9]{1,20}", reset):
        return None
    try:
        sent_at = parsedate_to_datetime(headers.get("date", ""))
    except (TypeError, ValueError, OverflowError):
        return None
    if sent_at.tzinfo is None:
        sent_at = sent_at.replace(tzinfo=UTC)
    return min(max(int(reset) - sent_at.timestamp(), 0.0), _MAX_WAIT_S)
