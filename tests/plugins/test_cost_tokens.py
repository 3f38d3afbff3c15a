from __future__ import annotations

import attrs
import pytest

from plb_core import BackendInfo, Price, Query, Usage
from plb_core.structure import Problems, read_settings
from plb_core.testing.contracts.cost_scorer import CostScorerContract, backend
from plb_cost_tokens import plb_register_cost_scorer
from plb_cost_tokens.prompt import prompt_bytes
from plb_cost_tokens.scorer import TokenCost, TokenCostSettings

LUNA = Price(125_000, 500_000, 0, 2_500)
BARE = TokenCostSettings(
    default_max_output_tokens=100,
    max_added_tokens=0,
    max_searches=0,
    max_tokens_per_search=0,
)


class TestTokenCost(CostScorerContract):
    provider = plb_register_cost_scorer()
    searches_bound = TokenCostSettings().max_searches


class TestTokenCostWithoutMargins(CostScorerContract):
    provider = plb_register_cost_scorer()
    settings = BARE
    searches_bound = 0


def costs(price: Price) -> tuple[TokenCost, BackendInfo]:
    return TokenCost(TokenCostSettings()), backend(price)


@pytest.mark.parametrize(
    ("price", "usage", "expected"),
    [
        (Price(1, 0, 0, 0), Usage(1, 0), 1),  # a millionth of a micro-dollar is one
        (Price(1_000_000, 0, 0, 0), Usage(7, 0), 7),
        (Price(1, 1, 0, 0), Usage(1, 1), 1),  # rounded up once, not per term
        (Price(0, 0, 1_000, 0), Usage(), 1_000),
        (Price(0, 0, 0, 2_500), Usage(searches=3), 7_500),
        (LUNA, Usage(3_426, 30, 1), 429 + 15 + 2_500),
        (Price(3, 7, 11, 13), Usage(0, 0, 0), 11),
    ],
)
def test_the_bill_is_rounded_up_to_whole_micro_dollars(
    price: Price, usage: Usage, expected: int
) -> None:
    scorer, info = costs(price)
    assert scorer.actual(usage, info) == expected


@pytest.mark.parametrize(
    "usage",
    [Usage(-1), Usage(0, -5), Usage(searches=-1), Usage(10**9 + 1), Usage(0, 10**40)],
    ids=repr,
)
def test_an_impossible_usage_has_no_cost(usage: Usage) -> None:
    scorer, info = costs(LUNA)
    assert scorer.actual(usage, info) is None


def test_the_largest_possible_usage_still_has_a_cost() -> None:
    scorer, info = costs(Price(1_000_000, 0, 0, 0))
    assert scorer.actual(Usage(10**9), info) == 10**9


def test_the_ceiling_takes_a_token_per_byte_and_the_longest_answer() -> None:
    scorer = TokenCost(BARE)
    info = backend(Price(1_000_000, 2_000_000, 5, 0))
    # "é" is two bytes; a message costs 16 more, a token of the answer 2 micro-dollars
    query = Query("é", max_output_tokens=10)
    assert scorer.ceiling(query, info) == 2 + 16 + 20 + 5
    assert scorer.ceiling(Query("é"), info) == 2 + 16 + 200 + 5


def test_the_ceiling_counts_searches_and_what_is_read_of_them() -> None:
    settings = attrs.evolve(BARE, max_searches=3, max_tokens_per_search=1_000)
    info = backend(Price(1_000_000, 0, 0, 2_500))
    query = Query("", max_output_tokens=1)
    assert TokenCost(settings).ceiling(query, info) == 16 + 3 * 1_000 + 3 * 2_500


def test_searches_without_a_price_are_not_counted() -> None:
    scorer, info = costs(Price(1_000_000, 0, 0, 0))
    query = Query("", max_output_tokens=1)
    assert scorer.ceiling(query, info) == 16 + TokenCostSettings().max_added_tokens


def test_the_estimate_assumes_a_typical_answer() -> None:
    scorer, info = costs(Price(1_000_000, 1_000_000, 7, 100))
    query = Query("x" * 384)  # with its message 400 bytes, a hundred tokens
    assert scorer.estimate(query, info) == 100 + 3_000 + 400 + 7 + 100


def test_the_estimate_keeps_to_a_short_answer_limit_and_to_the_ceiling() -> None:
    info = backend(Price(0, 1_000_000, 0, 0))
    scorer = TokenCost(BARE)
    assert scorer.estimate(Query("q", max_output_tokens=30), info) == 30
    free_prompt = backend(Price(1_000_000, 0, 0, 100))
    eager = attrs.evolve(BARE, max_searches=1, typical_searches=50)
    limited = TokenCost(eager)
    assert limited.estimate(Query("q"), free_prompt) == limited.ceiling(
        Query("q"), free_prompt
    )


def test_a_negative_answer_limit_counts_as_none_of_an_answer() -> None:
    info = backend(Price(0, 1_000_000, 3, 0))
    assert TokenCost(BARE).ceiling(Query("q", max_output_tokens=-5), info) == 3


def test_the_prompt_is_the_conversation_where_there_is_one() -> None:
    talk = (
        {"role": "user", "content": "abc"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "x"}]},
    )
    alone = prompt_bytes(Query("abc", messages=talk[:1]))
    assert alone == 16 + len("user") + len("abc")
    assert prompt_bytes(Query("", messages=talk)) > alone


def test_parts_count_their_text_and_images_a_fixed_bound() -> None:
    text = {"role": "user", "content": [{"type": "text", "text": "abcd"}]}
    image = {"role": "user", "content": [{"type": "image_url", "image_url": "u"}]}
    assert prompt_bytes(Query("", messages=(text,))) == 16 + 4 + 4
    assert prompt_bytes(Query("", messages=(image,))) > 4096


def test_tool_and_format_definitions_count_as_prompt() -> None:
    plain = prompt_bytes(Query("q"))
    tools = [{"type": "function", "function": {"name": "f" * 100}}]
    assert prompt_bytes(Query("q", options={"tools": tools})) > plain + 100


def test_odd_values_in_a_question_are_measured_without_raising() -> None:
    odd = {"role": "user", "content": [b"\xff", 3, None, {"text": 5}], "name": {1, 2}}
    query = Query("\ud800", messages=(odd,), options={"temperature": float("nan")})
    assert prompt_bytes(query) > 0
    assert prompt_bytes(Query("\ud800")) == 16 + 3


def test_wrong_settings_are_refused_with_their_keys() -> None:
    problems = Problems()
    table = {
        "default_max_output_tokens": 0,
        "max_searches": -1,
        "typical_bytes_per_token": 3.5,
        "max_serches": 1,
    }
    assert read_settings(TokenCostSettings, table, ("cost_scorer",), problems) is None
    keys = {each.key for each in problems.found}
    assert keys == {f"cost_scorer.{name}" for name in table}
