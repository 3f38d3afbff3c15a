"""Make an index of your own documents for the `documents` backend."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plb_core import BuildContext, NoSettings, Provider, hookimpl

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from plb_backend_documents.building import Report
    from plb_core.protocols import Command

DEFAULT_TARGET: Final = "documents.sqlite"
DONE, INCOMPLETE, WRONG = 0, 1, 2


class IndexCommand:
    """Indexes folders.

    Exit status 0: all is indexed; 1: some files are left out, or the index could not be
    written; 2: the folders or the index named cannot be used.
    """

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add options."""
        parser.add_argument(
            "folders",
            metavar="DIR",
            nargs="+",
            type=Path,
            help="folder with .md, .markdown, .rst and .txt files",
        )
        parser.add_argument(
            "--into",
            metavar="FILE",
            type=Path,
            default=Path(DEFAULT_TARGET),
            help="the index file to make or update (default: %(default)s)",
        )
        parser.add_argument(
            "--semantic",
            action="store_true",
            help="also store vectors for search by meaning; needs plb[semantic]",
        )
        parser.add_argument(
            "--json", action="store_true", help="print the result as JSON"
        )

    def run(self, options: argparse.Namespace) -> int:
        """Build or update the index and say what was done."""
        # Imported late: `plb` loads every command to show its help.
        import sqlite3  # noqa: PLC0415

        from plb_backend_documents.building import build_index  # noqa: PLC0415
        from plb_backend_documents.seal import UnusableIndex  # noqa: PLC0415
        from plb_backend_documents.semantic import MissingExtra  # noqa: PLC0415

        if problem := _folder_problem(options.folders):
            return _complain(problem, WRONG)
        shown = sys.stderr.isatty() and not options.json
        try:
            with _Bar(shown=shown) as progress:
                report = build_index(
                    options.folders,
                    options.into,
                    semantic=options.semantic,
                    progress=progress,
                )
        except (UnusableIndex, MissingExtra) as error:
            return _complain(str(error), WRONG)
        except (OSError, sqlite3.Error) as error:
            message = f"cannot write the index {str(options.into)!r}: {error}"
            return _complain(message, INCOMPLETE)
        _print(report, options.into, as_json=options.json)
        return INCOMPLETE if report.problems else DONE


def _folder_problem(folders: list[Path]) -> str:
    """Return what is wrong with the folders named, "" for nothing."""
    names: set[str] = set()
    for folder in folders:
        if not folder.is_dir():
            return f"{str(folder)!r} is not a folder"
        name = folder.resolve().name
        if name in names:
            return f"two folders are named {name!r}; index their parent instead"
        names.add(name)
    return ""


def _complain(message: str, status: int) -> int:
    sys.stderr.write(f"plb index: {message}\n")
    return status


def _print(report: Report, target: Path, *, as_json: bool) -> None:
    counts = {
        "files": report.files,
        "added": report.added,
        "changed": report.changed,
        "unchanged": report.unchanged,
        "removed": report.removed,
        "passages": report.passages,
    }
    if as_json:
        problems = [{"path": path, "problem": why} for path, why in report.problems]
        document = {"index": str(target), **counts, "problems": problems}
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        return
    words = ", ".join(f"{count} {name}" for name, count in counts.items())
    sys.stdout.write(f"{target}: {words}\n")
    for path, why in report.problems:
        shown = "".join(each if each.isprintable() else "?" for each in path)
        sys.stderr.write(f"left out {shown}: {why}\n")


class _Bar:
    """A progress bar on the terminal, or nothing."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown

    def __enter__(self) -> Callable[[str, int, int], None]:
        # Imported late: rich takes longer to load than a small index to build.
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import Progress  # noqa: PLC0415

        self._bar = Progress(
            console=Console(stderr=True), disable=not self._shown, transient=True
        )
        self._bar.start()
        self._tasks = {
            stage: self._bar.add_task(stage, total=None, visible=False)
            for stage in ("reading", "encoding", "writing")
        }
        return self._update

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _update(self, stage: str, done: int, total: int) -> None:
        self._bar.update(self._tasks[stage], completed=done, total=total, visible=True)


def _build(_: NoSettings, __: BuildContext) -> Command:
    return IndexCommand()


@hookimpl
def plb_register_command() -> Provider[Command]:
    """Offer `plb index`."""
    return Provider(
        name="index",
        build=_build,
        summary="Index your own Markdown and text folders for the documents backend.",
    )
