"""Run fault cases: `python -m tests.faults [F01 …] [--full] [--seed N] [--page]`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pytest
from loguru import logger

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "explanation" / "faults.md"


def main() -> int:
    """Return pytest's exit status; with `--page`, write the page as well."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("cases", nargs="*", help="such as F01; default: all")
    parser.add_argument("--full", action="store_true", help="the long form")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--page", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    if options.full:
        os.environ["PLB_FAULTS_FULL"] = "1"
    os.environ["PLB_FAULTS_SEED"] = str(options.seed)
    # After the environment is set: the rig reads it once.
    from tests.faults.case import RECORD
    from tests.faults.page import page

    logger.remove()  # cases read the log themselves
    RECORD.unlink(missing_ok=True)
    arguments = ["-m", "faults", "-s", "-q", "--timeout", "900", str(FOLDER)]
    if options.cases:
        words = " or ".join(each.lower() for each in options.cases)
        arguments += ["-k", words]
    status = int(pytest.main(arguments))
    if options.page and RECORD.exists():
        PAGE.write_text(page(RECORD.read_text().splitlines()))
    return status


if __name__ == "__main__":
    sys.exit(main())
