"""The backend `perplexity_search`: web search results quoted as they are.

The cheapest sourced live backend: one request, no language model, a fixed price.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from plb_backend_perplexity import account, prices, wire
from plb_backend_perplexity.refusals import refuse
from plb_backend_perplexity.request import search_filters
from plb_backend_perplexity.settings import SearchApiSettings
from plb_backend_perplexity.sources import source
from plb_core import (
    Answer,
    BackendTraits,
    BadAnswer,
    BuildContext,
    Chunk,
    ConfigError,
    NoAnswer,
    ProbeResult,
    Problem,
    Provider,
    Query,
    Source,
    Usage,
    hookimpl,
)
from plb_core.protocols import Backend

PATH: Final = "/search"
_MAX_RESULTS: Final = 20
_LABEL: Final = "Quoted from web search results; nothing was added."


class PerplexitySearch:
    """Answers with the numbered titles and snippets of a web search."""

    def __init__(self, settings: SearchApiSettings, context: BuildContext) -> None:
        if settings.max_results > _MAX_RESULTS:
            raise ConfigError(
                [
                    Problem(
                        f"expected at most {_MAX_RESULTS}",
                        key=f"backend.{context.name}.max_results",
                    )
                ]
            )
        self._settings = settings
        self._context = context
        self._client = account.connect(settings)
        book = account.price_book(settings, context)
        self.traits = BackendTraits(
            knowledge="live",
            capabilities=frozenset({"chat", "stream"}),
            max_in_flight=32,
            price=book.search_api(settings.search.type),
        )

    async def start(self) -> None:
        """Open the connection pool; contacts nobody."""
        await self._client.start()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def ask(self, query: Query, timeout_s: float) -> Answer:
        """Return the results, best first; `NoAnswer` when there are none."""
        answer = await self._client.request(
            "POST", PATH, body=self._body(query), timeout_s=timeout_s
        )
        if answer.status not in range(200, 300):
            raise refuse(answer)
        results = wire.table(answer.data).get("results")
        if not isinstance(results, list):
            message = "the search answered without a list of results"
            raise BadAnswer(message)
        found = [
            made
            for result in results[: self._settings.max_results]
            if (made := source(wire.table(result))) and made.quote.strip()
        ]
        if not found:
            message = "the search found nothing"
            raise NoAnswer(message)
        return Answer(
            text="\n\n".join(_shown(n, each) for n, each in enumerate(found, 1)),
            sources=tuple(found),
            usage=Usage(searches=1),
            llm_generated=False,
            label=_LABEL,
        )

    async def stream(self, query: Query, timeout_s: float) -> AsyncIterator[Chunk]:
        """Yield everything at once; there is nothing to wait for in between."""
        answer = await self.ask(query, timeout_s)
        yield Chunk(answer.text)
        yield Chunk(end="complete", answer=answer)

    async def ping(self, timeout_s: float) -> ProbeResult:
        """Ask for the list of models: a search would be billed."""
        return await account.ping(
            self._client, self._context, prices.MODELS_PATH, timeout_s
        )

    def _body(self, query: Query) -> dict[str, object]:
        search = self._settings.search
        body: dict[str, object] = {
            "query": query.text,
            "max_results": self._settings.max_results,
            **search_filters(search),
        }
        options = {
            "search_context_size": search.context_size,
            "search_type": search.type,
            "country": search.country,
        }
        return body | {name: value for name, value in options.items() if value}


def _shown(number: int, each: Source) -> str:
    return f"[{number}] {each.title}\n{each.quote.strip()}"


@hookimpl
def plb_register_backend() -> Provider[Backend]:
    """Offer the Search API."""
    return Provider(
        name="perplexity_search",
        build=PerplexitySearch,
        settings=SearchApiSettings,
        summary="Perplexity's Search API: quoted web results with sources, no model.",
    )
