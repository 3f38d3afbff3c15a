"""Corners of the command line: cut answers, strangers' plugins, odd settings."""

from __future__ import annotations

import functools
import runpy
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import attrs
import pytest

from plb_core import Answer, BadAnswer, Chunk, Query, doc
from plb_core.balancer import Balancer
from plb_core.cli import ask as ask_command
from plb_core.cli.render import answer_lines, explanation_table
from plb_core.cli.schema import class_schema
from plb_core.cli.template import section
from plb_core.replies import Reply
from plb_core.testing.fakes import FakeBackend, FakePlugin
from plb_core.types import Source

from .conftest import Ran

Plb = Callable[..., Ran]


class Cut(FakeBackend):
    """Sends one word, then ends as it was told to."""

    def __init__(self, end: Chunk | Exception) -> None:
        super().__init__()
        self.end = end

    async def stream(self, query: Query, timeout_s: float) -> AsyncIterator[Chunk]:
        yield Chunk("half")
        if isinstance(self.end, Exception):
            raise self.end
        yield self.end


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (Chunk(end="truncated"), "plb: the answer was cut"),
        (BadAnswer("the connection broke"), "plb: bad_answer: the connection broke"),
    ],
)
def test_a_cut_stream_is_said_and_has_status_one(
    plb: Plb, monkeypatch: pytest.MonkeyPatch, end: Chunk | Exception, message: str
) -> None:
    made = functools.partial(Balancer, plugins=[FakePlugin(cut=Cut(end))])
    monkeypatch.setattr(ask_command, "Balancer", made)
    Path("config.toml").write_text(
        '[backend.cut]\n[track.t]\nalgorithm = "round_robin"\n'
    )
    ran = plb("ask", "q", "--stream")
    assert (ran.status, ran.out) == (1, "half\n")
    assert message in ran.err


def test_an_interrupt_is_status_130(plb: Plb, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(ask_command, "run", interrupted)
    assert plb("ask", "q").status == 130


def test_the_package_runs_as_a_module(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["plb", "--version"])
    monkeypatch.delitem(sys.modules, "plb_core.cli.__main__", raising=False)
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("plb_core.cli", run_name="__main__")
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip()


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A foreign distribution: a broken algorithm, and a command called `ask`."""
    site = tmp_path / "site"
    info = site / "stranger-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: stranger\nVersion: 1\n"
    )
    (info / "entry_points.txt").write_text(
        "[plb]\nstrange = stranger_algorithm\n[plb.command]\nask = stranger_command\n"
    )
    (site / "stranger_algorithm.py").write_text(
        '"""A stranger."""\ndef plb_register_algorithm(): ...\nraise OSError("torn")\n'
    )
    (site / "stranger_command.py").write_text('raise AssertionError("imported")\n')
    monkeypatch.syspath_prepend(str(site))
    return site


@pytest.mark.usefixtures("stranger")
def test_the_schema_leaves_out_what_cannot_be_imported_and_says_so(plb: Plb) -> None:
    ran = plb("config", "schema")
    assert ran.status == 0
    assert "left out: importing stranger_algorithm failed: OSError: torn" in ran.err


@pytest.mark.usefixtures("stranger")
def test_the_schema_never_imports_what_is_not_allowed(plb: Plb) -> None:
    ran = plb("config", "schema", "--set", 'plugins.allow=["plb"]')
    assert (ran.status, ran.err) == (0, "")


@pytest.mark.usefixtures("stranger")
def test_a_strangers_command_cannot_replace_one_of_the_core(plb: Plb) -> None:
    assert "Ask one question" in plb().out
    assert "stranger_command" not in sys.modules


@pytest.mark.usefixtures("stranger")
def test_init_writes_to_standard_output_and_never_picks_a_stranger(plb: Plb) -> None:
    ran = plb("init", "--output", "-")
    assert ran.status == 0
    assert "[backend.documents]" in ran.out
    assert "strange" not in ran.out
    assert not Path("config.toml").exists()


def reply(**more: object) -> Reply:
    facts: dict[str, object] = {"text": "text", **more}
    answer = Answer(**facts)  # type: ignore[arg-type]  # test shorthand
    return Reply("req_1", answer, "a", "t", "x", 1, 0.5, 0.001)


def test_a_bare_answer_has_no_label_and_no_sources() -> None:
    assert list(answer_lines(reply()))[:2] == ["text", ""]
    shown = "\n".join(answer_lines(reply(label="quoted"), with_text=False))
    assert "(quoted)" in shown
    assert "Sources" not in shown


def test_a_sources_address_is_shown_once() -> None:
    sources = (Source("a.md", "a.md"), Source("B", "https://b.example"), Source("C"))
    lines = list(answer_lines(reply(sources=sources)))
    assert lines[3:6] == ["  [1] a.md", "  [2] B, https://b.example", "  [3] C"]


def test_the_explanation_shows_what_a_composite_used_and_skips_empty_scores() -> None:
    table = explanation_table(
        {
            "kind": "general",
            "wanted": "either",
            "reason": "",
            "attempts": [
                {
                    "backend": "a",
                    "algorithm": "adaptive",
                    "via": "round_robin",
                    "probability": 0.5,
                    "candidates": [
                        {"name": "a", "score": None, "in_flight": 0},
                        {"name": "b", "score": 1.5, "in_flight": 2},
                    ],
                    "result": "answer",
                    "error": "",
                }
            ],
        }
    )
    columns = {str(each.header): list(each.cells) for each in table.columns}
    assert columns["algorithm"] == ["adaptive via round_robin"] * 2
    assert columns["score"] == ["", "1.5"]
    assert columns["result"] == ["answer (p = 0.5)", ""]


@attrs.frozen
class Odd:
    limits: Mapping[str, int] = attrs.field(factory=dict, metadata=doc("Limits."))
    maybe: str | None = None
    tags: tuple[str, ...] = ()
    anything: object = None
    words: tuple[str, ...] = attrs.field(factory=lambda: ("a", "b"))


def test_a_template_writes_tables_and_defaults() -> None:
    lines = list(section(("x",), Odd, {"limits": {"a b": 1}}))
    assert "# maybe =  (not set)" in lines
    assert "# tags = []" in lines
    assert '# words = ["a", "b"]' in lines
    assert lines[lines.index("[x.limits]") + 1] == '"a b" = 1'
    assert "# [x.limits]" in list(section(("x",), Odd))


def test_a_schema_of_an_undocumented_or_open_type_promises_nothing() -> None:
    properties = class_schema(Odd)["properties"]
    assert properties["anything"] == {}
    assert "description" not in properties["maybe"]
    assert properties["limits"]["description"] == "Limits."
