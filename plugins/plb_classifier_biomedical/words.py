"""The words and phrases by which a question shows what it is about."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

MECHANISM: Final = "mechanism"
RELATION: Final = "relation"
METHOD: Final = "method"
DEFINITION: Final = "definition"
SUBJECT: Final = "subject"
NEWS: Final = "news"
MARKET: Final = "market"
EVENT: Final = "event"

Signal = tuple[str, float]

# Weight 2 decides alone, 1 needs company.
_BY_SIGNAL: Final[dict[Signal, str]] = {
    (MECHANISM, 2.0): """
        mechanism mechanisms pathway pathways signaling signalling glycolysis
        gluconeogenesis lipolysis lipogenesis apoptosis autophagy ferroptosis
        ketogenesis pathogenesis pathophysiology homeostasis cascade upstream downstream
        pharmacokinetics pharmacodynamics""",
    (MECHANISM, 1.0): """
        role function functions cause causes why work works affect affects effect
        effects synthesis production transport transporter transporters convert converts
        converted mediate mediates mediated trigger triggers induce induces induced bind
        binds binding feedback flux cycle deficiency mutation mutations metabolism
        metabolic metabolized metabolised""",
    (RELATION, 2.0): """
        relationship relationships correlation correlations interaction interactions
        crosstalk association associations""",
    (RELATION, 1.0): """
        between related associated correlate correlates correlated link links linked
        connection connections interact interacts connected differ difference
        differences compare compared risk elevated""",
    (METHOD, 2.0): """
        nmr chromatography spectrometry spectroscopy biomarker biomarkers crispr
        untargeted""",
    (METHOD, 1.0): """
        assay assays elisa qpcr immunoassay lcms gcms method methods protocol protocols
        measure measured quantify normalisation normalization preprocessing sample
        samples cohort cohorts study studies research evidence literature hypothesis
        statistical batch extraction targeted reproducibility""",
    (DEFINITION, 1.0): """
        define definition explain describe meaning overview introduction""",
    (SUBJECT, 1.0): """
        glucose insulin lipid lipids protein proteins gene genes cell cells dna rna mrna
        atp cardiovascular bile heart lung neuron neurons nad nadh coa acetyl
        mitochondria mitochondrial mitochondrion cancer tumor tumour diabetes obesity
        disease diseases metabolite metabolites amino acid acids enzyme enzymes receptor
        receptors hormone hormones liver kidney plasma serum urine blood brain muscle
        microbiome bacteria bacterial virus viral antibody antibodies vaccine vaccines
        drug drugs inflammation inflammatory immune cholesterol ceramide ceramides
        lactate pyruvate citrate glutamine glutamate tryptophan carnitine metformin
        statin statins aspirin ketone ketones alzheimer parkinson sepsis kinase kinases
        peptide peptides vitamin vitamins molecule molecules molecular biology
        biochemical""",
    (NEWS, 2.0): """
        latest news newest today yesterday tonight breaking headline headlines recently
        nowadays currently""",
    (NEWS, 1.0): """
        recent new now current announced announces announce announcement update updates
        updated week month trend trending upcoming tomorrow""",
    (MARKET, 2.0): """
        price prices pricing stock stocks shares cheapest revenue dividend nasdaq
        invoice discount""",
    (MARKET, 1.0): """
        cost costs market buy purchase sell sale vendor vendors supplier suppliers
        company companies available dollar dollars euro euros cheap quote ipo""",
    (EVENT, 2.0): """
        weather election elections deadline recall recalled outbreak recruiting vacancy
        vacancies forecast shortage""",
    (EVENT, 1.0): """
        conference schedule approved approval approves released launch launched launches
        funding grant grants winner won award prize event events ceo fda ema phase trial
        trials date dates registration register opening""",
}
_PHRASES_BY_SIGNAL: Final[dict[Signal, tuple[str, ...]]] = {
    (MECHANISM, 1.0): ("how does", "how do", "how is", "how are", "mode of"),
    (RELATION, 1.0): ("compared with", "depend on", "lead to", "leads to"),
    (METHOD, 2.0): (
        "mass spectrometry",
        "sample preparation",
        "systematic review",
        "batch effects",
    ),
    (METHOD, 1.0): ("lc ms", "gc ms"),
    (DEFINITION, 1.0): ("what is", "what are", "what does"),
    (NEWS, 2.0): (
        "this week",
        "this month",
        "this year",
        "last week",
        "last month",
        "right now",
        "just announced",
        "what happened",
        "so far",
        "as of",
    ),
    (MARKET, 2.0): ("how much", "market cap", "where can"),
    (EVENT, 2.0): ("who won", "clinical trial", "clinical trials", "who is", "when is"),
}
# First six letters of families with many endings.
_STEMS_BY_SIGNAL: Final[dict[Signal, str]] = {
    (MECHANISM, 2.0): "inhibi activa biosyn phosph oxidat catabo anabol",
    (MECHANISM, 1.0): "regula modula dysreg express secret degrad",
    (METHOD, 2.0): "chroma spectr",
}


def _inverted(groups: dict[Signal, str]) -> MappingProxyType[str, Signal]:
    return MappingProxyType(
        {word: signal for signal, words in groups.items() for word in words.split()}
    )


WORDS: Final = _inverted(_BY_SIGNAL)
STEMS: Final = _inverted(_STEMS_BY_SIGNAL)
PHRASES: Final = MappingProxyType(
    {
        phrase: signal
        for signal, phrases in _PHRASES_BY_SIGNAL.items()
        for phrase in phrases
    }
)
# Enzymes end in -ase and fields of study in -omics; these ordinary words do, too.
NOT_AN_ENZYME: Final = frozenset(
    {
        "briefcase",
        "database",
        "decrease",
        "disease",
        "increase",
        "paraphrase",
        "purchase",
        "release",
        "showcase",
        "staircase",
        "suitcase",
    }
)
NOT_A_FIELD: Final = frozenset({"agronomics", "economics", "ergonomics"})
PHRASE_ENDS: Final = frozenset(phrase.split()[1] for phrase in PHRASES)
