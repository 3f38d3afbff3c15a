from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from plb_core import (
    AlgorithmFailed,
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendRefused,
    BackendTimeout,
    BackendUnreachable,
    BadAnswer,
    NoAnswer,
    NoBackendAvailable,
    RequestError,
    UnknownModel,
)
from plb_gateway.answers import error_answer
from plb_gateway.catalogue import CATALOGUE
from plb_gateway.errors import Refusal, refusal_for
from tests.gateway.gateway_raw import CHAT, CLOSE, HOST, JSON, SENT, post
from tests.gateway.gateway_setup import Serve, Served

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "http-api.md"


def caused(error: NoBackendAvailable, cause: BackendError) -> NoBackendAvailable:
    cause.backend = "b"
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnknownModel("m"), "model_not_found"),
        (NoAnswer("x"), "no_answer"),
        (NoAnswer("x", reason="context_length"), "context_length_exceeded"),
        (AlgorithmFailed("a", "secret"), "algorithm_failed"),
        (BackendBusy("secret"), "backends_busy"),
        (BackendTimeout("secret"), "backend_timeout"),
        (BackendMisconfigured("secret"), "backend_misconfigured"),
        (BackendRefused("secret", status=500), "backend_error"),
        (BackendUnreachable("secret"), "backend_error"),
        (RequestError("secret"), "request_failed"),
        (NoBackendAvailable("none is open"), "no_backend_available"),
        (NoBackendAvailable("all busy", busy=True), "backends_busy"),
        (
            caused(NoBackendAvailable("secret"), BadAnswer("secret")),
            "all_backends_failed",
        ),
        (
            caused(NoBackendAvailable("secret", retry_after_s=2), BadAnswer("secret")),
            "no_backend_available",
        ),
        (
            caused(NoBackendAvailable("secret", busy=True), BackendBusy("secret")),
            "backends_busy",
        ),
        (
            caused(NoBackendAvailable("secret"), BackendMisconfigured("secret")),
            "backend_misconfigured",
        ),
    ],
)
def test_each_error_of_the_core_has_its_code(error: RequestError, code: str) -> None:
    error.request_id = "req_1"
    refusal = refusal_for(error)
    assert refusal.entry.code == code
    assert refusal.request_id == "req_1"
    assert "secret" not in refusal.message


@pytest.mark.parametrize(
    ("wait_s", "milliseconds", "seconds"),
    [(0.2, "200", "1"), (0, "0", "0"), (2.0, "2000", "2"), (1e9, "86400000", "86400")],
)
def test_a_wait_is_named_in_both_headers(
    wait_s: float, milliseconds: str, seconds: str
) -> None:
    answer = error_answer(Refusal("backends_busy", retry_after_s=wait_s), "req_1")
    assert answer.headers["retry-after-ms"] == milliseconds
    assert answer.headers["Retry-After"] == seconds


def test_advice_and_wait_agree_in_every_entry() -> None:
    for entry in CATALOGUE.values():
        headers = error_answer(Refusal(entry.code), "req_1").headers
        assert ("x-should-retry" in headers) == (entry.retry == "no")
        assert entry.retry == "later" or entry.retry_after_s is None
        assert 400 <= entry.status < 600


def test_the_page_lists_exactly_the_catalogue() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (\d+) \| (no|later) \|", PAGE.read_text(), re.MULTILINE
    )
    assert [(code, int(status), retry) for code, status, retry in rows] == [
        (entry.code, entry.status, entry.retry) for entry in CATALOGUE.values()
    ]


@pytest.mark.asyncio
async def test_a_lost_connection_is_no_error_of_the_gateway(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(request_id: str) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(served.balancer, "explain", lose)
    answer = await served.raw(post(start=b"GET /api/explain/x HTTP/1.1\r\n"))
    assert answer == b""


@pytest.mark.asyncio
async def test_a_chunk_broken_midway_is_refused(serve: Serve) -> None:
    # The C parser drops such a body without a word, so that it times out; the Python
    # parser reports it at once.
    served = await serve(gateway="body_timeout_s = 0.1")
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    start = CHAT + HOST + JSON + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n"
    writer.write(start + b"1\r\n{\r\n")
    for _ in range(20):
        await asyncio.sleep(0)
    writer.write(b"zz\r\n}\r\n0\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert SENT.findall(answer) in ([b"408"], [b"400"])
    assert not served.one.queries


def test_the_parser_in_python_comes_to_the_same_verdicts() -> None:
    tests = ["test_hostile_http.py", "test_error_catalogue.py"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-k", "framing or broken_midway or body"),
            *(str(Path(__file__).with_name(name)) for name in tests),
        ],
        env={**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"},
        cwd=PAGE.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
