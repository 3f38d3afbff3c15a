"""Price files: the shipped one and a user's own, read strictly."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Final

import attrs

from plb_backend_perplexity.prices import ModelPrice, PriceBook, dollars
from plb_backend_perplexity.settings import effort_level, is_namespaced
from plb_core import ConfigError, Problem

_PRICE_KEYS: Final = tuple(field.name for field in attrs.fields(ModelPrice))
_SEARCH_TYPES: Final = frozenset({"web", "fast"})


def shipped() -> PriceBook:
    """Return the table that comes with the package."""
    resource = files("plb_backend_perplexity").joinpath("prices.toml")
    return _read(resource.read_text(encoding="utf-8"), "prices.toml")


def load(path: Path) -> PriceBook:
    """Return the shipped prices with a user's file over them.

    Raises `ConfigError` with every problem of the file.
    """
    try:
        document = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = "the price file cannot be read"
        raise ConfigError([Problem(message, file=str(path))]) from error
    return _read(document, str(path)).over(shipped())


def _read(document: str, file: str) -> PriceBook:
    try:
        tables = tomllib.loads(document, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([Problem(f"not TOML: {error}", file=file)]) from error
    problems = [
        Problem(message, file=file, key=key) for key, message in _problems(tables)
    ]
    if problems:
        raise ConfigError(problems)
    return PriceBook(
        as_of=tables["as_of"],
        source=tables.get("source", ""),
        models={
            name: ModelPrice(**{key: Decimal(usd) for key, usd in price.items()})
            for name, price in tables.get("models", {}).items()
        },
        efforts=tables.get("efforts", {}),
        search_usd=_decimals(tables.get("search_usd", {})),
        search_api_usd=_decimals(tables.get("search_api_usd", {})),
    )


def _decimals(table: Mapping[str, int | Decimal]) -> dict[str, Decimal]:
    return {name: Decimal(usd) for name, usd in table.items()}


def _problems(tables: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    known = {field.name for field in attrs.fields(PriceBook)}
    for key in sorted(tables.keys() - known):
        yield key, "unknown key"
    as_of = tables.get("as_of")
    if not isinstance(as_of, date) or isinstance(as_of, datetime):
        yield "as_of", "expected a date such as 2026-10-09"
    if not isinstance(tables.get("source", ""), str):
        yield "source", "expected a string"
    for key, check in _TABLES.items():
        table = tables.get(key, {})
        if not isinstance(table, Mapping):
            yield key, "expected a table"
            continue
        for name, value in table.items():
            yield from check(f"{key}.{json.dumps(name)}", name, value)


def _effort_problems(key: str, name: str, model: object) -> Iterator[tuple[str, str]]:
    if effort_level(name) != name:
        yield key, "expected fast, low, medium, high or xhigh"
    elif not isinstance(model, str) or not is_namespaced(model):
        yield key, "expected a model such as 'perplexity/sonar'"


def _fee_problems(key: str, name: str, usd: object) -> Iterator[tuple[str, str]]:
    if name not in _SEARCH_TYPES:
        yield key, "unknown key; expected web or fast"
    elif dollars(usd) is None:
        yield key, "expected US dollars of 0 or more"


def _model_problems(key: str, name: str, price: object) -> Iterator[tuple[str, str]]:
    if not is_namespaced(name):
        yield key, "expected a name such as 'perplexity/sonar'"
    if not isinstance(price, Mapping):
        yield key, "expected a table"
        return
    for each in sorted(price.keys() - set(_PRICE_KEYS)):
        yield f"{key}.{each}", "unknown key"
    for each in _PRICE_KEYS[:2]:
        if each not in price:
            yield f"{key}.{each}", "missing"
    for each in _PRICE_KEYS:
        if each in price and dollars(price[each]) is None:
            yield f"{key}.{each}", "expected US dollars of 0 or more"


_TABLES: Final[
    Mapping[str, Callable[[str, str, object], Iterator[tuple[str, str]]]]
] = {
    "models": _model_problems,
    "efforts": _effort_problems,
    "search_usd": _fee_problems,
    "search_api_usd": _fee_problems,
}


def document(book: PriceBook) -> dict[str, object]:
    """Return a book's date, source and models as a table for a TOML file."""
    return {
        "as_of": book.as_of,
        "source": book.source,
        "models": {
            name: attrs.asdict(price, filter=lambda _, usd: usd is not None)
            for name, price in sorted(book.models.items())
        },
    }
