from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from plb_core.errors import BackendBusy, BackendMisconfigured, BackendRefused
from plb_core.http.client import HttpAnswer, refusal, retry_after_s

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def after(seconds: float) -> str:
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


TABLE: list[tuple[dict[str, str], float | None]] = [
    ({}, None),
    ({"retry-after": "0"}, 0.0),
    ({"retry-after": "2"}, 2.0),
    ({"retry-after": " 7 "}, 7.0),
    ({"retry-after": "0.3"}, 0.3),
    ({"retry-after": "59.999"}, 59.999),
    ({"retry-after": "3600"}, 3600.0),
    ({"retry-after": "3601"}, 3600.0),
    ({"retry-after": "1000000000"}, 3600.0),
    ({"retry-after": "9" * 20}, 3600.0),
    ({"retry-after": "9" * 400}, None),
    ({"retry-after": "-1"}, None),
    ({"retry-after": "+1"}, None),
    ({"retry-after": "1e9"}, None),
    ({"retry-after": "NaN"}, None),
    ({"retry-after": "inf"}, None),
    ({"retry-after": ""}, None),
    ({"retry-after": "soon"}, None),
    ({"retry-after": "1, 5"}, None),
    ({"retry-after": "0x10"}, None),
    ({"retry-after": "٣"}, None),
    ({"retry-after": "1_0"}, None),
    ({"retry-after": after(30)}, 30.0),
    ({"retry-after": after(-30)}, 0.0),
    ({"retry-after": after(90_000)}, 3600.0),
    ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 3600.0),
    ({"retry-after": "Tue, 24 Nov 2026 12:00:10"}, 10.0),
    ({"retry-after": "Tue, 24 Nov 2026 14:00:10 +0200"}, 10.0),
    ({"retry-after": "Tue, 99 Nov 2026 12:00:10 GMT"}, None),
    ({"retry-after": "Tue, 24 Nov 99999999999 12:00:10 GMT"}, None),
    ({"retry-after-ms": "100"}, 0.1),
    ({"retry-after-ms": "100", "retry-after": "5"}, 0.1),
    ({"retry-after-ms": "-100", "retry-after": "5"}, 5.0),
    ({"retry-after-ms": "junk"}, None),
    ({"retry-after-ms": "99999999999"}, 3600.0),
]


@pytest.mark.parametrize(("headers", "wait_s"), TABLE, ids=lambda v: repr(v)[:50])
def test_reads_the_wait(headers: dict[str, str], wait_s: float | None) -> None:
    read = retry_after_s(headers, lambda: NOW)
    assert read == (None if wait_s is None else pytest.approx(wait_s))


def test_a_date_is_measured_against_the_answers_own_clock() -> None:
    wrong_clock = NOW - timedelta(days=400)
    headers = {
        "date": format_datetime(wrong_clock, usegmt=True),
        "retry-after": format_datetime(wrong_clock + timedelta(seconds=12)),
    }
    assert retry_after_s(headers) == 12.0


def test_a_date_without_any_clock_is_unknown() -> None:
    assert retry_after_s({"retry-after": after(5)}) is None
    assert retry_after_s({"retry-after": after(5), "date": "today"}) is None


def test_the_longest_of_repeated_headers_counts() -> None:
    twice = CIMultiDict([("Retry-After", "1"), ("Retry-After", "9"), ("x", "y")])
    assert retry_after_s(CIMultiDictProxy(twice)) == 9.0


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (429, BackendBusy, True),
        (401, BackendMisconfigured, False),
        (402, BackendMisconfigured, False),
        (403, BackendMisconfigured, False),
        (404, BackendMisconfigured, False),
        (405, BackendMisconfigured, False),
        (400, BackendRefused, True),
        (413, BackendRefused, True),
        (500, BackendRefused, True),
        (503, BackendRefused, True),
        (999, BackendRefused, True),
    ],
)
def test_a_status_becomes_an_error_without_the_body(
    status: int, kind: type[Exception], retryable: bool
) -> None:
    answer = HttpAnswer(status, {"retry-after": "3"}, b'{"error":"sk-CANARY-1"}')
    error = refusal(answer, "the endpoint")
    assert type(error) is kind
    assert error.retryable is retryable
    assert error.retry_after_s == 3.0
    assert str(status) in str(error)
    assert str(error).startswith("the endpoint ")
    assert "CANARY" not in repr(error)
    if isinstance(error, BackendRefused):
        assert error.status == status


def test_an_answer_shows_no_body_and_decodes_it_once() -> None:
    answer = HttpAnswer(200, {"Content-Type": "x"}, b'{"a":"sk-CANARY-1"}')
    assert "CANARY" not in repr(answer)
    assert answer.data == {"a": "sk-CANARY-1"}
    assert answer.data is answer.data
    assert HttpAnswer(200, {}, b"<html>").data is None
    typed = HttpAnswer(200, {"content-type": "Text/HTML; charset=x"}, b"")
    assert typed.content_type == "text/html"
