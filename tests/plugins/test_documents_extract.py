"""Cutting documents into passages and sentences, and picking what answers."""

import re
import sqlite3
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plb_backend_documents.extract import (
    Sentence,
    extract,
    numbered,
    pick,
    sentences_of,
)
from plb_backend_documents.index import Found, Index, open_starter
from plb_backend_documents.passages import Markup, cleaned, split
from plb_backend_documents.ranking import TOKENIZER
from plb_backend_documents.sentences import sentence_spans, shown
from plb_backend_documents.stem import stem
from plb_backend_documents.terms import match_expression, question_terms
from tests.plugins.documents_questions import (
    FORMS,
    NEAR_MISSES,
    OFF_TOPIC,
    PARAPHRASED,
    SHARED,
)

MIN_COVERAGE = 0.4
ENDINGS = """
    ational tional enci izer logi bli alli entli eli ousli ization ation ator alism
    iveness fulness ousness aliti iviti biliti icate ative alize iciti ical ful ness
    ance able ement ment ent sion tion ism ive eed ed ing ying s es ies sses y e ll
    """.split()  # noqa: SIM905 - a list of endings reads best as one
LINES = st.lists(
    st.sampled_from(
        [
            "",
            " ",
            "# Title",
            "## Part *two* [here](x)",
            "Plain words. More words!",
            "over the line e.g. this",
            "Underlined",
            "====",
            "----",
            "- item one. Item two.",
            "> quoted text",
            "> - deep",
            "| a | b |",
            "|---|---|",
            "```",
            "~~~",
            "<!-- hidden",
            "-->",
            "---",
            ".. note::",
            "   indented",
            "literal::",
            "word " * 120,
            "x" * 900,
            "Ünïcode “Quote.” Next 中文。再见。",
            "\tTab. \x0c feed\x85 next\u2028sep",
        ]
    ),
    max_size=30,
)
TEXTS = st.one_of(
    LINES.map("\n".join),
    LINES.map("\r\n".join),
    st.text(alphabet="aB. \n\r#`>-|=!?\t\x00*", max_size=200),
    st.text(max_size=200),
)


@pytest.fixture(scope="module", params=[True, False], ids=["fts5", "python"])
def starter(request: pytest.FixtureRequest) -> Iterator[Index]:
    index = open_starter(fts5=request.param)
    yield index
    index.close()


def words_of(endings: Sequence[str]) -> st.SearchStrategy[str]:
    return st.builds(
        "{}{}".format,
        st.text("aeioubcdlmnrstvwxyz", max_size=6),
        st.sampled_from(endings),
    ).filter(bool)


@settings(max_examples=30)
@given(
    st.lists(
        words_of(ENDINGS),
        min_size=1,
        max_size=100,
    )
)
def test_stems_are_those_of_sqlite(words: list[str]) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute(f"CREATE VIRTUAL TABLE t USING fts5 (x, tokenize='{TOKENIZER}')")
    connection.execute("CREATE VIRTUAL TABLE v USING fts5vocab (t, instance)")
    connection.executemany("INSERT INTO t (rowid, x) VALUES (?, ?)", enumerate(words))
    theirs = dict(connection.execute("SELECT doc, term FROM v"))
    connection.close()
    assert [stem(word) for word in words] == [theirs[at] for at in range(len(words))]


def test_words_of_other_scripts_and_very_long_words_are_left_as_they_are() -> None:
    assert stem("обмен") == "обмен"
    assert stem("a" * 70 + "ing") == "a" * 70 + "ing"
    assert stem("is") == "is"


@given(TEXTS, st.sampled_from(["markdown", "rst", "plain"]))
def test_a_passage_stands_in_its_file_at_the_line_it_names(
    text: str, markup: Markup
) -> None:
    text = cleaned(text)
    lines = text.split("\n")
    behind = 0
    for passage in split(text, markup):
        assert passage.text == passage.text.strip()
        assert passage.text
        rest = "\n".join(lines[passage.line - 1 :])
        assert passage.text in rest
        assert passage.text.split("\n")[0] in lines[passage.line - 1]
        at = text.index(passage.text, behind)
        assert text.count("\n", 0, at) + 1 <= passage.line
        behind = at


@given(TEXTS)
def test_sentences_are_slices_in_order_that_lose_no_word_of_plain_prose(
    text: str,
) -> None:
    text = cleaned(text)
    end = 0
    for start, stop in sentence_spans(text):
        assert end <= start < stop <= len(text)
        assert text[start:stop] == text[start:stop].strip()
        assert stop - start <= 400
        end = stop
    kept = "".join(text[a:b] for a, b in sentence_spans(text))
    prose = [line for line in text.split("\n") if re.fullmatch(r"[A-Za-z. ]*", line)]
    for word in " ".join(prose).split():
        assert word[:400] in kept or len(word) > 400


