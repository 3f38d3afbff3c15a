"""`plb demo` tells a true story and ends by itself."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator

import attrs
import pytest
from loguru import logger

import plb_demo.scenario
from plb_core.balancer import Balancer
from plb_core.build import plain_context
from plb_core.config import read_text
from plb_demo import plb_register_command
from plb_demo.backends import KEY_VARIABLE, NAMES, PaidBackends, paid_backends
from plb_demo.command import BOOKS_DIFFER, DONE, DemoCommand
from plb_demo.report import Bar
from plb_demo.scenario import ALGORITHMS, Report, Round, run_demo
from plb_demo.scenario import _percentile_ms as percentile_ms

ROUND = Round(
    algorithm="round_robin",
    questions=40,
    answered=40,
    failovers=3,
    passed_on=2,
    p50_ms=80.0,
    p95_ms=200.0,
    shares={"documents": 0.25, "lightrag": 0.25, "perplexity": 0.25, "openai": 0.25},
    broken="openai",
    billed_micro_usd=1200,
    counted_micro_usd=1200,
)
REPORT = Report(seed=7, seconds=2.5, rounds=(ROUND,))
WRONG = Report(7, 2.5, (ROUND, attrs.evolve(ROUND, counted_micro_usd=1199)))


def configured(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    DemoCommand().configure(parser)
    return parser.parse_args(arguments)


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """The command silences the log; give it back to the other tests."""
    yield
    logger.remove()
    logger.add(sys.stderr)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace the scenario by a finished report; return the seeds it was given."""
    seeds: list[int] = []

    async def run(*, seed: int, progress: Callable[[str, str], None]) -> Report:
        seeds.append(seed)
        progress("round_robin", "")
        progress("round_robin", "openai")
        return REPORT if seed != 13 else WRONG

    monkeypatch.setattr(plb_demo.scenario, "run_demo", run)
    return seeds


@pytest.mark.asyncio
async def test_every_question_is_answered_while_a_backend_fails() -> None:
    steps: list[tuple[str, str]] = []
    algorithms = ("round_robin", "cost_aware")

    def progress(algorithm: str, failing: str) -> None:
        steps.append((algorithm, failing))

    report = await run_demo(
        seed=3, progress=progress, questions=48, algorithms=algorithms
    )
    first, second = report.rounds
    assert [each.algorithm for each in report.rounds] == [*algorithms]
    assert first.questions == second.questions == first.answered == second.answered
    assert first.failovers > 0
    # Which question meets which backend follows from the order of the answers.
    assert first.passed_on + second.passed_on > 0
    assert first.broken in NAMES[1:]
    assert len(steps) == 48
    assert {failing for _, failing in steps} == {"", first.broken, second.broken}
    for each in report.rounds:
        assert list(each.shares) == [*NAMES]
        assert sum(each.shares.values()) == pytest.approx(1)
        assert 0 < each.p50_ms <= each.p95_ms


@pytest.mark.asyncio
async def test_plb_counts_what_the_backends_billed() -> None:
    report = await run_demo(
        seed=5,
        progress=lambda _, __: None,
        questions=30,
        algorithms=("round_robin",),
    )
    (each,) = report.rounds
    assert each.billed_micro_usd == each.counted_micro_usd > 0
    assert report.books_agree
    assert each.shares["perplexity"] > 0
    assert each.shares["openai"] > 0
    assert each.shares["lightrag"] > 0
    assert each.shares["documents"] > 0


@pytest.mark.asyncio
@pytest.mark.parametrize("name", NAMES[1:])
async def test_whichever_paid_backend_breaks_another_answers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with paid_backends(seed=1) as paid:
        for up in paid.by_name.values():
            up.latency_s = 0.0
        paid.break_down(name)
        config = paid.config("round_robin").replace("[backend.documents]\n", "")
        async with Balancer(read_text(config), seed=1) as balancer:
            replies = [await balancer.ask("What is insulin?") for _ in range(6)]
            assert {reply.backend for reply in replies} == {*NAMES[1:]} - {name}
            assert max(reply.attempts for reply in replies) > 1
            paid.mend(name)
            replies = [await balancer.ask("What is insulin?") for _ in range(6)]
            assert {reply.backend for reply in replies} == {*NAMES[1:]}


