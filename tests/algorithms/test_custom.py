from __future__ import annotations

import ast
import asyncio
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plb_contrib_algorithms.custom import NAMES, Settings, plb_register_algorithm
from plb_contrib_algorithms.expression import ExpressionError, compile_expression
from plb_core import AlgorithmFailed, Candidate, Choice, ConfigError, Price, Query
from plb_core.protocols import Algorithm
from plb_core.testing import fakes
from plb_core.testing.contracts import AlgorithmContract

QUERY = Query("What are metabolic pathways?", kind="general")
EXAMPLE = "quality - 0.3*cost_usd - latency_s"
A, B = fakes.candidate("a"), fakes.candidate("b")


class TestCustomScore(AlgorithmContract):
    provider = plb_register_algorithm()
    settings = Settings(score="quality - 0.3*cost_usd - latency_s/100 - in_flight")
    worse_state = MappingProxyType({"in_flight": 3})

    def test_does_not_starve_a_new_backend(self) -> None:
        # The user's own score decides; this one gives a new backend a middling guess.
        algorithm = make(score="quality - latency_s/100")
        poor, new = fakes.candidate("poor"), fakes.candidate("new")
        poor.observe(fakes.outcome("poor", quality=0.2))
        assert algorithm.choose(QUERY, (poor, new)).candidate is new

    def test_shares_ties_fairly(self) -> None:  # type: ignore[override]  # replaced by a plainer one
        algorithm = make(score="1")
        names = [algorithm.choose(QUERY, (A, B)).candidate.name for _ in range(400)]
        assert 140 < names.count("a") < 260


def least_loaded(query: Query, candidates: Sequence[Candidate]) -> Candidate:
    fewest = min(each.in_flight for each in candidates)
    return next(each for each in candidates if each.in_flight == fewest)


class Rotating:
    def __init__(self) -> None:
        self.turn = 0

    def __call__(self, _: Query, candidates: Sequence[Candidate]) -> Choice:
        self.turn += 1
        return Choice(candidates[self.turn % len(candidates)], 0.5, via="mine")


def stranger(query: Query, candidates: Sequence[Candidate]) -> Candidate:
    return fakes.candidate(candidates[0].name)


def nothing(query: Query, candidates: Sequence[Candidate]) -> None:
    return None


def impossible(query: Query, candidates: Sequence[Candidate]) -> Choice:
    return Choice(candidates[0], 0.0)


async def slow(query: Query, candidates: Sequence[Candidate]) -> Candidate:
    await asyncio.sleep(0)
    return candidates[0]


FUNCTIONS = """
from collections.abc import Sequence
class Holder:
    @staticmethod
    def last(query, candidates):
        return candidates[-1]
"""
NUMBER = 7


def make(**settings: str) -> Algorithm:
    built: Algorithm = plb_register_algorithm().build(
        Settings(**settings), fakes.context("custom")
    )
    return built


def refused(**settings: str) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        make(**settings)
    (problem,) = caught.value.problems
    return problem.key, problem.message


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return "test_custom"


def test_worked_examples_of_a_score() -> None:
    free = fakes.candidate("a", price=fakes.candidate("x").info.traits.price)
    measured, partly = fakes.candidate("b"), fakes.candidate("c")
    measured.observe(
        fakes.outcome("b", quality=0.9, cost_micro_usd=10_000, latency_s=0.2)
    )
    partly.observe(fakes.outcome("c", quality=0.8, latency_s=0.2))
    choice = make(score=EXAMPLE).choose(QUERY, (free, measured, partly))
    assert choice.scores == pytest.approx([0.7 - 0.0015 - 1.0, 0.697, 0.5985])
    assert choice.candidate is measured


def test_a_backend_with_a_free_price_table_costs_nothing() -> None:
    free = fakes.candidate("a", price=Price())
    priced = fakes.candidate("b", price=Price(request_micro_usd=1))
    choice = make(score="-cost_usd").choose(QUERY, (priced, free))
    assert choice.scores == [-0.005, 0.0]


@pytest.mark.parametrize(
    ("name", "unknown", "known"),
    [
        ("quality", 0.7, 0.4),
        ("cost_usd", 0.005, 0.002),
        ("latency_s", 1.0, 3.0),
        ("ttft_s", 0.5, 0.25),
        ("error_rate", 0.05, 0.0),
        ("in_flight", 0.0, 2.0),
        ("max_in_flight", 8.0, 8.0),
        ("load", 0.0, 0.25),
        ("weight", 3.0, 3.0),
        ("priority", 2.0, 2.0),
        ("served", 0.0, 1.0),
        ("healthy", 1.0, 0.0),
    ],
)
def test_every_name_has_a_value_before_and_after_the_first_answer(
    name: str, unknown: float, known: float
) -> None:
    candidate = fakes.candidate("a", max_in_flight=8, weight=3.0, priority=2)
    assert NAMES[name](candidate) == unknown
    candidate.observe(
        fakes.outcome("a", quality=0.4, cost_micro_usd=2000, latency_s=3.0, ttft_s=0.25)
    )
    candidate.in_flight = 2
    candidate.health = "degraded"
    assert make(score=name).choose(QUERY, (candidate,)).scores == [known]


