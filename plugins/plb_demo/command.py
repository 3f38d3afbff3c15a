"""Run the demo's scenario, show how it goes, print what came out."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse

DONE, BOOKS_DIFFER = 0, 1
_SEED_LIMIT: Final = 2**32


class DemoCommand:
    """Status 0: done; 1: plb counted another cost than the backends billed."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add options."""
        parser.add_argument(
            "--seed",
            type=int,
            default=None,
            help="seed of latencies and random choices; timing still varies a little",
        )
        parser.add_argument(
            "--json", action="store_true", help="print one JSON object instead"
        )

    def run(self, options: argparse.Namespace) -> int:
        """Run the scenario once; nothing is kept afterwards."""
        # Imported late: `plb` loads every command to show its help.
        from loguru import logger  # noqa: PLC0415

        from plb_demo.report import Bar, print_report  # noqa: PLC0415
        from plb_demo.scenario import run_demo  # noqa: PLC0415

        # A backend is broken on purpose; warnings about it would tear the bar apart.
        logger.remove()
        seed = options.seed
        if seed is None:
            seed = random.SystemRandom().randrange(_SEED_LIMIT)
        with Bar(shown=not options.json and sys.stderr.isatty()) as bar:
            report = asyncio.run(run_demo(seed=seed, progress=bar.advance))
        if options.json:
            sys.stdout.write(json.dumps(report.as_dict()) + "\n")
        else:
            print_report(report)
        return DONE if report.books_agree else BOOKS_DIFFER
