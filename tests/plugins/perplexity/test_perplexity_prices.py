from __future__ import annotations

import argparse
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from plb_backend_perplexity import price_file
from plb_backend_perplexity.account import connect
from plb_backend_perplexity.prices import ModelPrice, PriceBook, refresh_prices
from plb_backend_perplexity.prices_command import plb_register_command
from plb_backend_perplexity.settings import AccountSettings, SearchFilters
from plb_core import BackendMisconfigured, BadAnswer, ConfigError, Price
from plb_core.testing import fakes
from plb_core.testing.emulators import Fault, PerplexityEmulator, run_in_thread
from tests.plugins.perplexity.bench import KEY, built

DATE = {"date": "Fri, 09 Oct 2026 19:07:20 GMT"}
PAGE = Path(__file__).parents[3] / "docs/reference/backend-perplexity.md"


@pytest.mark.parametrize(
    ("set_to", "price"),
    [
        # cache writes at $0.125 are dearer than input at $0.10 and count instead
        ({}, Price(125_000, 500_000, 0, 2_500)),
        ({"effort": "medium@2026-10-16.0"}, Price(125_000, 500_000, 0, 2_500)),
        ({"search": SearchFilters(type="fast")}, Price(125_000, 500_000, 0, 1_000)),
        ({"model": "perplexity/sonar"}, Price(250_000, 2_500_000, 0, 2_500)),
        (
            {"effort": "", "model": "perplexity/sonar"},
            Price(250_000, 2_500_000, 0, 2_500),
        ),
        ({"effort": "high"}, None),
        ({"model": "new/model"}, None),
    ],
    ids=repr,
)
def test_the_price_follows_effort_model_and_search_type(
    up: PerplexityEmulator, set_to: dict[str, Any], price: Price | None
) -> None:
    got = built(up, **set_to).traits.price
    if price is not None:
        assert got is not None
        assert got.as_of == date(2026, 10, 9)
        price = Price(
            price.input_micro_usd_per_mtok,
            price.output_micro_usd_per_mtok,
            price.request_micro_usd,
            price.search_micro_usd,
            got.as_of,
        )
    assert got == price


def test_the_shipped_prices_are_whole_and_dated() -> None:
    book = price_file.shipped()
    assert book.as_of == date(2026, 10, 9)
    assert book.source
    assert len(book.models) == 52
    assert set(book.efforts.values()) <= book.models.keys()
    assert set(book.search_usd) == set(book.search_api_usd) == {"web", "fast"}


def test_the_reference_page_shows_the_shipped_prices() -> None:
    book = price_file.shipped()
    page = PAGE.read_text(encoding="utf-8")
    assert f"As of {book.as_of}" in page
    for name, price in book.models.items():
        row = f"| `{name}` | {price.input_usd_per_mtok} | {price.output_usd_per_mtok} |"
        assert row in page
    for kind in ("web", "fast"):
        fees = f"| `{kind}` | {book.search_usd[kind]} | {book.search_api_usd[kind]} |"
        assert fees in page
    for effort, model in book.efforts.items():
        assert f"| `{effort}` | `{model}` |" in page


def test_a_users_file_overrides_what_it_names(
    up: PerplexityEmulator, tmp_path: Path
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "as_of = 2026-11-01\n"
        '[efforts]\nhigh = "perplexity/sonar"\n'
        "[search_usd]\nweb = 0.01\n"
        '[models."perplexity/sonar"]\n'
        "input_usd_per_mtok = 1\noutput_usd_per_mtok = 0.0000001\n"
    )
    price = built(up, effort="high", prices_file=str(path)).traits.price
    assert price == Price(1_000_000, 1, 0, 10_000, date(2026, 11, 1))
    fast = built(up, prices_file=str(path)).traits.price
    assert fast == Price(125_000, 500_000, 0, 10_000, date(2026, 11, 1))


