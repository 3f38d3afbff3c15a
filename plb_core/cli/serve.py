"""`plb serve`: run the configured services until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING

from loguru import logger

from plb_core.balancer import Balancer
from plb_core.cli.common import add_config_options, load_config
from plb_core.cli.render import answer_lines
from plb_core.errors import ConfigError, PlbError
from plb_core.types import Problem, Query

if TYPE_CHECKING:
    from collections.abc import Callable


def configure(parser: argparse.ArgumentParser) -> None:
    """Add options."""
    parser.add_argument(
        "--ask",
        metavar="QUESTION",
        help="ask this once after the start and print the answer",
    )
    parser.add_argument(
        "--once", action="store_true", help="stop after the start (and after --ask)"
    )
    add_config_options(parser)
    parser.set_defaults(log_level="INFO")


def run(options: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; SIGHUP reads the configuration again."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(options))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loops when it is installed (extra `speed`)."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(options: argparse.Namespace) -> int:
    balancer = Balancer(load_config(options))
    services = balancer.plan.services
    if not services:
        message = "no [service.NAME] section: there is nothing to serve"
        raise ConfigError([Problem(message, str(options.config or ""), key="service")])
    stop = asyncio.Event()
    async with contextlib.AsyncExitStack() as running:
        await running.enter_async_context(balancer)
        addresses: list[str] = []
        for service in services.values():
            addresses += await service.start(balancer)
            running.push_async_callback(service.close)
        reloads: set[asyncio.Task[None]] = set()  # a task nobody holds may vanish
        _listen_to_signals(stop, lambda: reloads.add(_reload(balancer, options)))
        status = await _first_question(balancer, options.ask) if options.ask else 0
        for address in addresses:
            print(f"serving {address}", flush=True)
        if options.once:
            return status
        await stop.wait()
        logger.info("stopping")
    return 0


async def _first_question(balancer: Balancer, question: str) -> int:
    try:
        reply = await balancer.ask(Query(question))
    except PlbError as error:
        print(f"plb: {error.code}: {error}", file=sys.stderr)
        return 1
    print(f"\n> {question}\n")
    for line in answer_lines(reply):
        print(line)
    print()
    return 0


def _listen_to_signals(stop: asyncio.Event, reload: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # Windows has none of these
        loop.add_signal_handler(signal.SIGINT, stop.set)
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_signal_handler(signal.SIGHUP, reload)


def _reload(balancer: Balancer, options: argparse.Namespace) -> asyncio.Task[None]:
    async def apply() -> None:
        try:
            await balancer.apply(load_config(options))
        except PlbError as error:
            logger.error("the configuration was not applied:\n{}", error)
        except Exception as error:  # noqa: BLE001 - a plugin's start may raise anything
            logger.error("the configuration was not applied: {!r}", error)

    return asyncio.create_task(apply(), name="plb reload")
