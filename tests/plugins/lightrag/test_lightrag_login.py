from __future__ import annotations

import asyncio
from typing import Any

import pytest

from plb_backend_lightrag import LightRAGSettings
from plb_backend_lightrag.auth import PAUSE_S
from plb_backend_lightrag.backend import build
from plb_core.errors import (
    BackendBusy,
    BackendMisconfigured,
    BackendRefused,
    BackendTimeout,
    BadAnswer,
    ConfigError,
)
from plb_core.testing import fakes
from tests.plugins.lightrag.upstream import (
    ANSWERED,
    LOGGED_IN,
    QUESTION,
    SECRET,
    Scripted,
    Upstream,
    collect,
    lines,
    open_backend,
    says,
)


@pytest.mark.asyncio
async def test_callers_at_the_same_time_log_in_once(
    upstream: Upstream, account: dict[str, Any]
) -> None:
    gate = asyncio.Event()
    upstream.on("/login", says(LOGGED_IN, gate=gate))
    upstream.on("/query", says(ANSWERED))
    async with open_backend(upstream.url, **account) as backend:
        asks = [asyncio.create_task(backend.ask(QUESTION, 5.0)) for _ in range(5)]
        await upstream.arrived.wait()
        gate.set()
        await asyncio.gather(*asks)
        await backend.ask(QUESTION, 5.0)
    assert upstream.paths().count("/login") == 1
    assert upstream.seen[0].body == f"username=ada&password={SECRET}"
    assert "form-urlencoded" in upstream.seen[0].headers["content-type"]
    used = {each.headers["authorization"] for each in upstream.seen[1:]}
    assert used == {"Bearer t1"}


@pytest.mark.asyncio
async def test_a_renewed_token_is_used_from_then_on(
    upstream: Upstream, account: dict[str, Any]
) -> None:
    upstream.on("/login", says(LOGGED_IN))
    upstream.on("/query", says(ANSWERED, headers={"X-New-Token": "t2"}))
    upstream.on(
        "/query/stream", lines({"response": "x"}, headers={"X-New-Token": "t3"})
    )
    async with open_backend(upstream.url, **account) as backend:
        await backend.ask(QUESTION, 5.0)
        await collect(backend)
        await backend.ask(QUESTION, 5.0)
    used = [each.headers["authorization"] for each in upstream.seen[1:]]
    assert used == ["Bearer t1", "Bearer t2", "Bearer t3"]


@pytest.mark.asyncio
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_refused_token_leads_to_one_new_login(
    upstream: Upstream, account: dict[str, Any], streamed: bool
) -> None:
    refused = says({"detail": "Invalid token"}, 401)
    upstream.on("/login", says(LOGGED_IN), says({"access_token": "t2"}))
    upstream.on("/query", refused, says(ANSWERED))
    upstream.on("/query/stream", refused, lines({"response": "x"}))
    async with open_backend(upstream.url, **account) as backend:
        await (collect(backend) if streamed else backend.ask(QUESTION, 5.0))
    path = "/query/stream" if streamed else "/query"
    assert upstream.paths() == ["/login", path, "/login", path]
    assert upstream.seen[-1].headers["authorization"] == "Bearer t2"


@pytest.mark.asyncio
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_token_refused_twice_is_a_misconfiguration(
    upstream: Upstream, account: dict[str, Any], streamed: bool
) -> None:
    upstream.on("/login", says(LOGGED_IN))
    for path in ("/query", "/query/stream"):
        upstream.on(path, says({"detail": "Invalid token"}, 401))
    async with open_backend(upstream.url, **account) as backend:
        with pytest.raises(BackendMisconfigured):
            await (collect(backend) if streamed else backend.ask(QUESTION, 5.0))
    assert len(upstream.seen) == 4


@pytest.mark.asyncio
async def test_callers_whose_old_token_is_refused_share_the_new_one(
    upstream: Upstream, account: dict[str, Any]
) -> None:
    gate = asyncio.Event()
    refused = says({"detail": "Invalid token"}, 401, gate=gate)
    upstream.on("/login", says(LOGGED_IN), says({"access_token": "t2"}))
    upstream.on("/query", says(ANSWERED), refused, refused, refused, says(ANSWERED))
    async with open_backend(upstream.url, **account) as backend:
        await backend.ask(QUESTION, 5.0)
        asks = [asyncio.create_task(backend.ask(QUESTION, 5.0)) for _ in range(3)]
        while len(upstream.seen) < 5:
            upstream.arrived.clear()
            await upstream.arrived.wait()
        gate.set()
        await asyncio.gather(*asks)
    assert upstream.paths().count("/login") == 2


