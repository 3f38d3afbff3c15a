"""`plb serve` inside the test's own process, where its every line can be seen."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from loguru import logger

from plb_core.balancer import Balancer
from plb_core.cli import serve
from plb_core.errors import ConfigError

CONFIG = (
    '[backend.documents]\n[service.gateway]\nport = 0\n[track.main]\nalgorithm = "{}"\n'
)


class Run:
    """One `plb serve`; `until` waits for a line of its output."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.seen = ""
        self.task: asyncio.Task[int] | None = None

    def begin(self, *arguments: str) -> None:
        parser = argparse.ArgumentParser()
        serve.configure(parser)
        options = parser.parse_args(arguments)
        self.task = asyncio.create_task(serve._serve(options))

    async def until(self, text: str) -> None:
        while text not in self.seen:
            captured = self.capsys.readouterr()
            self.seen += captured.out + captured.err
            await asyncio.sleep(0.005)

    async def status(self) -> int:
        assert self.task is not None
        return await self.task


@pytest_asyncio.fixture
async def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> AsyncIterator[Run]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text(CONFIG.format("round_robin"))
    made = Run(capsys)
    yield made
    if made.task is not None and not made.task.done():
        made.task.cancel()
    logger.remove()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.remove_signal_handler(number)


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_in_order(run: Run, number: signal.Signals) -> None:
    run.begin()
    await run.until("serving http://127.0.0.1:")
    signal.raise_signal(number)
    assert await run.status() == 0


@pytest.mark.asyncio
async def test_reloads_are_applied_or_explained(run: Run) -> None:
    run.begin()
    await run.until("serving http")
    Path("config.toml").write_text(CONFIG.format("nope"))
    signal.raise_signal(signal.SIGHUP)
    await run.until("track.main.algorithm: no installed plugin is called 'nope'")
    Path("config.toml").write_text(CONFIG.format("least_connections"))
    signal.raise_signal(signal.SIGHUP)
    await run.until("plan_applied")
    signal.raise_signal(signal.SIGTERM)
    assert await run.status() == 0


@pytest.mark.asyncio
async def test_a_reload_that_a_plugin_breaks_is_explained(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a plugin's start raised was lost with the task that reloaded."""

    async def torn(*_: object) -> None:
        raise OSError("no disk")

    run.begin()
    await run.until("serving http")
    monkeypatch.setattr(Balancer, "apply", torn)
    signal.raise_signal(signal.SIGHUP)
    await run.until("the configuration was not applied: OSError('no disk')")
    signal.raise_signal(signal.SIGTERM)
    assert await run.status() == 0


@pytest.mark.asyncio
async def test_the_first_question_is_answered_and_printed(run: Run) -> None:
    run.begin("--once", "--ask", "What are metabolic pathways?")
    assert await run.status() == 0
    await run.until("> What are metabolic pathways?")
    await run.until("backend documents")


@pytest.mark.asyncio
async def test_a_first_question_without_an_answer_is_status_one(run: Run) -> None:
    run.begin("--once", "--ask", "xyzzy plugh frobnicate?")
    assert await run.status() == 1
    await run.until("plb: no_answer")


@pytest.mark.asyncio
async def test_nothing_to_serve_is_a_problem(run: Run) -> None:
    text = CONFIG.format("round_robin").replace("[service.gateway]\nport = 0\n", "")
    Path("config.toml").write_text(text)
    run.begin()
    with pytest.raises(ConfigError, match="nothing to serve"):
        await run.status()


def test_uvloop_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Uvloop:
        new_event_loop = staticmethod(asyncio.new_event_loop)

    monkeypatch.setitem(sys.modules, "uvloop", Uvloop())
    assert serve._loop_factory() is asyncio.new_event_loop
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert serve._loop_factory() is None


def test_run_drives_a_loop_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def options(make: Callable[[argparse.ArgumentParser], None]) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        make(parser)
        return parser.parse_args(["--once"])

    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text(CONFIG.format("round_robin"))
    assert serve.run(options(serve.configure)) == 0
    logger.remove()
