from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal

import attrs
import pytest

from plb_core.errors import ConfigError
from plb_core.settings import EnvVar, at_least, http_url, positive, share
from plb_core.structure import Problems, dotted, nearest, read_settings
from plb_core.types import Problem


@attrs.frozen
class Inner:
    level: float = attrs.field(validator=positive)


@attrs.frozen
class Sample:
    count: int
    name: str = ""
    ratio: float | None = None
    on: bool = False
    words: tuple[str, ...] = ()
    place: tuple[float, float] | None = None
    weights: Mapping[str, float] = attrs.field(factory=dict)
    mode: Literal["fast", "slow"] = "fast"
    inner: Inner | None = None
    several: tuple[Inner, ...] = ()
    key_env: EnvVar | None = None
    day: date | None = None
    part: float = attrs.field(default=0.0, validator=share)
    least: int = attrs.field(default=1, validator=at_least(1))
    url: str | None = attrs.field(default=None, validator=http_url)


def complaints(**values: Any) -> list[str]:
    problems = Problems()
    assert read_settings(Sample, {"count": 1, **values}, (), problems) is None
    return [str(problem) for problem in problems.found]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("count", 3.9, "count: expected a whole number, got the number 3.9"),
        ("count", True, "count: expected a whole number, got the boolean true"),
        ("count", "3", "count: expected a whole number, got the string '3'"),
        ("name", 5, "name: expected a string, got the number 5"),
        ("ratio", "2", "ratio: expected a number, got the string '2'"),
        ("ratio", math.nan, "ratio: expected a finite number, got the number nan"),
        ("ratio", math.inf, "ratio: expected a finite number, got the number inf"),
        ("ratio", True, "ratio: expected a number, got the boolean true"),
        ("on", "false", "on: expected true or false, got the string 'false'"),
        ("on", 1, "on: expected true or false, got the number 1"),
        ("words", "a", "words: expected an array, got the string 'a'"),
        ("words", ["a", 1], "words[1]: expected a string, got the number 1"),
        ("place", [1.0], "place: expected an array of 2 values"),
        ("weights", [], "weights: expected a table, got an array"),
        (
            "weights",
            {"a b": "x"},
            "weights.\"a b\": expected a number, got the string 'x'",
        ),
        (
            "mode",
            "fsat",
            "mode: expected one of 'fast', 'slow', got the string 'fsat';"
            " did you mean 'fast'?",
        ),
        ("inner", {"level": 0}, "inner.level: expected a number above 0, got 0.0"),
        ("inner", {}, "inner.level: missing"),
        ("inner", 1, "inner: expected a table, got the number 1"),
        (
            "several",
            [{"level": 1}, {"level": -1}],
            "several[1].level: expected a number above 0, got -1.0",
        ),
        (
            "key_env",
            "PLB_SURELY_UNSET",
            "key_env: environment variable 'PLB_SURELY_UNSET' is not set",
        ),
        (
            "day",
            "2026-01-01",
            "day: expected a date such as 2026-10-09, got the string '2026-01-01'",
        ),
        ("part", 1.5, "part: expected a number from 0 to 1, got 1.5"),
        ("least", 0, "least: expected a number of at least 1, got 0"),
        ("nmae", "x", "nmae: unknown key; did you mean 'name'?"),
        ("zzz", "x", "zzz: unknown key"),
    ],
)
def test_refuses_with_key_and_expectation(key: str, value: Any, message: str) -> None:
    assert complaints(**{key: value}) == [message]


def test_a_moment_is_not_a_date() -> None:
    (message,) = complaints(day=datetime(2026, 1, 1))  # noqa: DTZ001
    assert message.startswith("day: expected a date")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host",
        "http://",
        "http://user@host",
        "http://user:pw@host",
        "http://host?x=1",
        "http://host#x",
        "http://host:0",
        "http://host:99999",
        "http://[::1",
        "host:80",
    ],
)
def test_refuses_addresses_that_hide_something(url: str) -> None:
    (message,) = complaints(url=url)
    assert message.startswith("url: expected an address like")


def test_takes_sound_values_and_widens_whole_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PLB_TEST_KEY", "canary")
    problems = Problems()
    table = {
        "count": 1,
        "ratio": 2,
        "place": [1, 2],
        "weights": {"a": 1},
        "inner": {"level": 1},
        "key_env": "PLB_TEST_KEY",
        "day": date(2026, 10, 9),
        "url": "https://host:8443/base",
    }
    settings = read_settings(Sample, table, (), problems)
    assert not problems.found
    assert settings is not None
    assert settings.ratio == 2.0
    assert isinstance(settings.ratio, float)
    assert settings.place == (1.0, 2.0)
    assert settings.inner == Inner(1.0)


def test_a_default_environment_variable_must_be_set_too() -> None:
    @attrs.frozen
    class Keyed:
        key_env: EnvVar = EnvVar("PLB_SURELY_UNSET")

    problems = Problems()
    assert read_settings(Keyed, {}, ("backend", "x"), problems) is None
    assert str(problems.found[0]) == (
        "backend.x.key_env: environment variable 'PLB_SURELY_UNSET' is not set"
    )


def test_reports_every_problem_of_a_table_at_once() -> None:
    assert len(complaints(name=1, on=2, ratio="x", what=1)) == 4


def test_problems_come_in_file_order_with_lines() -> None:
    problems = Problems("c.toml", "a = 1\n[b]\nc = 2\n")
    problems.add(("b", "c"), "second")
    problems.add(("a",), "first")
    problems.add(("b", "missing"), "at its table")
    with pytest.raises(ConfigError) as caught:
        problems.raise_if_any()
    assert str(caught.value).splitlines() == [
        "c.toml:1: a: first",
        "c.toml:2: b.missing: at its table",
        "c.toml:3: b.c: second",
    ]


def test_a_plugins_own_problem_gets_the_line_of_its_section() -> None:
    problems = Problems("c.toml", "[backend.a]\nregion = 'x'\n")
    error = ConfigError([Problem("odd"), Problem("unknown", key="backend.a.region")])
    problems.add_foreign(error, ("backend", "a"))
    assert [str(each) for each in problems.found] == [
        "c.toml:1: backend.a: odd",
        "c.toml:2: backend.a.region: unknown",
    ]


def test_keys_are_written_as_in_toml() -> None:
    assert dotted(("a", "b-c", "d e", 0, "f")) == 'a.b-c."d e"[0].f'


def test_no_suggestion_when_nothing_is_near() -> None:
    assert nearest("qqq", ["alpha"]) == ""
