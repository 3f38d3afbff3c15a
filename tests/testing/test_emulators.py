"""What all emulators share: the book, the records, latency, threads, processes."""

from __future__ import annotations

import asyncio
import io
import json
import random
import runpy
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from plb_core.testing.emulators import (
    Emulator,
    Fault,
    LightRAGEmulator,
    OpenAIEmulator,
    PerplexityEmulator,
    run_in_thread,
)
from plb_core.testing.emulators.facts import FACTS, answer_text, matching, words
from plb_core.testing.emulators.responses import question_of
from plb_core.types import Price
from tests.testing.emulator_client import Client

BODY: dict[str, Any] = {"query": "What is glycolysis?"}


def fetch(url: str, body: object) -> tuple[int, Any]:
    """Ask without asyncio."""
    data = json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


@pytest.mark.asyncio
async def test_each_call_is_recorded_as_it_came(http: Client) -> None:
    async with LightRAGEmulator() as up:
        url = up.url + "/query?a=1&b=%C3%A9"
        await http(url, BODY, headers={"X-Odd": "1"})
        await http(up.url + "/a%20path", method="GET")
    first, second = up.requests
    assert (first.method, first.path) == ("POST", "/query")
    assert first.query == {"a": "1", "b": "é"}
    assert first.headers["x-odd"] == "1"
    assert first.body == first.fields == BODY
    assert json.loads(first.data) == BODY
    assert (second.path, second.body, second.fields) == ("/a path", None, {})


@pytest.mark.asyncio
async def test_the_book_is_on_disk_before_the_answer_leaves(
    http: Client, tmp_path: Path
) -> None:
    file = tmp_path / "book.jsonl"
    price = Price(request_micro_usd=9)
    hang = Fault.hang(bills=True)
    up = LightRAGEmulator(price=price, book_file=file, faults=[None, hang])
    async with up:
        got = await http(up.url + "/query", BODY)
        asking = asyncio.ensure_future(http(up.url + "/query", BODY))
        await up.until(lambda: len(up.requests) == 2)
        lines = file.read_text().splitlines()
        assert not asking.done()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert [json.loads(line) for line in lines] == [
        {"call_id": "call-1", "path": "/query", "micro_usd": 9, "bytes": len(got.text)},
        {"call_id": "call-2", "path": "/query", "micro_usd": 9, "bytes": len(got.text)},
    ]
    assert up.billed_micro_usd == 18


@pytest.mark.asyncio
async def test_two_emulators_can_share_a_book_file(
    http: Client, tmp_path: Path
) -> None:
    file = tmp_path / "book.jsonl"
    one, two = LightRAGEmulator(book_file=file), LightRAGEmulator(book_file=file)
    async with one, two:
        ups = [one, two] * 20
        await asyncio.gather(*(http(up.url + "/query", BODY) for up in ups))
    assert len([json.loads(line) for line in file.read_text().splitlines()]) == 40


@pytest.mark.asyncio
async def test_latency_is_drawn_from_a_seeded_source_for_posts_only(
    http: Client,
) -> None:
    drawn: list[float] = []

    def latency_s(rng: random.Random) -> float:
        drawn.append(rng.expovariate(1000))
        return drawn[-1]

    for _ in range(2):
        async with LightRAGEmulator(latency_s=latency_s, seed=5) as up:
            await http(up.url + "/query", BODY)
            await http(up.url + "/query/data", BODY)
            await http(up.url + "/health", method="GET")
    assert len(drawn) == 4
    assert drawn[:2] == drawn[2:]
    assert drawn[0] != drawn[1]


@pytest.mark.asyncio
async def test_a_constant_latency_is_waited_for_and_can_be_changed(
    http: Client,
) -> None:
    async with LightRAGEmulator(latency_s=3600) as up:
        slow = asyncio.ensure_future(http(up.url + "/query", BODY))
        await up.until(lambda: len(up.book) == 1)
        up.latency_s = 0.001
        assert (await http(up.url + "/query", BODY)).status == 200
        assert not slow.done()
    await asyncio.gather(slow, return_exceptions=True)


