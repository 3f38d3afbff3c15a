"""`plb ask`: one question, one sourced answer."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import TYPE_CHECKING

from plb_core.balancer import Balancer
from plb_core.cli.common import add_config_options, add_json_option, load_config
from plb_core.cli.render import answer_lines, explanation_table, reply_as_dict
from plb_core.errors import BackendError
from plb_core.types import Query

if TYPE_CHECKING:
    from plb_core.config import Config
    from plb_core.replies import Reply


def configure(parser: argparse.ArgumentParser) -> None:
    """Add options."""
    parser.add_argument("question")
    parser.add_argument(
        "--model", default="auto", help="a model, backend, track or route"
    )
    parser.add_argument("--session", default="", help="a session key, for stickiness")
    parser.add_argument("--region", default="", help="where the client is")
    parser.add_argument("--stream", action="store_true", help="print text as it comes")
    parser.add_argument(
        "--explain", action="store_true", help="print why this backend was chosen"
    )
    add_json_option(parser)
    add_config_options(parser)


def run(options: argparse.Namespace) -> int:
    """Ask and print."""
    return asyncio.run(_ask(load_config(options), options))


async def _ask(config: Config, options: argparse.Namespace) -> int:
    query = Query(
        options.question,
        model=options.model,
        session=options.session,
        region=options.region,
    )
    async with Balancer(config) as balancer:
        if options.stream and not options.json:
            reply = await _print_stream(balancer, query)
        else:
            reply = await balancer.ask(query)
        if reply is None:
            print("plb: the answer was cut", file=sys.stderr)
            return 1
        explanation = balancer.explain(reply.request_id)
    if options.json:
        shown = reply_as_dict(reply)
        if options.explain:
            shown["explanation"] = explanation
        print(json.dumps(shown, ensure_ascii=False, indent=2))
        return 0
    for line in answer_lines(reply, with_text=not options.stream):
        print(line)
    if options.explain:
        from rich.console import Console  # noqa: PLC0415 - costs 60 ms

        Console().print(explanation_table(explanation))
    return 0


async def _print_stream(balancer: Balancer, query: Query) -> Reply | None:
    async with balancer.stream(query) as stream:
        try:
            async for chunk in stream:
                print(chunk.text, end="", flush=True)
        except BackendError:
            print()
            raise
    print()
    return stream.reply
