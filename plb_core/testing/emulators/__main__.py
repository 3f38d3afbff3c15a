"""`python -m plb_core.testing.emulators lightrag`: one emulator as a process."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import Final

from plb_core.testing.emulators import (
    Emulator,
    LightRAGEmulator,
    OpenAIEmulator,
    PerplexityEmulator,
)

KINDS: Final[dict[str, type[Emulator]]] = {
    "lightrag": LightRAGEmulator,
    "perplexity": PerplexityEmulator,
    "openai": OpenAIEmulator,
}


async def serve(emulator: Emulator) -> None:
    """Print the address as the first line, then serve until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Set here, because a shell starts what runs in the background with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with emulator:
        sys.stdout.write(f"{emulator.url}\n")
        sys.stdout.flush()
        await stop.wait()


def main() -> int:
    """Serve until interrupted; return the exit status."""
    parser = argparse.ArgumentParser(prog="plb_core.testing.emulators")
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--latency-s", type=float, default=0.0)
    parser.add_argument("--hidden", default="", help="a failure behind 200")
    parser.add_argument("--book", type=Path, help="append billed calls to this file")
    options = parser.parse_args()
    emulator = KINDS[options.kind](
        port=options.port,
        latency_s=options.latency_s,
        hidden=options.hidden,
        book_file=options.book,
    )
    asyncio.run(serve(emulator))
    return 0


if __name__ == "__main__":
    sys.exit(main())
