"""The demo on the terminal: a bar while it runs, a table when it is over."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from plb_demo.backends import NAMES
from plb_demo.scenario import Report

if TYPE_CHECKING:
    from typing import Self

_QUESTIONS: Final = 200


class Bar:
    """A progress bar on standard error, or nothing."""

    def __init__(self, *, shown: bool) -> None:
        self._bar = Progress(
            console=Console(stderr=True), disable=not shown, transient=True
        )
        self._task = self._bar.add_task("", total=_QUESTIONS)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, algorithm: str, failing: str) -> None:
        """Count one question; say what is going on."""
        text = f"{algorithm}: [red]{failing} is failing[/]" if failing else algorithm
        self._bar.update(self._task, advance=1, description=text)


def print_report(report: Report) -> None:
    """Print both tables, which fit 80 columns, and how to read them."""
    console = Console()
    console.print(_course(report))
    console.print(_shares(report))
    broken = dict.fromkeys(each.broken for each in report.rounds)
    agree = "agree" if report.books_agree else "[bold red]differ[/]"
    console.print(
        f"In each middle third the busiest paid backend failed: {', '.join(broken)}.\n"
        "Failed over: that backend failed and another answered.\n"
        "Passed on: a backend was well but had no answer, and the next one was asked.\n"
        f"What the backends billed and what plb counted {agree}.\n"
        f"Took {report.seconds:.1f} s; --seed {report.seed} draws the same latencies"
        " and choices."
    )


def _course(report: Report) -> Table:
    table = _table(
        "What came of the questions",
        ("answered", "failed\nover", "passed\non", "p50\nms", "p95\nms"),
        ("billed\n$", "counted\n$"),
    )
    for each in report.rounds:
        table.add_row(
            each.algorithm,
            f"{each.answered}/{each.questions}",
            str(each.failovers),
            str(each.passed_on),
            f"{each.p50_ms:.0f}",
            f"{each.p95_ms:.0f}",
            f"{each.billed_micro_usd / 1e6:.6f}",
            f"{each.counted_micro_usd / 1e6:.6f}",
        )
    return table


def _shares(report: Report) -> Table:
    table = _table("Who answered", NAMES)
    for each in report.rounds:
        shares = [f"{each.shares[name]:.0%}" for name in NAMES]
        table.add_row(each.algorithm, *shares)
    return table


def _table(title: str, *headings: Sequence[str]) -> Table:
    table = Table(
        title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left"
    )
    table.add_column("algorithm", no_wrap=True)
    for heading in itertools.chain(*headings):
        table.add_column(heading, justify="right")
    return table
