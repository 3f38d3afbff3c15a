from __future__ import annotations

import pytest

from plb_backend_perplexity import answers, bills, sources
from plb_core import (
    BackendBusy,
    BadAnswer,
    NoAnswer,
    RequestError,
    Usage,
)

TEXT = "Python 3.14.8 is current. [1]"
RESULT = {
    "id": 1,
    "title": "Python\n  versions",
    "url": "https://www.python.org/doc/versions/",
    "snippet": "All of them.",
    "source": "web",
    "date": "2016-03-13",
    "last_updated": "2026-10-02",
}


def ignored(_: str) -> None:
    """Take a flag nobody looks at."""


def message(text: object = TEXT, **more: object) -> dict[str, object]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "role": "assistant", "content": [part], **more}


def response(**changes: object) -> dict[str, object]:
    """A response as recorded from the Agent API, shortened."""
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "openai/gpt-6-luna",
        "error": None,
        "incomplete_details": None,
        "output": [
            {"type": "search_results", "queries": ["q"], "results": [RESULT]},
            message(),
        ],
        "usage": {
            "input_tokens": 3426,
            "output_tokens": 30,
            "total_tokens": 3456,
            "tool_calls_details": {"search_web": {"invocation": 1, "cost_usd": 0.001}},
            "cost": {
                "currency": "USD",
                "tool_calls_cost": 0.001,
                "total_cost": 0.00125,
            },
        },
        **changes,
    }


def test_a_recorded_response_becomes_an_answer_with_its_bill_and_sources() -> None:
    answer = answers.agent_answer(response(), ignored)
    assert answer.text == TEXT
    assert answer.usage == Usage(3426, 30, searches=1)
    assert answer.cost_micro_usd == 1250
    assert answer.model == "openai/gpt-6-luna"
    assert answer.finish_reason == "stop"
    (cited,) = answer.sources
    assert cited.title == "Python versions"
    assert cited.url == RESULT["url"]
    assert cited.quote == "All of them."
    assert cited.published == "2016-03-13"


def test_unknown_items_and_nulls_are_passed_over() -> None:
    output = [
        None,
        "text",
        {"type": "sandbox_results", "results": [RESULT]},
        {"type": "search_results", "results": None},
        {"type": "search_results", "results": [None, 3, {"url": None}]},
        {"type": "message", "role": "assistant", "content": None},
        {"type": "message", "role": "user", "content": [{"text": "not mine"}]},
        {"type": "message", "content": [None, {"text": None}, {"text": "Yes"}]},
        message(" and no."),
    ]
    data = response(output=output, usage=None, model=None)
    answer = answers.agent_answer(data, ignored)
    assert answer.text == "Yes and no."
    assert answer.sources == ()
    assert answer.usage is None
    assert answer.cost_micro_usd is None
    assert answer.model == ""


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"output": []}, BadAnswer),
        ({"output": [message("  \n")]}, BadAnswer),
        ({"output": None}, BadAnswer),
        ({"status": "failed", "error": {"code": "server_error"}}, BadAnswer),
        ({"status": "failed", "error": None}, BadAnswer),
        ({"status": "failed", "error": {"type": "overloaded"}}, BackendBusy),
        ({"status": "failed", "error": {"code": 429}}, BackendBusy),
        ({"status": None, "error": {"code": 500}}, BadAnswer),
        ({"status": None}, BadAnswer),
        ({"status": "requires_action"}, BadAnswer),
        ({"status": "cancelled"}, BadAnswer),
        ({"status": "in_progress"}, BadAnswer),
        ({"status": "queued"}, BadAnswer),
        ({"status": "sk-secret in a status"}, BadAnswer),
        ({"status": ["completed"]}, BadAnswer),
        ({"status": "incomplete"}, BadAnswer),
        (
            {
                "status": "incomplete",
                "incomplete_details": {"reason": "max_output_tokens"},
                "output": [],
            },
            BadAnswer,
        ),
        (
            {
                "status": "incomplete",
                "incomplete_details": {"reason": "content_filter"},
                "output": [],
            },
            NoAnswer,
        ),
    ],
    ids=repr,
)
def test_what_hides_behind_a_200_is_no_answer(
    changes: dict[str, object], error: type[RequestError]
) -> None:
    with pytest.raises(error) as caught:
        answers.agent_answer(response(**changes), ignored)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("data", [None, [], "text", 3, True])
def test_a_body_that_is_no_object_is_a_bad_answer(data: object) -> None:
    with pytest.raises(BadAnswer):
        answers.agent_answer(data, ignored)
    with pytest.raises(BadAnswer):
        answers.chat_answer(data, ignored)


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [("max_output_tokens", "length"), ("content_filter", "content_filter")],
)
def test_a_cut_answer_with_text_says_why_it_ended(
    reason: str, finish_reason: str
) -> None:
    data = response(status="incomplete", incomplete_details={"reason": reason})
    assert answers.agent_answer(data, ignored).finish_reason == finish_reason


