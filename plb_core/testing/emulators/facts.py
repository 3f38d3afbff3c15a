"""What the emulated backends know: a few facts about metabolism.

The same question always gets the same answer, so that answers can be compared.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Final

import attrs

_WORD = re.compile(r"\w{3,}")


@attrs.frozen
class Fact:
    """One page of the emulated knowledge: a title and its sentences."""

    title: str
    sentences: tuple[str, ...]

    @property
    def file_path(self) -> str:
        """The page as a document of a collection."""
        return self.title.lower().replace(" ", "_") + ".md"

    @property
    def url(self) -> str:
        """The page as a page of the web."""
        slug = self.title.lower().replace(" ", "-")
        return f"https://metabolism.example/{slug}"

    @property
    def text(self) -> str:
        """All sentences."""
        return " ".join(self.sentences)


FACTS: Final = (
    Fact(
        "Metabolic pathways",
        (
            (
                "Metabolic pathways are chains of enzyme reactions in which the"
                " product of one step is the substrate of the next."
            ),
            (
                "Some pathways break food down to gain energy, others spend energy to"
                " build the parts of a cell."
            ),
        ),
    ),
    Fact(
        "Glycolysis",
        (
            (
                "Glycolysis turns one glucose into two pyruvate in the cytosol, without"
                " oxygen."
            ),
            "It leaves a gain of two ATP and two NADH for each glucose.",
        ),
    ),
    Fact(
        "Citric acid cycle",
        (
            (
                "The citric acid cycle, or Krebs cycle, burns acetyl groups to carbon"
                " dioxide inside mitochondria."
            ),
            "Each turn loads three NADH and one FADH2 with electrons.",
        ),
    ),
    Fact(
        "Oxidative phosphorylation",
        (
            (
                "Oxidative phosphorylation lets electrons from NADH flow to oxygen and"
                " stores the energy as a proton gradient."
            ),
            "ATP synthase uses that gradient to make most of a cell's ATP.",
        ),
    ),
    Fact(
        "Insulin",
        (
            (
                "Insulin lowers blood sugar: it brings glucose carriers to the surface"
                " of muscle and fat cells."
            ),
            "In the liver it favours storing glycogen over making new glucose.",
        ),
    ),
    Fact(
        "Metformin",
        (
            (
                "Metformin makes the liver release less glucose and is often the first"
                " drug for type 2 diabetes."
            ),
            (
                "It slows the first complex of the respiratory chain, which wakes the"
                " energy sensor AMPK."
            ),
        ),
    ),
    Fact(
        "Fatty acid oxidation",
        (
            "Beta oxidation cuts fatty acids two carbons at a time into acetyl-CoA.",
            "Carnitine carries long fatty acids through the mitochondrial membrane.",
        ),
    ),
    Fact(
        "Metabolomics",
        (
            (
                "Metabolomics measures the small molecules of a sample, mostly by mass"
                " spectrometry or NMR."
            ),
            "The pattern of metabolites shows which pathways are busy or blocked.",
        ),
    ),
)


@functools.lru_cache(maxsize=1024)
def matching(question: str, most: int = 3) -> tuple[Fact, ...]:
    """Return up to `most` facts that share words with the question, best first.

    A question that shares none gets the first fact: an emulator always answers.
    """
    wanted = set(_WORD.findall(question.lower()))
    shared = {
        fact.title: 2 * len(wanted.intersection(_WORD.findall(fact.title.lower())))
        + len(wanted.intersection(_WORD.findall(fact.text.lower())))
        for fact in FACTS
    }
    ranked = sorted(FACTS, key=lambda fact: -shared[fact.title])
    found = tuple(fact for fact in ranked if shared[fact.title])[:most]
    return found or FACTS[:1]


def answer_text(question: str, mark: Callable[[int], str] = "[{}]".format) -> str:
    """Return an answer that cites its facts, in the order of `matching`.

    `mark` writes the mark of the n-th fact, counted from 1.
    """
    return " ".join(
        f"{sentence} {mark(number)}"
        for number, fact in enumerate(matching(question), 1)
        for sentence in (fact.sentences if number == 1 else fact.sentences[:1])
    )


def words(text: str) -> tuple[str, ...]:
    """Return the text in pieces of one word with the blank before it."""
    return tuple(re.findall(r"\s*\S+|\s+$", text))


def token_count(text: str) -> int:
    """Return a count of tokens: one per four characters, at least one."""
    return max(1, -(-len(text) // 4))
