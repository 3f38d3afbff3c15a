"""The backend `perplexity`: sourced answers from the live web."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Final

from plb_backend_perplexity import account, answers, prices
from plb_backend_perplexity.refusals import refuse
from plb_backend_perplexity.request import Call, RequestBuilder
from plb_backend_perplexity.runs import Runs
from plb_backend_perplexity.settings import PerplexitySettings, is_namespaced
from plb_backend_perplexity.stream import AgentReader, ChatReader, Reader, chunks
from plb_core import (
    Answer,
    BackendTraits,
    BuildContext,
    Chunk,
    ConfigError,
    ProbeResult,
    Problem,
    Query,
)

_CHAT_MODELS_PATH: Final = "/models"
_MAX_STEPS: Final = 100


class Perplexity:
    """Asks Perplexity's Agent API, or a relay that speaks its retired chat form.

    Effort levels from `medium` up run in the background: submitted, looked at until
    done, and cancelled when the caller gives up; their streams bring all text at once.
    """

    def __init__(self, settings: PerplexitySettings, context: BuildContext) -> None:
        _check(settings, context)
        self._chat = settings.api == "chat"
        self._context = context
        self._client = account.connect(settings)
        self._requests = RequestBuilder(settings, context.models, context.name)
        self._runs = Runs(self._client, settings.poll_interval_s)
        self.traits = BackendTraits(
            knowledge="live",
            capabilities=frozenset({"chat", "stream", "response_format"}),
            max_in_flight=16,
            price=account.price_book(settings, context).agent(
                "" if self._chat else settings.effort,
                settings.model,
                settings.search.type,
            ),
        )

    async def start(self) -> None:
        """Open the connection pool; contacts nobody."""
        await self._client.start()

    async def close(self) -> None:
        """Finish cancellations under way, then close the connections."""
        await self._runs.close()
        await self._client.close()

    async def ask(self, query: Query, timeout_s: float) -> Answer:
        """Return the complete answer."""
        return await self._ask(self._requests.build(query, stream=False), timeout_s)

    async def stream(self, query: Query, timeout_s: float) -> AsyncIterator[Chunk]:
        """Yield text as it comes; a background run's text comes in one piece."""
        call = self._requests.build(query, stream=True)
        if call.background:
            answer = await self._ask(call, timeout_s)
            yield Chunk(answer.text)
            yield Chunk(end="complete", answer=answer)
            return
        async with self._client.open_stream(
            "POST", call.path, body=call.body, timeout_s=timeout_s
        ) as stream:
            if stream.status not in range(200, 300):
                raise refuse(
                    await stream.read(), model_from_client=call.model_from_client
                )
            reader: Reader = (ChatReader if self._chat else AgentReader)(self._flag)
            async with aclosing(chunks(stream.events(), reader)) as parts:
                async for chunk in parts:
                    yield chunk

    async def ping(self, timeout_s: float) -> ProbeResult:
        """Ask for the list of models, which is not billed."""
        path = _CHAT_MODELS_PATH if self._chat else prices.MODELS_PATH
        return await account.ping(self._client, self._context, path, timeout_s)

    async def _ask(self, call: Call, timeout_s: float) -> Answer:
        if call.background:
            data = await self._runs.result(call, timeout_s)
            return answers.agent_answer(data, self._flag)
        answer = await self._client.request(
            "POST", call.path, body=call.body, timeout_s=timeout_s
        )
        if answer.status not in range(200, 300):
            raise refuse(answer, model_from_client=call.model_from_client)
        if self._chat:
            return answers.chat_answer(answer.data, self._flag)
        return answers.agent_answer(answer.data, self._flag)

    def _flag(self, message: str) -> None:
        self._context.log.warning(message)


def _check(settings: PerplexitySettings, context: BuildContext) -> None:
    """Raise `ConfigError` for settings that do not work together."""
    problems = []
    search = settings.search
    if settings.max_steps is not None and settings.max_steps > _MAX_STEPS:
        problems.append(("max_steps", f"expected at most {_MAX_STEPS}"))
    if search.after and search.before and search.after >= search.before:
        problems.append(("search.after", "expected a day earlier than search.before"))
    if settings.api == "chat" and settings.model is None and not _maps_models(context):
        problems.append(("model", "the chat form needs a model"))
    if settings.api == "agent":
        problems += _agent_problems(settings)
    if problems:
        place = f"backend.{context.name}"
        raise ConfigError(
            [Problem(message, key=f"{place}.{key}") for key, message in problems]
        )


def _agent_problems(settings: PerplexitySettings) -> list[tuple[str, str]]:
    model = settings.model
    if model is None:
        return [] if settings.effort else [("effort", "set an effort level or a model")]
    problems = []
    if not is_namespaced(model):
        problems.append(("model", "expected `provider/model`, as 'perplexity/sonar'"))
    if model.startswith("anthropic/") and settings.max_output_tokens is None:
        problems.append(("max_output_tokens", "Anthropic models need it to be set"))
    return problems


def _maps_models(context: BuildContext) -> bool:
    return bool(context.models.exact or context.models.wildcards)
