"""The Porter stemmer, word for word as SQLite's `porter` tokenizer applies it.

Coverage is judged here and retrieval happens there; both must see the same stems.
Source: M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980.
"""

from __future__ import annotations

import functools
from typing import Final

MIN_LENGTH: Final = 3
MAX_BYTES: Final = 64  # SQLite leaves longer words as they are

_STEP_2: Final = (
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("logi", "log"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
)
_STEP_3: Final = (
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
)
_STEP_4: Final = tuple(
    "al ance ence er ic able ible ant ement ment ent ou ism ate iti ous ive ize".split()  # noqa: SIM905 - a list of endings reads best as one
)


def _consonant(word: str, at: int) -> bool:
    letter = word[at]
    if letter in "aeiou":
        return False
    return letter != "y" or at == 0 or not _consonant(word, at - 1)


def _measure(stem: str) -> int:
    """Count the vowel-to-consonant changes: m in Porter's [C](VC)^m[V]."""
    count, after_vowel = 0, False
    for at in range(len(stem)):
        consonant = _consonant(stem, at)
        count += consonant and after_vowel
        after_vowel = not consonant
    return count


def _has_vowel(stem: str) -> bool:
    return any(not _consonant(stem, at) for at in range(len(stem)))


def _doubled(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and word[-1] not in "aeiou"


def _short_end(word: str) -> bool:
    """Tell whether the word ends consonant-vowel-consonant, the last not w, x or y."""
    last = len(word) - 1
    return (
        last > 1
        and _consonant(word, last)
        and not _consonant(word, last - 1)
        and _consonant(word, last - 2)
        and word[last] not in "wxy"
    )


def _ends(word: str, suffix: str) -> bool:
    return len(word) > len(suffix) and word.endswith(suffix)


def _plural(word: str) -> str:
    for suffix, kept in (("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")):
        if _ends(word, suffix):
            return word[: len(word) - len(suffix)] + kept
    return word


def _past(word: str) -> str:
    if _ends(word, "eed"):
        return word[:-1] if _measure(word[:-3]) else word
    for suffix in ("ed", "ing"):
        if word.endswith(suffix):
            stem = word[: -len(suffix)]
            return _repaired(stem) if _has_vowel(stem) else word
    return word


def _repaired(stem: str) -> str:
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if _doubled(stem) and stem[-1] not in "lsz":
        return stem[:-1]
    return stem + "e" if _measure(stem) == 1 and _short_end(stem) else stem


def _replaced(word: str, table: tuple[tuple[str, str], ...]) -> str:
    for suffix, kept in table:
        if word.endswith(suffix):
            stem = word[: -len(suffix)]
            return stem + kept if _measure(stem) else word
    return word


def _shortened(word: str) -> str:
    for suffix in _STEP_4:
        if word.endswith(suffix):
            stem = word[: -len(suffix)]
            return stem if _measure(stem) > 1 else word
    if word.endswith("ion"):
        stem = word[:-3]
        return stem if stem.endswith(("s", "t")) and _measure(stem) > 1 else word
    return word


@functools.lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """Return the stem of a lower-case word; other scripts come back unchanged."""
    if len(word) < MIN_LENGTH or len(word.encode()) > MAX_BYTES:
        return word
    word = _past(_plural(word))
    if word.endswith("y") and _has_vowel(word[:-1]):
        word = word[:-1] + "i"
    word = _shortened(_replaced(_replaced(word, _STEP_2), _STEP_3))
    if word.endswith("e"):
        rest = word[:-1]
        size = _measure(rest)
        if size > 1 or (size == 1 and not _short_end(rest)):
            word = rest
    if word.endswith("ll") and _measure(word) > 1:
        word = word[:-1]
    return word