@pytest.mark.parametrize(
    ("total", "micro_usd"),
    [
        (0.00125, 1250),
        (0.0012500001, 1251),
        (1e-7, 1),
        (0, 0),
        (0.0, 0),
        (1000, 10**9),
        (0.1 + 0.2, 300_001),
    ],
)
def test_the_cost_is_rounded_up_to_micro_dollars(total: float, micro_usd: int) -> None:
    reported = {"cost": {"total_cost": total}}
    assert bills.cost_micro_usd(reported, pytest.fail) == micro_usd


@pytest.mark.parametrize(
    "total", [-0.001, float("nan"), float("inf"), 1000.01, 10**30, "0.1", True, [], {}]
)
def test_an_impossible_cost_is_ignored_and_flagged(total: object) -> None:
    flags: list[str] = []
    reported = {"cost": {"total_cost": total, "currency": "USD"}}
    assert bills.cost_micro_usd(reported, flags.append) is None
    assert len(flags) == 1


def test_a_cost_in_another_currency_is_ignored_and_flagged() -> None:
    flags: list[str] = []
    reported = {"cost": {"total_cost": 1, "currency": "EUR"}}
    assert bills.cost_micro_usd(reported, flags.append) is None
    assert flags


@pytest.mark.parametrize("reported", [None, [], {}, {"cost": None}, {"cost": {}}])
def test_no_cost_is_unknown_without_a_flag(reported: object) -> None:
    assert bills.cost_micro_usd(reported, pytest.fail) is None


@pytest.mark.parametrize(
    "reported",
    [
        {"input_tokens": -1, "output_tokens": 1},
        {"input_tokens": 1, "output_tokens": 10**10},
        {"input_tokens": 1.5, "output_tokens": 1},
        {"input_tokens": True, "output_tokens": 1},
        {"input_tokens": None, "output_tokens": 1},
        {"prompt_tokens": 3},
    ],
    ids=repr,
)
def test_impossible_token_counts_are_ignored_and_flagged(reported: object) -> None:
    flags: list[str] = []
    assert bills.usage(reported, flags.append) is None
    assert flags


def test_searches_of_every_kind_are_counted_and_nonsense_is_not() -> None:
    reported = {
        "input_tokens": 1,
        "output_tokens": 2,
        "tool_calls_details": {
            "search_web": {"invocation": 3},
            "people_search": {"invocation": 2},
            "fetch_url": {"invocation": 50},
            "image_search": {"invocation": -4},
            "finance_search": None,
        },
    }
    assert bills.usage(reported, pytest.fail) == Usage(1, 2, searches=5)


def test_results_stand_at_their_number_whatever_the_order_of_the_searches() -> None:
    def result(number: object, page: str) -> dict[str, object]:
        return {"id": number, "title": page, "url": f"https://x.example/{page}"}

    output = [
        {"type": "search_results", "results": [result(3, "c"), result(4, "d")]},
        {"type": "search_results", "results": [result(1, "a"), result(3, "again")]},
        {"type": "search_results", "results": [result(None, "loose"), result(0, "z")]},
        {
            "type": "fetch_url_results",
            "contents": [result(None, "a"), result("1", "f")],
        },
    ]
    titles = [each.title for each in sources.from_output(output)]
    assert titles == ["a", "not listed by the backend", "c", "d", "loose", "z", "f"]


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "ftp://x", "", None, 3, "https://x/" + "a" * 3000]
)
def test_only_web_pages_of_sane_length_become_sources(url: object) -> None:
    results = [{"id": 1, "title": "t", "url": url}]
    assert sources.from_output([{"type": "search_results", "results": results}]) == ()


def test_sources_are_bounded_in_number_and_size() -> None:
    results = [
        {"title": "t" * 9999, "url": f"https://x.example/{n}", "snippet": "s" * 9999}
        for n in range(999)
    ]
    found = sources.from_output([{"type": "search_results", "results": results}])
    assert len(found) == 200
    assert len(found[0].title) == 300
    assert len(found[0].quote) == 4000


def test_a_source_without_a_title_is_called_by_its_address() -> None:
    results = [{"id": 1, "url": "https://x.example/"}]
    (found,) = sources.from_output([{"type": "search_results", "results": results}])
    assert found.title == "https://x.example/"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("so [web:11] and [2]", "so [11] and [2]"),
        ("[web:0] [web:] [web:x] [web:12345]", "[web:0] [web:] [web:x] [web:12345]"),
        ("[web:1][web:2", "[1][web:2"),
        ("[[web:3]]", "[[3]]"),
    ],
)
def test_marks_are_written_plainly_in_pieces_as_in_whole(text: str, plain: str) -> None:
    assert sources.plain_marks(text) == plain
    for size in range(1, len(text) + 1):
        marks = sources.MarkFilter()
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert "".join(map(marks.take, pieces)) + marks.rest() == plain
