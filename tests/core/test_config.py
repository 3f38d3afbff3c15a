from __future__ import annotations

from pathlib import Path

import pytest

from plb_core.config import Config, read_file, read_text
from plb_core.errors import ConfigError
from plb_core.types import ModelMap, Price

SOUND = """
[backend.a]
plugin = "fake"
own_key = 1
[track.main]
algorithm = "x"
"""


def problems(text: str) -> list[str]:
    return [str(each) for each in read_text(text, file="c.toml").problems.found]


def test_keeps_the_plugins_own_keys_raw() -> None:
    config = read_text(SOUND)
    assert not config.problems.found
    assert config.backends["a"].instance.settings == {"own_key": 1}
    assert config.backends["a"].instance.plugin == "fake"


def test_a_section_without_plugin_names_its_plugin_by_itself() -> None:
    config = read_text("[backend.documents]\n[track.main]\nalgorithm = 'x'\n")
    assert config.backends["documents"].instance.plugin == "documents"
    assert config.instance("algorithm", "x").plugin == "x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[trakc.x]\nalgorithm='y'" + SOUND,
            "c.toml:1: trakc: unknown section; did you mean 'track'?",
        ),
        (
            "backend = 1\n[track.main]\nalgorithm='x'",
            "c.toml:1: backend: expected sections like [backend.NAME]",
        ),
        (
            "[track]\nmain = 1\n[backend.a]",
            "c.toml:2: track.main: expected a section like [track.main]",
        ),
        (
            "[track.main]\nalgorithm='x'\nbackends=['b']\n[backend.a]",
            "c.toml:3: track.main.backends[0]: there is no [backend.b]",
        ),
        (
            SOUND + "[track.other]\nalgorithm='x'",
            (
                "c.toml: routing.track: missing; with several tracks (main, other) one"
                " must be the default"
            ),
        ),
        (
            SOUND + "[routing]\ntrack='mian'",
            "c.toml:8: routing.track: there is no [track.mian]; did you mean 'main'?",
        ),
        (
            SOUND + "[route.main]\n",
            (
                "c.toml:7: route.main: [track.main] has the same name: a request is"
                " ambiguous"
            ),
        ),
        (SOUND + "[route.auto]\n", "c.toml:7: route.auto: the name 'auto' is reserved"),
        (
            SOUND + "[route.x]\ntrack='zzz'",
            "c.toml:8: route.x.track: there is no [track.zzz]",
        ),
        (
            SOUND + "[route.x]\ntiers=[['q']]",
            "c.toml:8: route.x.tiers[0][0]: there is no [backend.q]",
        ),
        (SOUND + "[route.x]\ntiers=[[]]", "c.toml:8: route.x.tiers: a tier is empty"),
        (
            SOUND + "[algorithm.x]\nplugin=1",
            "c.toml:8: algorithm.x.plugin: expected a string",
        ),
        (
            SOUND + "[routing]\ndeadline_s=0",
            "c.toml:8: routing.deadline_s: expected a number above 0, got 0.0",
        ),
        (
            "[track.main]\nalgorithm='x'",
            "c.toml: no [backend.NAME] section: there is nothing to ask",
        ),
        (
            "[backend.a]",
            "c.toml: no [track.NAME] section: nothing chooses an algorithm",
        ),
        ("[track.main]\n[backend.a]", "c.toml:1: track.main.algorithm: missing"),
        (
            "[backend.a]\npriority=0\n[track.main]\nalgorithm='x'",
            "c.toml:2: backend.a.priority: expected a number of at least 1, got 0",
        ),
        (
            "[backend.a.price]\nrequest_usd=nan\n[track.main]\nalgorithm='x'",
            (
                "c.toml:2: backend.a.price.request_usd: expected a finite number, got"
                " the number nan"
            ),
        ),
        (
            "[backend.a.price]\nrequest_usd=-0.1\n[track.main]\nalgorithm='x'",
            (
                "c.toml:2: backend.a.price.request_usd: expected a number of at least"
                " 0, got -0.1"
            ),
        ),
    ],
)
def test_names_file_line_and_key(text: str, message: str) -> None:
    assert message in problems(text)


def test_syntax_errors_have_a_line() -> None:
    with pytest.raises(ConfigError, match=r"^c\.toml:2: not valid TOML: "):
        read_text("a = 1\nb = = 2\n", file="c.toml")


def test_a_document_nested_too_deeply_is_a_problem_not_a_crash() -> None:
    with pytest.raises(ConfigError, match=r"nested too deeply|not valid TOML"):
        read_text("a = " + "[" * 100_000)


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory; `plb init`"):
        read_file(tmp_path / "none.toml")


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"c\.toml: is not valid UTF-8"):
        read_file(path)


def test_a_file_knows_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(SOUND)
    assert read_file(path).folder == tmp_path


def test_overrides_win_over_the_file() -> None:
    config = read_text(SOUND, overrides=[(("track", "main", "algorithm"), "z")])
    assert config.tracks["main"].algorithm == "z"


def test_an_override_below_a_value_is_a_problem() -> None:
    config: Config = read_text("x = 1\n" + SOUND, overrides=[(("x", "y"), 1)])
    assert any("cannot be set" in str(each) for each in config.problems.found)


def test_prices_become_whole_micro_dollars_rounded_up() -> None:
    config = read_text(
        "[backend.a.price]\ninput_usd_per_mtok=0.1\noutput_usd_per_mtok=2.5\n"
        "request_usd=0.0000001\nsearch_usd=0.005\n[track.main]\nalgorithm='x'"
    )
    table = config.backends["a"].table.price
    assert table is not None
    assert table.price() == Price(100_000, 2_500_000, 1, 5_000)
    assert not table.price().free
    assert Price().free


def test_model_names_split_into_exact_and_longest_pattern_first() -> None:
    config = read_text(
        '[backend.a.models]\n"fast"="up/fast"\n"gpt-*"="*"\n"gpt-5-*"="up/5"\n'
        "[track.main]\nalgorithm='x'"
    )
    models = config.backends["a"].models
    assert models.upstream("fast") == "up/fast"
    assert models.upstream("gpt-5-mini") == "up/5"
    assert models.upstream("gpt-4") == "gpt-4"
    assert models.upstream("claude") is None


@pytest.mark.parametrize(
    ("requested", "upstream"),
    [
        ("meta/llama-[3]-70b", "here"),
        ("meta/llama-3-70b", None),
        ("what?-x", "there"),
        ("whatn-x", None),
    ],
)
def test_only_a_star_is_special_in_a_pattern(
    requested: str, upstream: str | None
) -> None:
    """Brackets and question marks in a name matched other names."""
    models = ModelMap.from_table({"meta/llama-[3]*": "here", "what?-*": "there"})
    assert models.upstream(requested) == upstream
