"""Find the documents of a folder and read them, never leaving the folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from plb_backend_documents.passages import MARKUP, cleaned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_FILE_BYTES: Final = 4 << 20
"""A book of 4 MiB is indexed; data dumps that end in .txt are not."""


class Unreadable(Exception):
    """A file or folder is left out; the message says why."""


@attrs.frozen
class Document:
    """A file to index. `shown` is its path as answers show it."""

    shown: str
    path: Path
    size: int
    mtime_ns: int


def find_documents(
    folders: Sequence[Path],
) -> tuple[list[Document], list[tuple[str, str]]]:
    """Return all documents, sorted, and what is left out as (path, why).

    Hidden files and folders are passed over. A linked folder is never entered; a
    linked file is read only when it lies within the folder.
    """
    documents: list[Document] = []
    problems: list[tuple[str, str]] = []
    for folder in folders:
        root = folder.resolve()
        for path in _candidates(root, problems):
            inside = path.relative_to(root).as_posix()
            shown = f"{root.name}/{inside}" if root.name else inside
            try:
                documents.append(_document(path, root, shown))
            except Unreadable as error:
                problems.append((_printable(shown), str(error)))
    documents.sort(key=lambda each: each.shown)
    return documents, problems


def _candidates(root: Path, problems: list[tuple[str, str]]) -> Iterator[Path]:
    def note(error: OSError) -> None:
        problems.append((_printable(str(error.filename)), error.strerror or "failed"))

    for place, names, files in os.walk(root, onerror=note):
        names[:] = [name for name in names if not name.startswith(".")]
        for name in files:
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - no Path per file
            if suffix in MARKUP and not name.startswith("."):
                yield Path(place, name)


def _document(path: Path, root: Path, shown: str) -> Document:
    try:
        shown.encode()
    except UnicodeEncodeError:
        message = "its name is not valid UTF-8"
        raise Unreadable(message) from None
    try:
        if path.is_symlink() and not _real(path).is_relative_to(root):
            message = "a link that leads out of the folder"
            raise Unreadable(message)
        status = path.stat()
    except OSError as error:
        raise Unreadable(error.strerror or "failed") from None
    if not stat.S_ISREG(status.st_mode):
        message = "not a regular file"
        raise Unreadable(message)
    if status.st_size > MAX_FILE_BYTES:
        message = f"larger than {MAX_FILE_BYTES >> 20} MiB"
        raise Unreadable(message)
    return Document(shown, path, status.st_size, status.st_mtime_ns)


def _real(path: Path) -> Path:
    # Path.resolve raises RuntimeError for a loop of links before Python 3.13.
    return Path(os.path.realpath(path))


def read_bytes(document: Document) -> bytes:
    """Return the file's content; raises `Unreadable`."""
    try:
        with document.path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Unreadable(error.strerror or "failed") from None
    if len(content) > MAX_FILE_BYTES:
        message = f"larger than {MAX_FILE_BYTES >> 20} MiB"
        raise Unreadable(message)
    return content


def decoded(content: bytes) -> str:
    """Return the cleaned text of a file; raises `Unreadable` for anything but text."""
    if b"\0" in content:
        message = "binary, not text"
        raise Unreadable(message)
    try:
        return cleaned(content.decode("utf-8"))
    except UnicodeDecodeError:
        message = "not UTF-8 text"
        raise Unreadable(message) from None


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()
