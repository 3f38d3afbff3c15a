from __future__ import annotations

import pytest

from plb_backend_lightrag.replies import (
    CANNED_FAILURE,
    Reply,
)
from plb_core.errors import (
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendRefused,
    BackendTimeout,
    BackendUnreachable,
    BadAnswer,
    NoAnswer,
)
from plb_core.types import Source
from tests.plugins.lightrag.upstream import (
    ANSWERED,
    CANNED,
    NO_CONTEXT,
    QUESTION,
    SECRET,
    Upstream,
    collect,
    open_backend,
    says,
)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "body",
    [
        CANNED,
        {"response": CANNED_FAILURE},
        {"response": "New wording of it.", "references": [], "llm_generated": False},
        {"response": "", "references": [], "llm_generated": False},
    ],
)
async def test_a_failure_hidden_behind_200_is_a_backend_error(
    upstream: Upstream, body: object
) -> None:
    upstream.on("/query", says(body))
    async with open_backend(upstream.url) as backend:
        with pytest.raises(BadAnswer, match="behind a 200"):
            await backend.ask(QUESTION, 5.0)
    assert upstream.paths() == ["/query"]


@pytest.mark.asyncio
@pytest.mark.parametrize("flag", [{"llm_generated": False}, {}])
async def test_an_empty_store_is_no_answer(
    upstream: Upstream, flag: dict[str, object]
) -> None:
    upstream.on("/query", says({"response": NO_CONTEXT, "references": [], **flag}))
    async with open_backend(upstream.url) as backend:
        with pytest.raises(NoAnswer) as caught:
            await backend.ask(QUESTION, 5.0)
    assert caught.value.reason == "not_found"


@pytest.mark.parametrize("text", [CANNED_FAILURE, NO_CONTEXT])
def test_the_same_words_from_the_language_model_itself_are_an_answer(text: str) -> None:
    assert Reply(text, llm_generated=True).answer().text == text


def test_text_that_no_model_wrote_but_that_has_sources_is_marked_so() -> None:
    answer = Reply("Quoted.", (Source("a.md"),), llm_generated=False).answer()
    assert (answer.text, answer.llm_generated) == ("Quoted.", False)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("finding", "reason"),
    [
        ({"type": "value_error", "loc": ["body", "query"]}, "invalid_request"),
        ({"type": "string_too_long", "loc": ["body", "query"]}, "context_length"),
        ({"msg": "Value error, over the 131072 character limit"}, "context_length"),
        ({"msg": "'content' must be at most 32768 characters."}, "context_length"),
        ({"msg": "history must hold at most 128 messages"}, "context_length"),
        ({"msg": "must have at most 2 wings"}, "invalid_request"),
        ({"msg": None, "loc": "mode"}, "invalid_request"),
        (7, "invalid_request"),
    ],
)
async def test_a_422_is_no_answer_and_its_echo_stays_inside(
    upstream: Upstream, finding: object, reason: str
) -> None:
    detail = [finding, {"input": SECRET}]
    upstream.on("/query", says({"detail": detail}, 422))
    async with open_backend(upstream.url) as backend:
        with pytest.raises(NoAnswer) as caught:
            await backend.ask(QUESTION, 5.0)
    assert caught.value.reason == reason
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [b"<html>", [], {}, {"detail": "text"}])
async def test_a_422_of_another_shape_is_no_answer_too(
    upstream: Upstream, body: object
) -> None:
    upstream.on("/query", says(body, 422))
    async with open_backend(upstream.url) as backend:
        with pytest.raises(NoAnswer) as caught:
            await backend.ask(QUESTION, 5.0)
    assert caught.value.reason == "invalid_request"


@pytest.mark.asyncio
@pytest.mark.parametrize("field", ["mode", "top_k", "chunk_top_k", "response_type"])
async def test_a_422_about_our_own_settings_is_a_misconfiguration(
    upstream: Upstream, field: str
) -> None:
    upstream.on("/query", says({"detail": [{"loc": ["body", field]}]}, 422))
    async with open_backend(upstream.url) as backend:
        with pytest.raises(BackendMisconfigured, match="retrieval settings"):
            await backend.ask(QUESTION, 5.0)


@pytest.mark.asyncio
async def test_a_413_says_that_the_conversation_is_too_long(upstream: Upstream) -> None:
    upstream.on("/query", says({"detail": "Request body too large."}, 413))
    async with open_backend(upstream.url) as backend:
        with pytest.raises(NoAnswer) as caught:
            await backend.ask(QUESTION, 5.0)
    assert caught.value.reason == "context_length"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, BackendMisconfigured),
        (403, BackendMisconfigured),
        (404, BackendMisconfigured),
        (405, BackendMisconfigured),
        (429, BackendBusy),
        (500, BackendRefused),
        (503, BackendRefused),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_other_statuses_follow_the_common_table(
    upstream: Upstream, status: int, error: type[BackendError], streamed: bool
) -> None:
    for path in ("/query", "/query/stream"):
        upstream.on(path, says({"detail": SECRET}, status, {"retry-after": "2"}))
    async with open_backend(upstream.url) as backend:
        with pytest.raises(error) as caught:
            await (collect(backend) if streamed else backend.ask(QUESTION, 5.0))
    assert SECRET not in str(caught.value)
    if status in (429, 503):
        assert caught.value.retry_after_s == 2.0


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>ready</html>",
        b'{"response": NaN}',
        [],
        "text",
        {},
        {"response": None},
        {"response": 7},
        {"response": "Text.", "references": {}},
        {"response": "Text.", "references": ["a.md"]},
        {"response": "Text.", "references": [{"reference_id": "1"}]},
        {"response": "Text.", "references": [{"file_path": 3}]},
        {"response": "Text.", "llm_generated": "no"},
        {"response": " \n", "llm_generated": True},
    ],
)
async def test_a_200_that_is_no_answer_of_lightrag_is_a_bad_answer(
    upstream: Upstream, body: object
) -> None:
    upstream.on("/query", says(body))
    async with open_backend(upstream.url) as backend:
        with pytest.raises(BadAnswer):
            await backend.ask(QUESTION, 5.0)


@pytest.mark.asyncio
async def test_a_spent_time_limit_sends_nothing(upstream: Upstream) -> None:
    upstream.on("/query", says(ANSWERED))
    async with open_backend(upstream.url) as backend:
        with pytest.raises(BackendTimeout) as caught:
            await backend.ask(QUESTION, 0.0)
    assert not caught.value.sent
    assert upstream.seen == []


@pytest.mark.asyncio
async def test_a_server_that_is_away_is_unreachable(upstream: Upstream) -> None:
    async with open_backend("http://127.0.0.1:1") as backend:
        with pytest.raises(BackendUnreachable):
            await backend.ask(QUESTION, 5.0)