@pytest.mark.asyncio
async def test_a_round_in_which_nothing_answers_is_reported_as_such(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def only_openai(self: PaidBackends, algorithm: str) -> str:
        for name in self.by_name:
            self.break_down(name)
        return config_of(self, algorithm).replace("[backend.documents]\n", "")

    config_of = PaidBackends.config
    monkeypatch.setattr(PaidBackends, "config", only_openai)
    monkeypatch.setattr(PaidBackends, "mend", lambda _, __: None)
    report = await run_demo(
        seed=1, progress=lambda _, __: None, questions=3, algorithms=("round_robin",)
    )
    (each,) = report.rounds
    assert (each.answered, each.p50_ms, each.p95_ms) == (0, 0.0, 0.0)
    assert set(each.shares.values()) == {0.0}
    assert report.books_agree


@pytest.mark.asyncio
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_each_algorithm_of_the_demo_is_installed(algorithm: str) -> None:
    async with paid_backends(seed=1) as paid:
        Balancer(read_text(paid.config(algorithm)))


@pytest.mark.asyncio
@pytest.mark.parametrize("before", [None, "own"])
async def test_the_environment_is_left_as_it_was(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before is None:
        monkeypatch.delenv(KEY_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(KEY_VARIABLE, before)
    async with paid_backends(seed=1):
        assert os.environ[KEY_VARIABLE] == "demo"
    assert os.environ.get(KEY_VARIABLE) == before


def test_it_is_registered_as_a_command() -> None:
    provider = plb_register_command()
    assert provider.name == "demo"
    made = provider.build(provider.settings(), plain_context("demo"))
    assert isinstance(made, DemoCommand)


def test_json_is_one_object(
    told: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert DemoCommand().run(configured("--json", "--seed", "7")) == DONE
    printed = capsys.readouterr()
    (line,) = printed.out.splitlines()
    got = json.loads(line)
    assert printed.err == ""
    assert told == [7]
    assert got["questions"] == 40
    assert got["books_agree"] is True
    assert got["algorithms"] == [attrs.asdict(ROUND)]
    assert (got["seed"], got["seconds"]) == (7, 2.5)


def test_the_tables_fit_eighty_columns(
    told: list[int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert DemoCommand().run(configured("--seed", "7")) == DONE
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    row = next(line for line in out.splitlines() if "40/40" in line)
    assert row.split() == [
        *("round_robin", "40/40", "3", "2", "80", "200"),
        *("0.001200", "0.001200"),
    ]
    assert "agree" in out
    assert "--seed 7" in out


def test_a_difference_between_the_books_is_said_and_is_status_1(
    told: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert DemoCommand().run(configured("--seed", "13")) == BOOKS_DIFFER
    assert "differ" in capsys.readouterr().out
    assert WRONG.as_dict()["books_agree"] is False


def test_without_a_seed_each_run_draws_its_own(told: list[int]) -> None:
    for _ in range(3):
        DemoCommand().run(configured("--json"))
    assert len(set(told)) == 3


def test_the_bar_says_what_is_failing(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar(shown=True) as bar:
        bar.advance("round_robin", "")
        bar.advance("round_robin", "openai")
        (task,) = bar._bar.tasks
        assert task.completed == 2
        assert "openai is failing" in task.description
    with Bar(shown=False) as hidden:
        hidden.advance("round_robin", "")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("values_s", "share", "expected_ms"),
    [
        ([], 0.5, 0.0),
        ([0.01], 0.95, 10.0),
        ([0.03, 0.01, 0.02], 0.5, 20.0),
        ([each / 1000 for each in range(1, 101)], 0.95, 95.0),
        ([each / 1000 for each in range(1, 101)], 0.5, 50.0),
    ],
)
def test_percentiles_are_nearest_ranks(
    values_s: list[float], share: float, expected_ms: float
) -> None:
    assert percentile_ms(values_s, share) == expected_ms
