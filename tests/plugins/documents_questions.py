"""Questions to the starter collection with a phrase that a right answer contains.

`SHARED` uses the collection's own words, `FORMS` other forms of them, `PARAPHRASED`
other words altogether. `OFF_TOPIC` and `NEAR_MISSES` have no answer there; the latter
share a word with it.
"""

SHARED = [
    ("What are metabolic pathways?", "ordered series of enzyme-catalysed reactions"),
    ("What is the net gain of glycolysis per glucose?", "two ATP and two NADH"),
    ("What does citrate synthase do in the TCA cycle?", "acetyl-CoA with oxaloacetate"),
    ("What drives ATP synthase?", "proton gradient across the inner membrane"),
    ("What is metformin?", "biguanide"),
    ("Which columns retain polar compounds?", "HILIC"),
    ("What is lipidomics?", "studies all lipids"),
    ("What causes phenylketonuria?", "phenylalanine hydroxylase"),
    ("What is the main fuel of the cells that line the colon?", "Butyrate"),
    ("What does probabilistic quotient normalisation do?", "median ratio"),
]
FORMS = [
    ("Which inhibitor blocks complex I?", "Rotenone"),
    ("How do cells regulate their pathways?", "few steps"),
    ("What is secreted when glucose is rising?", "beta cells"),
    ("Which oxidation shortens a fatty acid?", "Beta-oxidation"),
    ("What activates phosphofructokinase?", "AMP and fructose 2,6-bisphosphate"),
    ("How is urine normalized to creatinine?", "creatinine or osmolality"),
    ("What suppresses ions in electrospray?", "co-eluting"),
    ("How are false discoveries controlled?", "Benjamini-Hochberg"),
    ("How are newborns being screened?", "dried blood"),
    ("Which bacterium ferments fibres?", "ferment dietary fibre"),
]
PARAPHRASED = [
    ("How does the pancreas sense sugar?", "potassium channels"),
    ("What happens when muscles run short of air during a sprint?", "lactate"),
    ("How do I stop cell chemistry quickly before an experiment?", "Quenching"),
    ("Why do cyanide victims suffocate?", "complex IV"),
    ("Which gut upset does the common sugar-lowering pill bring?", "diarrhoea"),
    ("What do starving people burn in the brain?", "ketone bodies"),
    ("How does the body get rid of toxic nitrogen waste?", "urea"),
    ("Which inherited illness is tested with a heel prick in babies?", "dried blood"),
    (
        "How can heating a molecule into vapour limit what is seen?",
        "decompose when heated",
    ),
    ("Which instrument works with magnets and hydrogen nuclei?", "Nuclear magnetic"),
]
OFF_TOPIC = [
    "Who won the football world cup in 1998?",
    "What is the capital of Mongolia?",
    "How do I bake sourdough bread?",
    "What are the rules of chess?",
    "Which programming language should I learn first?",
    "When does the next train to Vienna leave?",
    "How tall is Mount Everest?",
    "Who wrote Hamlet?",
    "What is the exchange rate of the yen?",
    "How do I repair a flat bicycle tyre?",
]
NEAR_MISSES = [
    "What is the price of insulin in Canada?",
    "Which cycle path leads to Rotterdam?",
    "How many cells does a phone network have?",
    "What is the best chain for a mountain bike?",
    "Who is the mother of Peter the Great?",
    "What is the energy policy of France?",
    "Who founded the company that sells metformin in India?",
    "How do I clean a membrane keyboard?",
    "Which drug laws changed in Oregon?",
    "What is the heart rate of a hummingbird?",
]
