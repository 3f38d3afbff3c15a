from __future__ import annotations

import json

import pytest

from plb_backend_perplexity.refusals import refuse, until_reset_s
from plb_core import (
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendRefused,
    NoAnswer,
)
from plb_core.http.client import HttpAnswer


def error_answer(
    status: int, body: object, headers: dict[str, str] | None = None
) -> HttpAnswer:
    return HttpAnswer(status, headers or {}, json.dumps(body).encode())


def error_body(kind: str, text: str = "", code: object = None) -> dict[str, object]:
    return {"error": {"message": text, "type": kind, "code": code}}


CONFIGURED = (
    "Model 'sonar' is not supported",
    "Unknown model: sonar-pro",
    "Invalid model 'sonar'. Permitted models can be found in the documentation",
    "validation failed: max_output_tokens is required when using Anthropic models",
    "validation failed: tools[0]: search recency filter must be one of: hour day",
    "validation failed: max steps must be at least 1",
    "effort must be one of fast, low",
    "invalid search_domain_filter",
)
ASKED = (
    "validation failed: input cannot be empty",
    "validation failed: response_format.json_schema is required",
    "",
    "temperature out of range",
)


@pytest.mark.parametrize("text", CONFIGURED)
def test_a_400_about_a_configured_value_blames_the_configuration(text: str) -> None:
    error = refuse(error_answer(400, error_body("invalid_request", text, 400)))
    assert isinstance(error, BackendMisconfigured)


@pytest.mark.parametrize("text", ASKED)
def test_any_other_400_blames_the_question(text: str) -> None:
    error = refuse(error_answer(400, error_body("invalid_request", text, 400)))
    assert isinstance(error, NoAnswer)
    assert error.reason == "invalid_request"


def test_a_model_named_by_the_client_is_the_clients_mistake() -> None:
    answer = error_answer(400, error_body("invalid_model", "no such thing", 400))
    error = refuse(answer, model_from_client=True)
    assert isinstance(error, NoAnswer)
    assert isinstance(refuse(answer), BackendMisconfigured)


@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 128000 tokens",
        "input is too long",
        "context_window exceeded",
    ],
)
def test_too_long_a_prompt_is_told_as_such(text: str) -> None:
    error = refuse(error_answer(400, error_body("invalid_request", text)))
    assert isinstance(error, NoAnswer)
    assert error.reason == "context_length"


@pytest.mark.parametrize("status", [401, 402, 403])
def test_key_and_credit_problems_are_alike(status: int) -> None:
    error = refuse(error_answer(status, error_body("invalid_api_key", "k", status)))
    assert isinstance(error, BackendMisconfigured)
    assert not error.retryable


def test_the_retired_endpoint_says_what_to_set() -> None:
    body = error_body("chat_completions_not_available", "Sonar is gone", 403)
    error = refuse(error_answer(403, body))
    assert isinstance(error, BackendMisconfigured)
    assert "api = 'agent'" in str(error)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, "rate_limit"),
        (429, "overloaded"),
        (503, "overloaded"),
        (529, "overloaded"),
    ],
)
def test_load_is_busy_not_broken(status: int, kind: str) -> None:
    error = refuse(error_answer(status, error_body(kind), {"retry-after": "7"}))
    assert isinstance(error, BackendBusy)
    assert error.retry_after_s == 7


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, error_body("internal_error", "Stream error from backend", 500)),
        (502, "<html>"),
        (503, None),
        (418, {"error": None}),
    ],
)
def test_other_errors_keep_their_status(status: int, body: object) -> None:
    error = refuse(error_answer(status, body))
    assert isinstance(error, BackendRefused)
    assert error.status == status


def test_no_error_repeats_what_the_backend_said() -> None:
    for status in (400, 401, 403, 422, 429, 500, 503):
        body = error_body("invalid_request", "CANARY effort model unknown", status)
        error = refuse(error_answer(status, body))
        assert isinstance(error, BackendError | NoAnswer)
        assert "CANARY" not in str(error)


DATE = "Fri, 09 Oct 2026 19:07:20 GMT"  # 1791572840 in epoch seconds


@pytest.mark.parametrize(
    ("remaining", "reset", "date", "wait_s"),
    [
        ("0", "1791572900", DATE, 60.0),
        ("0", "1791572900", DATE.replace("GMT", "-0000"), 60.0),
        ("0", "1791572000", DATE, 0.0),
        ("0", "9" * 20, DATE, 3600.0),
        ("0", "9" * 21, DATE, None),
        ("0", "-1", DATE, None),
        ("0", "NaN", DATE, None),
        ("0", "1e99", DATE, None),
        ("0", "", DATE, None),
        ("0", "1791572900", "", None),
        ("0", "1791572900", "Fri, 99 Oct 99999 19:07:20 GMT", None),
        ("1", "1791572900", DATE, None),
        ("", "1791572900", DATE, None),
    ],
)
def test_a_used_up_limit_is_waited_for_until_its_reset(
    remaining: str, reset: str, date: str, wait_s: float | None
) -> None:
    headers = {
        "x-ratelimit-remaining": remaining,
        "x-ratelimit-reset": reset,
        "date": date,
    }
    assert until_reset_s(headers) == wait_s
    busy = refuse(error_answer(429, error_body("rate_limit"), headers))
    assert isinstance(busy, BackendBusy)
    assert busy.retry_after_s == wait_s
    overloaded = refuse(error_answer(503, error_body("overloaded"), headers))
    assert isinstance(overloaded, BackendBusy)
    assert overloaded.retry_after_s is None
    refused = refuse(error_answer(500, None, headers))
    assert isinstance(refused, BackendRefused)
    assert refused.retry_after_s is None


def test_a_named_wait_wins_over_the_reset() -> None:
    headers = {
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "1791572900",
        "date": DATE,
        "retry-after": "0",
    }
    busy = refuse(error_answer(429, None, headers))
    assert isinstance(busy, BackendBusy)
    assert busy.retry_after_s == 0
