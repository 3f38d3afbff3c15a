"""Calls to one LightRAG server, with the credentials it wants."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

from plb_backend_lightrag.auth import Login
from plb_backend_lightrag.replies import refused
from plb_core.http.client import HttpClient
from plb_core.settings import Secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from plb_backend_lightrag.settings import LightRAGSettings
    from plb_core.http.client import HttpAnswer, HttpStream

OK: Final = 200
UNAUTHORIZED: Final = 401


class Server:
    """Sends with the API key, the account's token, both or neither.

    Nothing else goes into the headers: a caller's own `Authorization` would make the
    server refuse even a right key. Deadlines are on the clock `now`, in seconds.
    """

    def __init__(self, settings: LightRAGSettings, now: Callable[[], float]) -> None:
        self._now = now
        headers: dict[str, str] = {}
        if settings.api_key_env is not None:
            headers["X-API-Key"] = Secret.from_env(settings.api_key_env).reveal()
        self._client = HttpClient(settings, headers)
        self._login: Login | None = None
        if settings.username_env is not None and settings.password_env is not None:
            self._login = Login(
                self._client,
                Secret.from_env(settings.username_env),
                Secret.from_env(settings.password_env),
                now,
            )

    async def start(self) -> None:
        """Open the connection pool; the server need not be up."""
        await self._client.start()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def call(
        self, method: str, path: str, body: object, deadline_s: float
    ) -> HttpAnswer:
        """Return an answer of status 200; raises what another one stands for."""
        answer = await self.send(method, path, body, deadline_s)
        if answer.status != OK:
            raise refused(answer)
        return answer

    async def send(
        self, method: str, path: str, body: object, deadline_s: float
    ) -> HttpAnswer:
        """Send with the current token, and once more with a new one after a 401."""
        headers = await self._credentials(deadline_s)
        answer = await self._client.request(
            method, path, body=body, headers=headers, timeout_s=self._left_s(deadline_s)
        )
        if self._is_outdated(answer.status, headers):
            headers = await self._credentials(deadline_s)
            answer = await self._client.request(
                method,
                path,
                body=body,
                headers=headers,
                timeout_s=self._left_s(deadline_s),
            )
        self._renew(answer)
        return answer

    @asynccontextmanager
    async def open(
        self, path: str, body: object, deadline_s: float
    ) -> AsyncIterator[HttpStream]:
        """Open a stream like `send`; it has status 200."""
        headers = await self._credentials(deadline_s)
        async with AsyncExitStack() as stack:
            opened = self._post(path, body, headers, deadline_s)
            http = await stack.enter_async_context(opened)
            if self._is_outdated(http.status, headers):
                await stack.aclose()
                headers = await self._credentials(deadline_s)
                opened = self._post(path, body, headers, deadline_s)
                http = await stack.enter_async_context(opened)
            if http.status != OK:
                raise refused(await http.read())
            self._renew(http)
            yield http

    def _post(
        self, path: str, body: object, headers: Mapping[str, str], deadline_s: float
    ) -> AbstractAsyncContextManager[HttpStream]:
        left_s = self._left_s(deadline_s)
        return self._client.open_stream(
            "POST", path, body=body, headers=headers, timeout_s=left_s
        )

    async def _credentials(self, deadline_s: float) -> Mapping[str, str]:
        if self._login is None:
            return {}
        token = await self._login.token(self._left_s(deadline_s))
        return {"Authorization": f"Bearer {token}"}

    def _is_outdated(self, status: int, headers: Mapping[str, str]) -> bool:
        """Forget a refused token; True when logging in again may help."""
        if self._login is None or status != UNAUTHORIZED:
            return False
        self._login.forget(headers["Authorization"].removeprefix("Bearer "))
        return True

    def _renew(self, answer: HttpAnswer | HttpStream) -> None:
        if self._login is not None and answer.status == OK:
            self._login.renew(answer.headers)

    def _left_s(self, deadline_s: float) -> float:
        return deadline_s - self._now()