@pytest.mark.parametrize(
    ("document", "keys"),
    [
        ("as_of = 2026-11-01\nmodel = {}", ["model"]),
        ("", ["as_of"]),
        ("as_of = 2026-11-01T10:00:00", ["as_of"]),
        ('as_of = "today"\nsource = 3\nmodels = 1', ["as_of", "source", "models"]),
        (
            'as_of = 2026-11-01\n[models]\n"sonar" = 5',
            ['models."sonar"', 'models."sonar"'],
        ),
        (
            'as_of = 2026-11-01\n[models."a/b"]\ninput_usd_per_mtok = -1\nin = 2',
            [
                'models."a/b".in',
                'models."a/b".output_usd_per_mtok',
                'models."a/b".input_usd_per_mtok',
            ],
        ),
        (
            (
                'as_of = 2026-11-01\n[models."a/b"]\ninput_usd_per_mtok = nan\n'
                "output_usd_per_mtok = true\ncache_read_usd_per_mtok = inf\n"
                'cache_write_usd_per_mtok = "1"'
            ),
            [
                'models."a/b".input_usd_per_mtok',
                'models."a/b".output_usd_per_mtok',
                'models."a/b".cache_write_usd_per_mtok',
                'models."a/b".cache_read_usd_per_mtok',
            ],
        ),
        (
            'as_of = 2026-11-01\n[efforts]\nturbo = "a/b"\nlow = "sonar"\nhigh = 3',
            ['efforts."turbo"', 'efforts."low"', 'efforts."high"'],
        ),
        (
            "as_of = 2026-11-01\n[search_usd]\nslow = 1\nweb = 1000000",
            ['search_usd."slow"', 'search_usd."web"'],
        ),
        ("as_of = ", [""]),
    ],
)
def test_every_mistake_in_a_price_file_is_named(
    tmp_path: Path, document: str, keys: list[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(document)
    with pytest.raises(ConfigError) as caught:
        price_file.load(path)
    assert [each.key for each in caught.value.problems] == keys
    assert all(each.file == str(path) for each in caught.value.problems)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_an_unreadable_price_file_is_a_configuration_error(
    up: PerplexityEmulator, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        built(up, prices_file=str(path))
    (problem,) = caught.value.problems
    assert problem.key == "backend.pplx.prices_file"
    assert str(path) in problem.message


async def refreshed(up: PerplexityEmulator) -> PriceBook:
    client = connect(AccountSettings(base_url=up.url, allow_private=True))
    await client.start()
    try:
        return await refresh_prices(client, 5.0)
    finally:
        await client.close()


def models(*listed: object) -> Fault:
    return Fault.status(200, body={"data": list(listed)}, headers=DATE)


def priced(name: object = "a/b", **pricing: object) -> dict[str, object]:
    unit = "usd_per_1m_tokens"
    return {"id": name, "pricing": {"input": 0.1, "output": 2, "unit": unit, **pricing}}


@pytest.mark.asyncio
async def test_fresh_prices_come_from_the_list_of_models(
    up: PerplexityEmulator,
) -> None:
    up.faults = [models(priced(cache_write=0.125), {"id": "no/price"}, None)]
    book = await refreshed(up)
    assert book.as_of == date(2026, 10, 9)
    assert book.models == {
        "a/b": ModelPrice(Decimal("0.1"), Decimal(2), Decimal("0.125"))
    }
    assert not up.book


@pytest.mark.asyncio
async def test_prices_of_writing_to_a_cache_come_where_a_model_has_them(
    up: PerplexityEmulator,
) -> None:
    book = await refreshed(up)
    writes = {name: each.cache_write_usd_per_mtok for name, each in book.models.items()}
    assert book.as_of == date(2026, 10, 9)
    assert writes == {
        "openai/gpt-6-luna": Decimal("0.125"),
        "perplexity/sonar": None,
        "anthropic/claude-haiku-5": Decimal("1.25"),
    }
    whole = book.over(price_file.shipped())
    price = whole.agent("", "openai/gpt-6-luna", None)
    assert price is not None
    assert price.input_micro_usd_per_mtok == 125_000


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "model",
    [
        priced(input=-1),
        priced(output="2"),
        priced(input=None),
        priced(unit="eur_per_1m_tokens"),
        priced(input=10**9),
        priced(input=True),
        priced("bare"),
        priced(None),
        priced("a/b\n[evil]"),
    ],
    ids=repr,
)
async def test_a_model_without_a_usable_price_is_left_out(
    up: PerplexityEmulator, model: dict[str, object]
) -> None:
    up.faults = [models(model, priced("good/one"))]
    assert (await refreshed(up)).models.keys() == {"good/one"}
    up.faults = [models(model)]
    with pytest.raises(BadAnswer):
        await refreshed(up)


@pytest.mark.asyncio
async def test_undated_or_refused_prices_are_not_taken(
    up: PerplexityEmulator,
) -> None:
    up.faults = [Fault.status(200, body={"data": [priced()]})]
    with pytest.raises(BadAnswer, match="Date"):
        await refreshed(up)
    up.faults = [Fault.status(401)]
    with pytest.raises(BackendMisconfigured):
        await refreshed(up)


def command(up: PerplexityEmulator, output: Path, *more: str) -> int:
    provider = plb_register_command()
    made = provider.build(provider.settings(), fakes.context("prices"))
    parser = argparse.ArgumentParser()
    made.configure(parser)
    options = ["--output", str(output), "--base-url", up.url, "--allow-private", *more]
    return made.run(parser.parse_args(options))


def test_the_command_writes_a_file_that_can_be_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "prices.toml"
    up = PerplexityEmulator(api_key=KEY)
    up.faults = [models(priced(cache_write=0.125), priced("c/d"))]
    with run_in_thread(up):
        assert command(up, output) == 0
    shown = " ".join(capsys.readouterr().out.split())  # wrapped to the terminal
    assert "2 models" in shown
    book = price_file.load(output)
    assert book.models["a/b"].input_usd_per_mtok == Decimal("0.1")
    assert book.models["a/b"].cache_write_usd_per_mtok == Decimal("0.125")
    assert book.search_usd["web"] == Decimal("0.0025")
    assert [each.name for each in tmp_path.iterdir()] == ["prices.toml"]


def test_the_command_keeps_the_old_file_when_it_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "prices.toml"
    output.write_text("old")
    up = PerplexityEmulator(api_key="another-key")
    with run_in_thread(up):
        assert command(up, output) == 1
        assert command(up, output, "--api-key-env", "NOT_SET_ANYWHERE") == 2
        assert command(up, output, "--base-url", "nonsense") == 2
    assert output.read_text() == "old"
    shown = capsys.readouterr().err
    assert "NOT_SET_ANYWHERE" in shown
    assert KEY not in shown