@given(TEXTS, st.text(max_size=60))
def test_every_quoted_sentence_occurs_verbatim_in_its_source(
    text: str, question: str
) -> None:
    text = cleaned(text)
    found = [
        Found("a.md", each.heading, each.line, each.text)
        for each in split(text, "markdown")
    ]
    sentences = sentences_of(found)
    wanted = dict.fromkeys(question_terms(question), 1.0) | {"word": 1.0, "two": 0.5}
    result = pick(sentences, wanted, question, 3)
    assert len(result.sentences) <= 3
    assert 0.0 <= result.coverage <= 1.0
    lines = text.split("\n")
    for sentence in result.sentences:
        assert sentence.text in shown(sentence.passage.text)
        first_word = sentence.text.split()[0]
        assert first_word in lines[sentence.line - 1]
    _, sources = numbered(result.sentences)
    for source in sources:
        for piece in source.quote.split(" … "):
            assert piece in shown(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two? Three!", ["One.", "Two?", "Three!"]),
        ("See Fig. 3 and e.g. Smith et al. 2020. Then stop.", 2),
        ("Take vitamin C. The next.", ["Take vitamin C.", "The next."]),
        ("Work of Anna B. Smith in May. Yes.", 2),
        ("It grows E. coli. Well.", ["It grows E. coli.", "Well."]),
        ("He said “Stop.” Then left.", ["He said “Stop.”", "Then left."]),
        ("Value 2.5 ATP per NADH.", ["Value 2.5 ATP per NADH."]),
        ("- one\n- two\n1. three", ["one", "two", "three"]),
        ("wrapped\nline here. Next\none.", ["wrapped line here.", "Next one."]),
        ("> quoted over\n> two lines.", ["quoted over two lines."]),
        ("| a | b |\n|---|---|\n| c | d |", ["| a | b |", "| c | d |"]),
        ("再见。你好。", ["再见。", "你好。"]),
        ("...", ["..."]),
        ("a" + " " * 900 + "b", ["a", "b"]),
        ("\n\n", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(
    text: str, expected: list[str] | int
) -> None:
    got = [shown(text[a:b]) for a, b in sentence_spans(text)]
    assert (len(got) if isinstance(expected, int) else got) == expected


def test_headings_form_a_trail_and_code_comments_and_front_matter_are_left_out() -> (
    None
):
    text = """---
title: x
---
# One #
Alpha.
## Two `b`
```py
# not a heading
code()
```
Beta.
<!-- secret
words -->
Gamma.

Three
=====
Delta.
#
Epsilon."""
    got = [(each.heading, each.line, each.text) for each in split(text, "markdown")]
    assert got == [
        ("One", 5, "Alpha."),
        ("One › Two b", 11, "Beta."),
        ("One › Two b", 14, "Gamma."),
        ("Three", 18, "Delta."),
        ("", 20, "Epsilon."),
    ]


def test_unclosed_code_hides_the_rest_and_unclosed_front_matter_hides_nothing() -> None:
    assert [each.text for each in split("a.\n```\nb.", "markdown")] == ["a."]
    assert [each.text for each in split("a.\n<!-- b.", "markdown")] == ["a."]
    assert [each.text for each in split("---\na.", "markdown")] == ["a."]
    assert [each.text for each in split("```\nx\n````\nb.", "markdown")] == ["b."]


def test_restructured_text_takes_levels_from_the_order_of_underlines() -> None:
    text = """Top
***
One.

Sub
~~~
Two.

.. code:: python

   hidden

Three::

   hidden too

Four.

Next
****
Five."""
    got = [(each.heading, each.text) for each in split(text, "rst")]
    assert got == [
        ("Top", "One."),
        ("Top › Sub", "Two."),
        ("Top › Sub", "Three::"),
        ("Top › Sub", "Four."),
        ("Next", "Five."),
    ]


def test_plain_text_has_no_headings() -> None:
    got = list(split("# a\n\n```\nb", "plain"))
    assert [each.heading for each in got] == [""]


def test_long_text_is_cut_into_passages_of_bounded_size() -> None:
    text = "Some words in a sentence here. " * 200
    sizes = [len(each.text) for each in split(text, "plain")]
    assert len(sizes) > 5
    assert max(sizes) <= 1000


@pytest.mark.parametrize(
    "hostile",
    [
        '"',
        "'",
        '" OR heading:x',
        "NEAR(a b, 2)",
        "heading : glucose",
        "{heading text} : x",
        "gluc*",
        "^glucose",
        "-glucose",
        "a AND NOT b",
        "(((",
        "x" * 100_000,
        "glucose " * 20_000,
        " ".join(f"w{n}" for n in range(5_000)),
        "\x00\x01",
        "';DROP TABLE passages;--",
        "ʼ´`＂",
        "İstanbul ǅ ß ﬃ ½ ①",
        "é" * 50 + "\u0301" * 50,
        "😀 🧪",
    ],
)
def test_no_question_can_break_or_steer_the_search(
    starter: Index, hostile: str
) -> None:
    terms = question_terms(hostile)
    assert len(terms) <= 32
    expression = match_expression(list(terms.values()))
    assert re.fullmatch(r'("\w+"( OR "\w+")*)?', expression)
    result = extract(starter, hostile, 8, 4)
    assert result is None or 0.0 <= result.coverage <= 1.0


@given(question=st.text(max_size=80))
def test_any_question_gets_a_result_or_none(starter: Index, question: str) -> None:
    result = extract(starter, question, 3, 2)
    assert result is None or len(result.sentences) <= 2


def answer_to(index: Index, question: str) -> str:
    result = extract(index, question, 8, 4)
    if result is None or result.coverage < MIN_COVERAGE:
        return ""
    return " ".join(each.text for each in result.sentences)


@pytest.mark.parametrize(("question", "phrase"), SHARED + FORMS)
def test_questions_in_the_words_of_the_collection_are_answered(
    starter: Index, question: str, phrase: str
) -> None:
    assert phrase in answer_to(starter, question)


def test_paraphrases_are_answered_rightly_or_not_at_all(starter: Index) -> None:
    answers = [
        (phrase, answer_to(starter, question)) for question, phrase in PARAPHRASED
    ]
    given_ones = [(phrase, text) for phrase, text in answers if text]
    assert len(given_ones) >= 3
    assert all(phrase in text for phrase, text in given_ones)


@pytest.mark.parametrize("question", OFF_TOPIC)
def test_questions_about_something_else_get_no_answer(
    starter: Index, question: str
) -> None:
    assert answer_to(starter, question) == ""


def test_one_shared_word_is_rarely_taken_for_an_answer(starter: Index) -> None:
    wrong = [question for question in NEAR_MISSES if answer_to(starter, question)]
    assert len(wrong) <= 1


@pytest.mark.parametrize("question", ["", "   ", "What is it?", "!!!", "who are you"])
def test_a_question_without_meaningful_words_finds_nothing(
    starter: Index, question: str
) -> None:
    assert extract(starter, question, 8, 4) is None


def sentence(
    text: str, heading: str = "", path: str = "notes/a.md", line: int = 1
) -> list[Sentence]:
    return sentences_of([Found(path, heading, line, text)])


def test_coverage_counts_rare_words_more() -> None:
    picked = pick(sentence("Insulin acts."), {"insulin": 1.0, "price": 4.0}, "", 3)
    assert picked.coverage == pytest.approx(0.2)


def test_a_sentence_that_defines_the_word_comes_before_one_that_mentions_it() -> None:
    text = "Some people like flux a lot. Flux is a rate."
    (only,) = pick(sentence(text), {"flux": 1.0}, "What is flux?", 1).sentences
    assert only.text == "Flux is a rate."
    (only,) = pick(sentence(text), {"flux": 1.0}, "who likes flux?", 1).sentences
    assert only.text.startswith("Some people")


def test_equal_sentences_are_quoted_once() -> None:
    text = "Flux is a rate. Flux is a rate."
    assert len(pick(sentence(text), {"flux": 1.0}, "flux", 4).sentences) == 1


def test_a_quote_shows_what_it_leaves_out_and_names_file_and_line() -> None:
    text = "Flux is one.\nOther words here.\nFlux is three."
    result = pick(sentence(text, path="notes/b#1.md", line=10), {"flux": 1.0}, "x", 4)
    texts, (source,) = numbered(result.sentences)
    assert texts == ["Flux is one. [1]", "Flux is three. [1]"]
    assert source.title == "b#1.md"
    assert source.url == "notes/b%231.md#L10"
    assert source.quote == "Flux is one. … Flux is three."


def test_neighbouring_sentences_are_quoted_without_a_gap() -> None:
    text = "Flux is one. Flux is two."
    result = pick(sentence(text, heading="A › B"), {"flux": 1.0}, "x", 4)
    _, (source,) = numbered(result.sentences)
    assert (source.title, source.quote) == ("A › B", text)


def test_reference_numbers_of_a_document_do_not_pose_as_ours() -> None:
    text = "Flux was seen [12] and again [3, 4-6]."
    texts, (source,) = numbered(pick(sentence(text), {"flux": 1.0}, "x", 1).sentences)
    assert texts == ["Flux was seen and again. [1]"]
    assert source.quote == text


def test_a_file_name_cannot_hide_in_a_terminal() -> None:
    result = pick(sentence("Flux.", path="n/\x1b[31m?.md"), {"flux": 1.0}, "x", 1)
    _, (source,) = numbered(result.sentences)
    assert source.url == "n/%1B[31m%3F.md#L1"


def test_control_and_direction_characters_become_blanks_and_keep_their_place() -> None:
    assert cleaned("\ufeffa\x1b[1m\u202eb\tc\r\nd\re") == "a [1m b\tc\nd\ne"
