"""Cut Markdown, reStructuredText and plain text into passages under their headings.

A passage is an exact slice of its cleaned file, so every quote can be found again.
Code blocks, front matter and comments are left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

import attrs

from plb_backend_documents.sentences import sentence_spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Markup = Literal["markdown", "rst", "plain"]
MARKUP: Final[dict[str, Markup]] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".rst": "rst",
    ".txt": "plain",
}
PASSAGE_CHARACTERS: Final = 1_000
"""About 150 words: one thought, and within what a small sentence encoder reads."""

HEADING_JOINT: Final = " \u203a "
_BLANKED: Final = dict.fromkeys(
    [
        *range(9),
        *(11, 12),
        *range(14, 32),
        *range(127, 160),
        # Direction overrides could show a quote in another order than it is written.
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    ],
    " ",
)
_HEADING: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
_FENCE: Final = re.compile(r"[ \t]*(`{3,}|~{3,})")
_RST_RULES: Final = frozenset("=-`:'\"~^_*+#<>.")


@attrs.frozen
class Passage:
    """A slice of a file. `line` counts from 1; `heading` is the trail of headings."""

    heading: str
    line: int
    text: str


@attrs.define
class _Outline:
    """The headings above the current line, outermost first."""

    trail: list[tuple[int, str]] = attrs.field(factory=list)
    rules: list[str] = attrs.field(factory=list)

    def enter(self, level: int, title: str) -> None:
        while self.trail and self.trail[-1][0] >= level:
            self.trail.pop()
        self.trail.append((level, title))

    def level_of(self, rule: str) -> int:
        """Return an underline's level: order of first use, as reStructuredText does."""
        if rule not in self.rules:
            self.rules.append(rule)
        return self.rules.index(rule) + 1

    def __str__(self) -> str:
        return HEADING_JOINT.join(title for _, title in self.trail if title)


def cleaned(text: str) -> str:
    """Return `text` with Unix line ends, control characters turned into blanks."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return text.translate(_BLANKED)


def split(text: str, markup: Markup) -> Iterator[Passage]:
    """Yield the passages of a cleaned text in order; none for a text without prose."""
    line, counted = 1, 0
    for start, end, heading in _regions(text, markup):
        for first, last in _grouped(text[start:end]):
            line += text.count("\n", counted, start + first)
            counted = start + first
            yield Passage(heading, line, text[start + first : start + last])


def _grouped(region: str) -> Iterator[tuple[int, int]]:
    """Join neighbouring sentences up to the size of a passage."""
    first = last = -1
    for start, end in sentence_spans(region):
        if first < 0:
            first = start
        elif end - first > PASSAGE_CHARACTERS:
            yield first, last
            first = start
        last = end
    if first >= 0:
        yield first, last


def _regions(text: str, markup: Markup) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, heading) of each stretch of prose."""
    if markup == "plain":
        yield 0, len(text), ""
        return
    outline = _Outline()
    lines = text.split("\n")
    at = begin = 0
    index = 0
    while index < len(lines):
        title = _title(lines, index, markup, outline)
        skipped = 0 if title else _skipped(lines, index, markup)
        taken = title[0] if title else skipped or 1
        size = sum(len(line) + 1 for line in lines[index : index + taken])
        if title or skipped:
            yield begin, at, str(outline)
            begin = min(at + size, len(text))
        if title:
            outline.enter(title[1], title[2])
        at += size
        index += taken
    yield min(begin, len(text)), len(text), str(outline)


def _title(
    lines: list[str], index: int, markup: Markup, outline: _Outline
) -> tuple[int, int, str] | None:
    """Return (lines taken, level, title) when a heading starts at this line."""
    line = lines[index]
    if markup == "markdown" and (match := _HEADING.match(line)):
        title = (match[2] or "").strip()
        return 1, len(match[1]), _plain(re.sub(r"(?:^|[ \t]+)#+$", "", title))
    alone = index == 0 or not lines[index - 1].strip() or _rule(lines[index - 1])
    if not alone or not line.strip() or index + 1 == len(lines) or _rule(line):
        return None
    rule = _rule(lines[index + 1])
    if markup == "markdown" and rule in ("=", "-"):
        return 2, 1 if rule == "=" else 2, _plain(line.strip())
    if markup == "rst" and rule and len(lines[index + 1].rstrip()) >= len(line.strip()):
        return 2, outline.level_of(rule), _plain(line.strip())
    return None


def _rule(line: str) -> str:
    """Return the character that an underline repeats, "" for another line."""
    line = line.rstrip()
    repeated = len(line) > 1 and line == line[0] * len(line)
    return line[0] if repeated and line[0] in _RST_RULES else ""


def _plain(title: str) -> str:
    """Return a title without emphasis marks and link targets."""
    title = re.sub(r"!?\[([^][]*)\]\([^()]*\)", r"\1", title)
    return " ".join(title.replace("`", "").replace("*", "").split())[:200]


def _skipped(lines: list[str], index: int, markup: Markup) -> int:
    """Return how many lines from here on are not prose."""
    line = lines[index]
    if markup == "rst":
        directive = line.startswith("..") and not line[2:3].strip()
        if directive or _is_literal(lines, index):
            return 1 + _indented(lines, index + 1)
        return 0
    if index == 0 and line.rstrip() == "---":
        return _through(lines, 1, _ends_front_matter)
    if fence := _FENCE.match(line):
        closing = re.compile(rf"[ \t]*{fence[1]}{fence[1][0]}*[ \t]*$")
        return (_through(lines, index + 1, closing.match) or len(lines)) - index
    if line.lstrip().startswith("<!--"):
        return (_through(lines, index, _ends_comment) or len(lines)) - index
    return 0


def _is_literal(lines: list[str], index: int) -> bool:
    """Tell whether this line is the first indented one after a line with "::"."""
    if not lines[index].strip() or lines[index][0] not in " \t":
        return False
    above = index - 1
    while above >= 0 and not lines[above].strip():
        above -= 1
    return above >= 0 and lines[above].rstrip().endswith("::")


def _ends_front_matter(line: str) -> bool:
    return line.rstrip() in ("---", "...")


def _ends_comment(line: str) -> bool:
    return "-->" in line


def _indented(lines: list[str], index: int) -> int:
    """Count the lines from `index` on that are blank or indented."""
    at = index
    while at < len(lines) and (not lines[at].strip() or lines[at][0] in " \t"):
        at += 1
    return at - index


def _through(lines: list[str], index: int, is_last: Callable[[str], object]) -> int:
    """Return the index after the first last line, 0 when there is none."""
    for at in range(index, len(lines)):
        if is_last(lines[at]):
            return at + 1
    return 0
