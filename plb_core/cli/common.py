"""Options and set-up that several commands share."""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path
from typing import Final

from loguru import logger

from plb_core.config import Config, read_file
from plb_core.errors import ConfigError
from plb_core.types import Problem

DEFAULT_NAME: Final = "config.toml"


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add `--config`, `--set` and `--log-level`."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help=f"configuration (default: ./{DEFAULT_NAME}, else the built-in one)",
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override one key, such as track.main.algorithm=adaptive; repeatable",
    )
    parser.add_argument(
        "--log-level",
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
        default="WARNING",
        help="what to log on standard error (default: %(default)s)",
    )


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of text"
    )


def load_config(options: argparse.Namespace) -> Config:
    """Set up logging and read the configuration that the options name."""
    set_up_logging(options.log_level)
    path = options.config
    if path is None:
        path = Path(DEFAULT_NAME)
        if not path.exists():
            path = default_config()
    return read_file(path, [_override(each) for each in options.set])


def default_config() -> Path:
    """Return the configuration that plb ships: the embedded backend alone."""
    packaged = Path(__file__).parent / "default_config.toml"
    return packaged if packaged.exists() else Path(__file__).parents[2] / DEFAULT_NAME


def set_up_logging(level: str) -> None:
    """Log to standard error; never show values of variables in a traceback."""
    logger.remove()
    logger.add(
        sys.stderr,
        level=level,
        format="{time:HH:mm:ss.SSS} {level: <7} {message}",
        backtrace=False,
        diagnose=False,
    )


def _override(text: str) -> tuple[tuple[str, ...], object]:
    """Parse `a.b=value`; the value is TOML, or else a plain string."""
    name, equals, raw = text.partition("=")
    try:
        keys = tomllib.loads(f"{name} = 0")
    except tomllib.TOMLDecodeError:
        equals = ""
    if not equals:
        message = f"--set takes KEY=VALUE, got {text!r}"
        raise ConfigError([Problem(message)])
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw
    path: list[str] = []
    while isinstance(keys, dict):
        key, keys = next(iter(keys.items()))
        path.append(key)
    return tuple(path), value