def test_every_name_is_in_the_table_above() -> None:
    assert len(NAMES) == 12


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("  1", 1.0),
        ("2 + 3*4", 14.0),
        ("(2 + 3)*4 / 8", 2.5),
        ("-x + +y", 1.0),
        ("min(x, y, 0)", 0.0),
        ("max(x, y) - abs(x - 3)", 0.0),
        ("x if x > y else y", 2.0),
        ("(x < y) * 10", 10.0),
        ("1 if 0 < x <= 1 < y else 0", 1.0),
        ("x == 1", 1.0),
        ("x != 1", 0.0),
        ("x >= y", 0.0),
        ("1_000 + 0x10", 1016.0),
    ],
)
def test_expressions_have_their_usual_value(text: str, value: float) -> None:
    used, function = compile_expression(text, ("x", "y"))
    arguments = {"x": 1.0, "y": 2.0}
    assert float(function(*[arguments[name] for name in used])) == value


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("", 1, "empty"),
        ("   ", 1, "empty"),
        ("qualty", 1, "did you mean 'quality'"),
        ("1 + zebra", 5, "unknown name 'zebra' (known: cost_usd"),
        ("  1 + zebra", 7, "unknown name"),
        ("quality ** 2", 1, "the operator Pow is not allowed"),
        ("1 + quality % 2", 5, "Mod is not allowed"),
        ("quality // 2", 1, "FloorDiv is not allowed"),
        ("1 << 9", 1, "LShift is not allowed"),
        ("not quality", 1, "Not is not allowed"),
        ("~1", 1, "Invert is not allowed"),
        ("quality and 1", 1, "this is not allowed"),
        ("quality is 1.0", 1, "Is is not allowed"),
        ("quality in (1, 2)", 1, "In is not allowed"),
        ("quality.real", 1, "this is not allowed"),
        ("1 - quality.__class__.__mro__", 5, "this is not allowed"),
        ("quality[0]", 1, "this is not allowed"),
        ("'text'", 1, "a str is not allowed"),
        ("b'x'", 1, "a bytes is not allowed"),
        ("f'{quality}'", 1, "this is not allowed"),
        ("True", 1, "a bool is not allowed"),
        ("None", 1, "a NoneType is not allowed"),
        ("...", 1, "a ellipsis is not allowed"),
        ("1j", 1, "a complex is not allowed"),
        ("1e999", 1, "too large"),
        ("9" * 400, 1, "too large"),
        ("[1, 2]", 1, "this is not allowed"),
        ("{1}", 1, "this is not allowed"),
        ("(1, 2)", 1, "this is not allowed"),
        ("[x for x in (1, 2)]", 1, "this is not allowed"),
        ("lambda: 1", 1, "this is not allowed"),
        ("(quality := 1)", 2, "this is not allowed"),
        ("1 + (yield)", 6, "this is not allowed"),
        ("__import__('os')", 1, "only min, max and abs may be called"),
        ("print(1)", 1, "only min, max and abs may be called"),
        ("quality(1)", 1, "only min, max and abs may be called"),
        ("min(1, 2)(3)", 1, "only min, max and abs may be called"),
        ("1 + min", 5, "unknown name 'min'"),
        ("min(1)", 1, "min takes at least two arguments"),
        ("max(1, 2, key=abs)", 1, "max takes at least two arguments"),
        ("abs(1, 2)", 1, "abs takes exactly one argument"),
        ("min(*quality, 1)", 5, "this is not allowed"),
        ("1 +", None, "cannot be read"),
        ("  (1", 3, "cannot be read"),
        ("quality = 1", 9, "cannot be read"),
        ("import os", 1, "cannot be read"),
        ("1if 2 else 3", 1, "cannot be read"),
        ("1 # 2", 3, "'#' is not allowed"),
        ("1\n+ 1", 2, r"'\n' is not allowed"),
        ("1\x00", 2, r"'\x00' is not allowed"),
        ("\uff51uality", 1, "'\uff51' is not allowed"),
        ("+".join(["1"] * 251), 501, "longer than 500 characters"),
        ("+".join(["1"] * 120), 1, "too complex"),
        ("-" * 400 + "1", 101, "too complex"),
        ("(" * 240 + "1" + ")" * 240, None, "cannot be read"),
        ("min(1,1)+" * 50 + "1", None, "too complex"),
    ],
)
def test_anything_else_is_refused_with_its_column(
    text: str, column: int | None, said: str
) -> None:
    key, message = refused(score=text)
    assert key == "algorithm.custom.score"
    assert said in message
    if column is not None:
        assert message.startswith(f"column {column}: ")


ALPHABET = "quality cost_usd0123456789.+-*/()<>=,ifelsmnxab[]'_:"