@pytest.mark.asyncio
async def test_a_wrong_password_is_not_tried_again_until_the_pause_is_over(
    upstream: Upstream, clock: fakes.FakeClock, account: dict[str, Any]
) -> None:
    upstream.on("/login", says({"detail": "Incorrect credentials"}, 401))
    async with open_backend(upstream.url, clock, **account) as backend:
        for _ in range(3):
            with pytest.raises(
                BackendMisconfigured, match="name or password"
            ) as caught:
                await backend.ask(QUESTION, 5.0)
            assert not caught.value.sent
            assert SECRET not in str(caught.value)
        clock.advance(PAUSE_S - 1)
        with pytest.raises(BackendMisconfigured):
            await backend.ask(QUESTION, 5.0)
        assert upstream.paths() == ["/login"]
        clock.advance(1)
        with pytest.raises(BackendMisconfigured):
            await backend.ask(QUESTION, 5.0)
    assert upstream.paths() == ["/login"] * 2


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("headers", "wait_s"), [({"retry-after": "299"}, 299.0), ({}, PAUSE_S)]
)
async def test_a_lockout_is_waited_out(
    upstream: Upstream,
    clock: fakes.FakeClock,
    account: dict[str, Any],
    headers: dict[str, str],
    wait_s: float,
) -> None:
    locked = says({"detail": "Too many failed login attempts."}, 429, headers)
    upstream.on("/login", locked, says(LOGGED_IN))
    upstream.on("/query", says(ANSWERED))
    async with open_backend(upstream.url, clock, **account) as backend:
        with pytest.raises(BackendBusy) as first:
            await backend.ask(QUESTION, 5.0)
        assert first.value.retry_after_s == wait_s
        clock.advance(wait_s - 1.0)
        with pytest.raises(BackendBusy) as second:
            await backend.ask(QUESTION, 5.0)
        assert second.value.retry_after_s == pytest.approx(1.0)
        assert not second.value.sent
        assert upstream.paths() == ["/login"]
        clock.advance(1.0)
        await backend.ask(QUESTION, 5.0)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "told",
    [
        says({}),
        says([]),
        says(b"no JSON"),
        says({"access_token": ""}),
        says({"access_token": 7}),
        says({"access_token": "two words"}),
        says({"access_token": "a\r\nX-Evil: 1"}),
        says({"access_token": "t\u00f6ken"}),
    ],
)
async def test_a_login_without_a_usable_token_is_a_bad_answer(
    upstream: Upstream, account: dict[str, Any], told: Scripted
) -> None:
    upstream.on("/login", told)
    async with open_backend(upstream.url, **account) as backend:
        with pytest.raises(BadAnswer, match="token"):
            await backend.ask(QUESTION, 5.0)


@pytest.mark.asyncio
async def test_a_login_that_fails_inside_the_server_follows_the_common_table(
    upstream: Upstream, account: dict[str, Any]
) -> None:
    upstream.on("/login", says({"detail": "x"}, 500))
    async with open_backend(upstream.url, **account) as backend:
        with pytest.raises(BackendRefused) as caught:
            await backend.ask(QUESTION, 5.0)
    assert not caught.value.sent


@pytest.mark.asyncio
async def test_a_login_that_hangs_uses_up_each_callers_own_time(
    upstream: Upstream, account: dict[str, Any]
) -> None:
    upstream.on("/login", says(LOGGED_IN, gate=asyncio.Event()))
    async with open_backend(upstream.url, **account) as backend:
        results = await asyncio.gather(
            *(backend.ask(QUESTION, 0.1) for _ in range(3)), return_exceptions=True
        )
    for error in results:
        assert isinstance(error, BackendTimeout)
        assert not error.sent


@pytest.mark.parametrize("half", ["username_env", "password_env"])
def test_half_a_login_is_refused_when_built(account: dict[str, Any], half: str) -> None:
    settings = LightRAGSettings(**{half: account[half]})
    with pytest.raises(ConfigError) as caught:
        build(settings, fakes.context("graph"))
    (problem,) = caught.value.problems
    assert problem.key == f"backend.graph.{half}"
    assert "beside it" in problem.message
