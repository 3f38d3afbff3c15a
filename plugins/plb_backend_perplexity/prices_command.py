"""Write today's token prices to a file for `prices_file`."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from typing import Final

import tomli_w
from rich.console import Console

from plb_backend_perplexity import account, price_file, prices
from plb_backend_perplexity.settings import AccountSettings
from plb_core import ConfigError, EnvVar, PlbError, Problem, Provider, hookimpl
from plb_core.http.client import backend_url
from plb_core.protocols import Command

_TIMEOUT_S: Final = 30.0
_DEFAULT_URL: Final = "https://api.perplexity.ai"


class PricesCommand:
    """Fetches `GET /v1/models`, which is not billed, and writes a price file."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add options."""
        parser.add_argument(
            "--output",
            type=Path,
            default=Path("perplexity-prices.toml"),
            help="file to write (default: %(default)s)",
        )
        parser.add_argument(
            "--base-url",
            default=_DEFAULT_URL,
            help="address of the API (default: %(default)s)",
        )
        parser.add_argument(
            "--api-key-env",
            default="PERPLEXITY_API_KEY",
            help="environment variable with the key (default: %(default)s)",
        )
        parser.add_argument(
            "--allow-private",
            action="store_true",
            help="allow an address in a private network",
        )

    def run(self, options: argparse.Namespace) -> int:
        """Fetch and write; return 0, 2 for wrong options, 1 for anything else."""
        try:
            settings = _settings(options)
            book = asyncio.run(_fetch(settings))
        except ConfigError as error:
            Console(stderr=True).print(str(error), markup=False)
            return 2
        except PlbError as error:
            Console(stderr=True).print(f"no prices: {error}", markup=False)
            return 1
        _write(options.output, tomli_w.dumps(price_file.document(book)))
        Console().print(
            f"{options.output}: prices of {len(book.models)} models on {book.as_of}",
            markup=False,
        )
        return 0


def _settings(options: argparse.Namespace) -> AccountSettings:
    if not os.environ.get(options.api_key_env):
        message = f"environment variable {options.api_key_env!r} is not set"
        raise ConfigError([Problem(message, key="--api-key-env")])
    try:
        backend_url(None, None, options.base_url)  # type: ignore[arg-type]  # no field here
    except ValueError as error:
        raise ConfigError([Problem(str(error), key="--base-url")]) from error
    return AccountSettings(
        base_url=options.base_url,
        allow_private=options.allow_private,
        api_key_env=EnvVar(options.api_key_env),
    )


async def _fetch(settings: AccountSettings) -> prices.PriceBook:
    client = account.connect(settings)
    await client.start()
    try:
        return await prices.refresh_prices(client, _TIMEOUT_S)
    finally:
        await client.close()


def _write(path: Path, document: str) -> None:
    """Replace the file in one step, so that a reader never sees half of it."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(document, encoding="utf-8")
    beside.replace(path)


@hookimpl
def plb_register_command() -> Provider[Command]:
    """Offer `plb prices`."""
    return Provider(
        name="prices",
        build=lambda _settings, _context: PricesCommand(),
        summary="Write Perplexity's current token prices to a file.",
    )