@given(st.text(alphabet=ALPHABET, max_size=60))
def test_any_text_is_either_refused_or_arithmetic(text: str) -> None:
    try:
        used, function = compile_expression(text, tuple(NAMES))
    except ExpressionError as refusal:
        assert 1 <= refusal.column <= len(text) + 1
        return
    allowed = (ast.Constant, ast.Name, ast.UnaryOp, ast.BinOp, ast.Compare, ast.IfExp)
    for node in ast.walk(ast.parse(text.strip(), mode="eval").body):
        if isinstance(node, ast.expr) and not isinstance(node, ast.Call):
            assert isinstance(node, allowed)
    try:
        value = float(function(*[0.5] * len(used)))
    except ZeroDivisionError:
        return
    assert isinstance(value, float)


def test_the_compiled_function_has_no_builtins() -> None:
    _, function = compile_expression("max(1, 2)", ())
    assert set(function.__globals__) == {"__builtins__", "min", "max", "abs"}
    assert function.__globals__["__builtins__"] == {}


def test_a_score_that_divides_by_zero_names_the_backend() -> None:
    with pytest.raises(AlgorithmFailed, match="'a' divides by zero"):
        make(score="1 / in_flight").choose(QUERY, (A, B))


@pytest.mark.parametrize("text", ["1e300 * 1e300", "1e300*1e300 - 1e300*1e300"])
def test_a_score_that_overflows_names_the_backend(text: str) -> None:
    with pytest.raises(AlgorithmFailed, match="score of backend 'a' is"):
        make(score=text).choose(QUERY, (A, B))


@pytest.mark.parametrize("settings", [{}, {"score": "1", "callable": "a:b"}])
def test_exactly_one_of_the_two_settings_is_needed(settings: dict[str, str]) -> None:
    key, message = refused(**settings)
    assert key == "algorithm.custom"
    assert message == "expected exactly one of 'callable' and 'score'"


def test_calls_the_users_function(here: str) -> None:
    busy, idle = fakes.candidate("busy", in_flight=2), fakes.candidate("idle")
    algorithm = make(callable=f"{here}:least_loaded")
    choice = algorithm.choose(QUERY, (busy, idle))
    assert choice == Choice(idle, 1.0)
    algorithm.observe(fakes.outcome("idle"))


def test_passes_on_the_choice_of_a_callable_object(
    here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(here)
    monkeypatch.setattr(module, "rotating", Rotating(), raising=False)
    algorithm = make(callable=f"{here}:rotating")
    choices = [algorithm.choose(QUERY, (A, B)) for _ in range(3)]
    assert [each.candidate.name for each in choices] == ["b", "a", "b"]
    assert {(each.probability, each.via) for each in choices} == {(0.5, "mine")}


def test_finds_a_function_inside_a_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "users_rules.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    algorithm = make(callable="users_rules:Holder.last")
    assert algorithm.choose(QUERY, (A, B)).candidate is B


def test_finds_a_module_beside_the_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "rules_beside_config.py").write_text(FUNCTIONS)
    context = attrs.evolve(fakes.context("custom"), folder=tmp_path)
    before = list(sys.path)
    settings = Settings(callable="rules_beside_config:Holder.last")
    algorithm = plb_register_algorithm().build(settings, context)
    assert algorithm.choose(QUERY, (A, B)).candidate is B
    assert sys.path == before


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "expected 'package.module:function'"),
        ("module", "expected 'package.module:function'"),
        (":function", "expected 'package.module:function'"),
        ("module:", "expected 'package.module:function'"),
        ("no_such_module_here:f", "importing 'no_such_module_here' failed: ModuleNot"),
        ("..relative:f", "failed: TypeError"),
        ("test_custom:missing", "'missing' in 'test_custom' is missing"),
        ("test_custom:missing.deeper", "is missing or cannot be called"),
        ("test_custom:NUMBER", "cannot be called"),
        ("test_custom:slow", "must not be async"),
    ],
)
def test_an_unusable_function_is_refused_at_load(
    here: str, path: str, said: str
) -> None:
    key, message = refused(callable=path)
    assert key == "algorithm.custom.callable"
    assert said in message


@pytest.mark.parametrize(
    "body", ["raise RuntimeError('broken')", "import sys; sys.exit(3)", "(", "1/0"]
)
def test_a_module_that_fails_to_import_is_refused_at_load(
    body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "users_broken_rules.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    _, message = refused(callable="users_broken_rules:choose")
    assert message.startswith("importing 'users_broken_rules' failed: ")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("nothing", "returned NoneType, expected one of the candidates or a Choice"),
        ("stranger", "not among the candidates"),
        ("impossible", "probability is 0.0"),
    ],
)
def test_a_wrong_return_fails_the_choice(here: str, function: str, said: str) -> None:
    algorithm = make(callable=f"{here}:{function}")
    with pytest.raises(AlgorithmFailed, match=said):
        algorithm.choose(QUERY, (A, B))
