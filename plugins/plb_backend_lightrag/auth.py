"""Logging in to a LightRAG server that has accounts."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from plb_core.errors import (
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendTimeout,
    BadAnswer,
)
from plb_core.http.client import refusal, retry_after_s

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from plb_core.http.client import HttpAnswer, HttpClient
    from plb_core.settings import Secret

PAUSE_S: Final = 75.0
"""The server locks an account's address out after five wrong passwords in 300 s; one
try in 75 s is four in 300 s and never locks anybody out."""


class Login:
    """Keeps one bearer token, shared by all calls to the server.

    A token lives for 48 h and is renewed by the server in a response header, or by
    logging in again after a 401. Callers who need a token at the same time cause one
    login. After a refused or locked login nothing is sent until a pause is over.
    """

    def __init__(
        self,
        client: HttpClient,
        username: Secret,
        password: Secret,
        now: Callable[[], float],
    ) -> None:
        self._client = client
        self._username = username
        self._password = password
        self._now = now
        self._lock = asyncio.Lock()
        self._token = ""
        self._refused_until_s = -math.inf
        self._locked_until_s = -math.inf

    async def token(self, timeout_s: float) -> str:
        """Return a token, logging in when there is none.

        Raises `BackendMisconfigured` for wrong credentials, `BackendBusy` during a
        lockout, `BackendTimeout` and the client's errors; in all of them the question
        itself was not sent.
        """
        try:
            async with asyncio.timeout(timeout_s):
                async with self._lock:
                    if not self._token:
                        self._token = await self._log_in(timeout_s)
                    return self._token
        except TimeoutError:
            message = "the login took too long"
            raise BackendTimeout(message, sent=False) from None
        except BackendError as error:
            error.sent = False
            raise

    def forget(self, token: str) -> None:
        """Drop a token the server refused, unless it was replaced meanwhile."""
        if self._token == token:
            self._token = ""

    def renew(self, headers: Mapping[str, str]) -> None:
        """Take over a renewed token from the headers of an authenticated answer."""
        self._token = headers.get("x-new-token") or self._token

    async def _log_in(self, timeout_s: float) -> str:
        now_s = self._now()
        if now_s < self._locked_until_s:
            raise _locked(self._locked_until_s - now_s)
        if now_s < self._refused_until_s:
            raise _refused()
        answer = await self._client.request(
            "POST",
            "/login",
            form={
                "username": self._username.reveal(),
                "password": self._password.reveal(),
            },
            timeout_s=timeout_s,
        )
        if answer.status in (400, 401, 403):
            self._refused_until_s = self._now() + PAUSE_S
            raise _refused()
        if answer.status == 429:  # noqa: PLR2004 - the HTTP status of a lockout
            wait_s = retry_after_s(answer.headers)
            wait_s = PAUSE_S if wait_s is None else wait_s
            self._locked_until_s = self._now() + wait_s
            raise _locked(wait_s)
        return _read_token(answer)


def _read_token(answer: HttpAnswer) -> str:
    if answer.status != 200:  # noqa: PLR2004 - HTTP
        raise refusal(answer, "LightRAG's login")
    data = answer.data
    token = data.get("access_token") if isinstance(data, dict) else None
    # A token goes into a header, so anything but one printable word is refused.
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        token = ""
    if not token or " " in token:
        message = "LightRAG's login answered without a usable token"
        raise BadAnswer(message)
    return token


def _refused() -> BackendMisconfigured:
    return BackendMisconfigured("LightRAG refused the account's name or password")


def _locked(wait_s: float) -> BackendBusy:
    message = "LightRAG has locked logins out for a while"
    return BackendBusy(message, retry_after_s=wait_s)
