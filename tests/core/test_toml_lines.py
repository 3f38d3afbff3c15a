from __future__ import annotations

import tomllib

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from plb_core.toml_lines import key_lines

DOCUMENT = '''\
# a comment with = and [brackets]
title = "x = y # not a comment"

[backend.a]
plugin = "documents"   # trailing
"quoted.key" = 1
dotted.inner.deep = 2
list = [
  1,  # one
  [2, 3],
  "]",
]
inline = { x = 1, "y z" = [1, 2], w = { v = true } }
text = """
[not.a.table]
key = 1 \\""" still
"""
literal = \'\'\'it\'s = [x]\'\'\'
after = 1979-05-27T07:32:00Z

[[items]]
name = "first"
[[items]]
name = "second"
[items.sub]
deep = 1
[backend.b.models]
"gpt-*" = "*"
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("title",), 2),
        (("backend",), 4),
        (("backend", "a"), 4),
        (("backend", "a", "plugin"), 5),
        (("backend", "a", "quoted.key"), 6),
        (("backend", "a", "dotted", "inner", "deep"), 7),
        (("backend", "a", "list"), 8),
        (("backend", "a", "list", 0), 9),
        (("backend", "a", "list", 1, 1), 10),
        (("backend", "a", "list", 2), 11),
        (("backend", "a", "inline", "y z", 1), 13),
        (("backend", "a", "inline", "w", "v"), 13),
        (("backend", "a", "text"), 14),
        (("backend", "a", "literal"), 18),
        (("backend", "a", "after"), 19),
        (("items", 0, "name"), 22),
        (("items", 1, "name"), 24),
        (("items", 1, "sub", "deep"), 26),
        (("backend", "b", "models", "gpt-*"), 28),
    ],
)
def test_finds_the_line_of_each_key(key: tuple[str | int, ...], line: int) -> None:
    tomllib.loads(DOCUMENT)  # the example itself is valid
    assert key_lines(DOCUMENT)[key] == line


def test_a_multi_line_string_hides_what_looks_like_keys() -> None:
    assert ("not", "a", "table") not in key_lines(DOCUMENT)
    assert ("backend", "a", "key") not in key_lines(DOCUMENT)


NAMES = st.text(min_size=1, max_size=8)
VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
    ),
    max_leaves=12,
)


def paths(
    value: object, path: tuple[str | int, ...] = ()
) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += paths(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += paths(inner, (*path, index))
    return found


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_every_key_of_any_document_has_a_line(document: dict[str, object]) -> None:
    text = tomli_w.dumps(document)
    lines = key_lines(text)
    total = text.count("\n") + 1
    for path in paths(tomllib.loads(text)):
        assert 1 <= lines[path] <= total, path


@given(st.text(alphabet="[]{}=\"'#\n,.ab \\", max_size=40))
def test_never_hangs_or_fails_on_what_tomllib_accepts(text: str) -> None:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    key_lines(text)
