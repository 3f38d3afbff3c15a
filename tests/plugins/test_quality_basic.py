from __future__ import annotations

import attrs
import pytest

import plb_quality_basic as basic
from plb_core import Answer, Query, Source
from plb_core.testing.contracts.quality_scorer import (
    GOOD,
    QUESTION,
    QualityScorerContract,
)

PLAIN = attrs.evolve(GOOD, text=GOOD.text.replace("[1]", "").replace("[2]", ""))


def score(answer: Answer, query: Query = QUESTION, **settings: int) -> dict[str, float]:
    scorer = basic.BasicQuality(basic.BasicQualitySettings(**settings))
    scores = scorer.score(query, answer)
    assert scores is not None
    return dict(scores)


class TestBasicQuality(QualityScorerContract):
    provider = basic.plb_register_quality_scorer()


def test_a_good_cited_answer_scores_high_in_all_three_dimensions() -> None:
    assert score(GOOD) == pytest.approx(
        {"relevance": 1.0, "factual_accuracy": 0.9, "content": 0.925}, abs=0.08
    )


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_an_empty_answer_scores_nothing(text: str) -> None:
    assert set(score(Answer(text)).values()) == {0.0}


def test_has_no_opinion_on_a_tool_call() -> None:
    answer = Answer("", finish_reason="tool_calls", tool_calls=({"id": "call_1"},))
    scorer = basic.BasicQuality(basic.BasicQualitySettings())
    assert scorer.score(QUESTION, answer) is None


@pytest.mark.parametrize(
    "text",
    [
        "Sorry, I'm not able to provide an answer to that question.[no-context]",
        "I\u2019m sorry, but I can\u2019t help with metabolic pathways.",
        "I cannot answer that.",
        "I don't know.",
        "I do not have enough information about metabolic pathways.",
        "As an AI language model, I have no opinion on metabolic pathways.",
        "No relevant information was found on metabolic pathways.",
        "I am unable to browse.",
    ],
)
def test_a_refusal_scores_low(text: str) -> None:
    assert set(score(Answer(text)).values()) == {0.1}


def test_a_filtered_answer_counts_as_refused() -> None:
    answer = attrs.evolve(GOOD, finish_reason="content_filter")
    assert set(score(answer).values()) == {0.1}


def test_words_of_refusal_late_in_an_answer_do_not_count() -> None:
    answer = attrs.evolve(GOOD, text=f"{GOOD.text} Bacteria say: I cannot fix carbon.")
    assert score(answer)["relevance"] == 1.0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (GOOD, 0.9),
        (PLAIN, 0.7),
        (attrs.evolve(PLAIN, llm_generated=False), 0.95),
        (attrs.evolve(PLAIN, sources=()), 0.4),
        (attrs.evolve(GOOD, sources=()), 0.2),
        (attrs.evolve(GOOD, sources=(Source("only one"),)), 0.55),
        (Answer("Chains of reactions."), 0.6),
        (Answer("Chains of reactions [0].", sources=(Source("one"),)), 0.2),
    ],
)
def test_accuracy_follows_the_citations(answer: Answer, expected: float) -> None:
    assert score(answer)["factual_accuracy"] == pytest.approx(expected)


def test_relevance_is_the_share_of_terms_found() -> None:
    query = Query("glycolysis pyruvate oxaloacetate")
    values = [
        score(Answer(text), query)["relevance"]
        for text in ("Cats purr.", "Glycolysis.", "Glycolysis, pyruvate.")
    ]
    assert values == pytest.approx([0.2, 0.6, 1.0])


def test_endings_do_not_matter_to_relevance() -> None:
    assert score(Answer("It is metabolism."), Query("metabolic?"))["relevance"] == 1.0


def test_a_script_without_spaces_is_compared_by_sign() -> None:
    query = Query("代谢途径是什么")
    near = score(Answer("代谢途径是一系列化学反应"), query)["relevance"]
    far = score(Answer("今天下雨"), query)["relevance"]
    assert near > 0.8
    assert far < 0.3


@pytest.mark.parametrize("text", ["", "?!", "what is it", "why would you"])
def test_leaves_relevance_out_when_nothing_was_asked(text: str) -> None:
    assert sorted(score(GOOD, Query(text))) == ["content", "factual_accuracy"]


def test_a_short_answer_has_less_content_than_a_long_one() -> None:
    assert score(Answer("Yes."))["content"] == pytest.approx(0.415)
    assert score(Answer("Yes."), full_length_words=1)["content"] == 1.0


def test_a_cut_answer_has_half_the_content() -> None:
    cut = attrs.evolve(GOOD, finish_reason="length")
    assert score(cut)["content"] == pytest.approx(score(GOOD)["content"] / 2)


def test_an_answer_that_repeats_itself_has_half_the_content() -> None:
    assert score(Answer("metabolic pathway " * 100))["content"] == 0.5


@pytest.mark.parametrize(
    "text",
    [
        "Complex I cannot accept electrons from succinate.",
        "Patients unable to provide a sample were left out.",
        "Cells know no relevant difference between the two.",
        "What I can tell: pathways are chains of reactions.",
    ],
)
def test_ordinary_text_is_not_taken_for_a_refusal(text: str) -> None:
    assert score(Answer(text))["factual_accuracy"] == 0.6


def test_the_length_from_which_to_cite_can_be_set() -> None:
    answer = attrs.evolve(PLAIN, sources=())
    assert score(answer, cite_from_words=100)["factual_accuracy"] == 0.6


def test_never_guesses_user_satisfaction() -> None:
    assert set(score(GOOD)) == {"relevance", "factual_accuracy", "content"}


@pytest.mark.parametrize("field", ["full_length_words", "cite_from_words"])
def test_refuses_a_setting_of_zero(field: str) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        basic.BasicQualitySettings(**{field: 0})