@pytest.mark.asyncio
async def test_a_gap_lies_between_the_pieces_of_a_stream(http: Client) -> None:
    up = LightRAGEmulator(gap_s=3600)
    async with up, http.session.post(f"{up.url}/query/stream", json=BODY) as slow:
        assert "references" in json.loads(await slow.content.readline())
        up.gap_s = 0.001
        prompt = await http(up.url + "/query/stream", BODY)
        assert not slow.content.at_eof()
    assert "".join(line.get("response", "") for line in prompt.lines)


@pytest.mark.asyncio
async def test_a_fixed_port_can_be_used_again_after_closing(http: Client) -> None:
    async with LightRAGEmulator() as first:
        port = first.port
    async with LightRAGEmulator(port=port) as second:
        got = await http(second.url + "/health", method="GET")
    assert got.status == 200


@pytest.mark.asyncio
async def test_closing_one_that_never_started_does_nothing() -> None:
    await LightRAGEmulator().close()


def test_a_call_costs_whole_micro_dollars_rounded_up() -> None:
    up = OpenAIEmulator(price=Price(1, 1, request_micro_usd=3, search_micro_usd=5))
    tokens = up.tokens("a prompt", "an answer")
    assert (tokens.input, tokens.output) == (2, 3)
    assert up.charge(tokens) == 4
    assert up.charge(tokens, searches=2) == 14
    assert OpenAIEmulator().charge(tokens) == 0


@pytest.mark.parametrize(
    "emulator", [LightRAGEmulator(), PerplexityEmulator(), OpenAIEmulator()]
)
def test_each_runs_in_a_thread(emulator: Emulator) -> None:
    with run_in_thread(emulator) as up:
        status, body = fetch(up.url + "/query", BODY)
        again = fetch(up.url + "/query", BODY)
    assert (status, body) == again
    assert len(up.requests) == 2
    with pytest.raises(urllib.error.URLError):
        fetch(up.url + "/query", BODY)


def test_faults_and_latency_can_be_changed_while_it_runs_in_a_thread() -> None:
    with run_in_thread(LightRAGEmulator()) as up:
        assert fetch(up.url + "/query", BODY)[0] == 200
        up.faults = [Fault.status(503)]
        assert fetch(up.url + "/query", BODY)[0] == 503
        assert fetch(up.url + "/query", BODY)[0] == 200


@pytest.mark.parametrize("kind", ["lightrag", "openai", "perplexity"])
def test_each_runs_as_a_process_that_ends_by_interruption(
    kind: str, tmp_path: Path
) -> None:
    book = tmp_path / "book.jsonl"
    command = [sys.executable, "-m", "plb_core.testing.emulators", kind]
    with subprocess.Popen(
        [*command, "--book", str(book)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        status, _ = fetch(url + "/query", BODY)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    assert status == {"lightrag": 200, "openai": 404, "perplexity": 401}[kind]
    assert book.exists() == (kind == "lightrag")


def test_the_process_serves_until_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    class Terminal(io.StringIO):
        def flush(self) -> None:
            written.append(self.getvalue())
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)

    monkeypatch.setattr(sys, "stdout", Terminal())
    command = ["emulators", "lightrag", "--latency-s", "0.1", "--hidden", "llm_down"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("plb_core.testing.emulators", run_name="__main__")
    assert ended.value.code == 0
    assert written[0].startswith("http://127.0.0.1:")


def test_matching_prefers_titles_and_always_finds_something() -> None:
    assert matching("Tell me of INSULIN")[0].title == "Insulin"
    assert matching("") == matching("??") == FACTS[:1]
    assert len(matching("glucose NADH energy insulin", most=2)) == 2
    assert answer_text("insulin").endswith("]")


@pytest.mark.parametrize("text", ["", "one", "two words", " odd \n blanks ", "\n\n"])
def test_words_join_to_the_text(text: str) -> None:
    assert "".join(words(text)) == text


@pytest.mark.parametrize(
    ("body", "question"),
    [
        ({}, ""),
        ({"input": "a"}, "a"),
        ({"input": 3}, ""),
        ({"messages": ["odd", {"role": "user", "content": "b"}]}, "b"),
        ({"messages": [{"role": "user", "content": None}]}, ""),
        ({"messages": [{"role": "user", "content": [{"text": "c"}, 4]}]}, "c"),
        ({"input": [{"content": "d"}, {"role": "assistant", "content": "e"}]}, "d"),
    ],
)
def test_the_question_is_the_last_text_of_the_user(
    body: dict[str, object], question: str
) -> None:
    assert question_of(body) == question
