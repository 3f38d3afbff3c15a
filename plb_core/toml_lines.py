"""Find the line on which each key of a TOML document stands.

`tomllib` gives values without places. This scanner reads a document that tomllib has
already accepted, so it may be lenient: it only has to find where things are.
"""

from __future__ import annotations

import re
import tomllib
from typing import Final

Path = tuple[str | int, ...]

_SPACE: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR: Final = re.compile(r"[^,\]}\n#]+")


def key_lines(text: str) -> dict[Path, int]:
    """Return the 1-based line of every table, key and array element in `text`.

    Keys are paths such as `("backend", "a", "models", "gpt-*")`; elements of arrays
    and of arrays of tables are numbered from 0.
    """
    return _Scanner(text).run()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self.tables: dict[Path, int] = {}

    def run(self) -> dict[Path, int]:
        prefix: Path = ()
        self.space()
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                prefix = self.header()
            else:
                self.pair(prefix)
            self.space()
        return self.lines

    def space(self) -> None:
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def mark(self, path: Path) -> None:
        self.lines.setdefault(path, self.text.count("\n", 0, self.at) + 1)

    def header(self) -> Path:
        array = self.text.startswith("[[", self.at)
        start = self.at
        self.at += 2 if array else 1
        path: Path = ()
        for name in self.key():
            path = (*path, name)
            if path in self.tables and path != ():
                path = (*path, self.tables[path])
        if array:
            base = path[:-1] if path and isinstance(path[-1], int) else path
            self.tables[base] = self.tables.get(base, -1) + 1
            path = (*base, self.tables[base])
        self.at, end = start, self.at
        for length in range(1, len(path) + 1):
            self.mark(path[:length])
        self.at = end + (2 if array else 1)
        return path

    def key(self) -> list[str]:
        names: list[str] = []
        while True:
            self.space()
            match = _BARE.match(self.text, self.at)
            if match:
                names.append(match[0])
            else:
                match = _STRING.match(self.text, self.at)
                if match is None:  # tomllib accepted it, so this cannot be a key
                    return names
                names.append(next(iter(tomllib.loads(f"{match[0]} = 0"))))
            self.at = match.end()
            self.space()
            if not self.text.startswith(".", self.at):
                return names
            self.at += 1

    def pair(self, prefix: Path) -> None:
        start = self.at
        names = self.key()
        end, self.at = self.at, start
        for length in range(1, len(names) + 1):
            self.mark((*prefix, *names[:length]))
        self.at = end + 1
        self.space()
        self.value((*prefix, *names))

    def value(self, path: Path) -> None:
        opening = self.text[self.at : self.at + 1]
        if opening == "[":
            self.elements(path)
        elif opening == "{":
            self.inline_table(path)
        else:
            match = _STRING.match(self.text, self.at) or _SCALAR.match(
                self.text, self.at
            )
            self.at = match.end() if match else self.at + 1

    def elements(self, path: Path) -> None:
        self.at += 1
        index = 0
        self.space()
        while self.within("]"):
            self.mark((*path, index))
            self.value((*path, index))
            index += 1
            self.comma()
        self.at += 1

    def inline_table(self, path: Path) -> None:
        self.at += 1
        self.space()
        while self.within("}"):
            self.pair(path)
            self.comma()
        self.at += 1

    def within(self, closing: str) -> bool:
        return self.at < len(self.text) and not self.text.startswith(closing, self.at)

    def comma(self) -> None:
        self.space()
        if self.text.startswith(",", self.at):
            self.at += 1
            self.space()
