from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from plb_core.cli.common import default_config
from plb_core.config import read_text
from plb_core.loader import Loader
from plb_core.source import read_source

from .conftest import Ran

Plb = Callable[..., Ran]
QUESTION = "What are metabolic pathways?"

ALGORITHMS = [
    plugin.name
    for plugin in Loader().installed()
    if "algorithm" in read_source(plugin.module).kinds and plugin.distribution == "plb"
]


def test_asks_with_the_built_in_configuration_and_shows_sources(plb: Plb) -> None:
    ran = plb("ask", QUESTION)
    assert ran.status == 0
    assert "Metabolic pathways are" in ran.out
    assert re.search(r"^  \[1\] .*\.md", ran.out, re.MULTILINE)
    assert "backend documents · track main" in ran.out
    assert "starter collection" in ran.out


def test_asks_as_json_with_an_explanation(plb: Plb) -> None:
    shown = plb("ask", QUESTION, "--json", "--explain").json()
    assert shown["backend"] == "documents"
    assert shown["sources"][0]["url"]
    assert shown["cost_micro_usd"] == 0
    attempt = shown["explanation"]["attempts"][0]
    assert attempt["result"] == "answer"
    assert attempt["candidates"][0]["name"] == "documents"


def test_streams_the_same_text(plb: Plb) -> None:
    whole = plb("ask", QUESTION, "--json").json()["answer"]
    assert plb("ask", QUESTION, "--stream").out.startswith(whole)


def test_explains_as_a_table(plb: Plb) -> None:
    assert "least_connections" in plb("ask", QUESTION, "--explain").out


def test_without_an_answer_the_status_is_one(plb: Plb) -> None:
    ran = plb("ask", "Who won the football match yesterday evening?")
    assert ran.status == 1
    assert "no_answer" in ran.err


def test_an_unknown_model_lists_what_there_is(plb: Plb) -> None:
    ran = plb("ask", QUESTION, "--model", "nope")
    assert ran.status == 1
    assert "served here: auto, main, documents" in ran.err


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_is_selected_by_one_key(plb: Plb, algorithm: str) -> None:
    ran = plb("ask", QUESTION, "--json", "--set", f"track.main.algorithm={algorithm}")
    assert ran.status == 0, ran.err
    assert ran.json()["algorithm"] == algorithm


def test_there_are_ten_algorithms() -> None:
    assert len(ALGORITHMS) == 10


def test_check_reports_every_problem_with_file_and_line(
    plb: Plb, tmp_path: Path
) -> None:
    Path("config.toml").write_text(
        '[backend.documents]\nmin_coverage = nan\nmin_covrage = "x"\n'
        '[backend.other]\nplugin = "nope"\n[track.main]\nalgorithm = "round_robbin"\n'
        '[algorithm.custom]\nscore = "quality +* 2"\n'
    )
    ran = plb("check")
    assert ran.status == 2
    for start in (
        "2: backend.documents.min_coverage: expected a finite number",
        "3: backend.documents.min_covrage: unknown key; did you mean 'min_coverage'",
        "5: backend.other.plugin: no installed plugin is called 'nope'",
        "7: track.main.algorithm: no installed plugin is called 'round_robbin'; did",
        "9: algorithm.custom.score: ",
    ):
        assert f"config.toml:{start}" in ran.err
    as_json = plb("check", "--json")
    assert as_json.status == 2
    assert {problem["line"] for problem in as_json.json()["problems"]} == {
        2,
        3,
        5,
        7,
        9,
    }


def test_check_says_what_a_sound_configuration_means(plb: Plb) -> None:
    ran = plb("check", "--set", "route.careful.tiers=[['documents']]")
    assert ran.status == 0
    assert "backend documents: documents, tier 1" in ran.out
    assert "route careful" in ran.out
    assert plb("check", "--json").json()["services"] == ["gateway"]


def test_a_missing_file_is_status_two(plb: Plb) -> None:
    ran = plb("check", "--config", "none.toml")
    assert ran.status == 2
    assert "none.toml: No such file or directory; `plb init` writes one" in ran.err


@pytest.mark.parametrize("text", ["novalue", "=1", "a b=1"])
def test_a_malformed_override_is_named(plb: Plb, text: str) -> None:
    ran = plb("check", "--set", text)
    assert ran.status == 2
    assert "--set takes KEY=VALUE" in ran.err


def test_an_override_may_be_toml_or_a_plain_word(plb: Plb) -> None:
    ran = plb(
        "config", "show", "--json",
        "--set", "routing.max_attempts=2",
        "--set", 'backend."documents".region=eu',
    )  # fmt: skip
    shown = ran.json()
    assert shown["routing"]["max_attempts"] == 2
    assert shown["backend"]["documents"]["region"] == "eu"


def test_config_show_is_itself_a_configuration(plb: Plb) -> None:
    shown = plb("config", "show").out
    assert tomllib.loads(shown)["backend"]["documents"]["min_coverage"] == 0.4
    Path("again.toml").write_text(shown)
    assert plb("config", "show", "--config", "again.toml").out == shown


def test_no_secret_is_shown_only_the_variables_name(
    plb: Plb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLB_TEST_CANARY", "sk-CANARY-123")
    ran = plb(
        "config", "show",
        "--set", "backend.pplx.plugin=perplexity",
        "--set", "backend.pplx.api_key_env=PLB_TEST_CANARY",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    assert "PLB_TEST_CANARY" in ran.out
    assert "CANARY-123" not in ran.out + ran.err


def test_a_missing_environment_variable_is_a_problem_with_its_key(plb: Plb) -> None:
    ran = plb("check", "--set", "backend.pplx.plugin=perplexity")
    assert ran.status == 2
    assert "backend.pplx.api_key_env: environment variable" in ran.err


def test_the_schema_describes_plugins_and_refuses_unknown_sections(plb: Plb) -> None:
    schema = plb("config", "schema").json()
    assert schema["additionalProperties"] is False
    backend = schema["properties"]["backend"]["additionalProperties"]["properties"]
    assert backend["min_coverage"]["type"] == "number"
    assert backend["priority"]["default"] == 1
    track = schema["properties"]["track"]["additionalProperties"]
    assert track["required"] == ["algorithm"]


def test_plugins_are_listed_with_their_state_and_summary(plb: Plb) -> None:
    rows = {row["name"]: row for row in plb("plugins", "--json").json()}
    assert rows["documents"]["state"] == "used"
    assert rows["least_connections"]["state"] == "used"
    assert rows["perplexity"]["state"] == "installed"
    assert rows["perplexity"]["kinds"] == ["backend"]
    assert all(row["summary"] for row in rows.values())
    assert "least_connections" in plb("plugins").out


def test_init_writes_a_file_that_check_accepts(plb: Plb) -> None:
    assert plb("init", "documents", "lightrag", "--algorithm", "adaptive").status == 0
    assert plb("check").status == 0
    text = Path("config.toml").read_text()
    assert "[backend.lightrag]" in text
    assert 'algorithm = "adaptive"' in text
    again = plb("init")
    assert again.status == 1
    assert "--force" in again.err
    assert plb("init", "--force").status == 0


def test_init_says_what_is_still_to_do(plb: Plb) -> None:
    ran = plb("init", "openai")
    assert ran.status == 0
    assert "still to do:" in ran.out
    assert "backend.openai: set model" in ran.out
    assert plb("check").status == 2


def test_init_refuses_what_is_not_installed(plb: Plb) -> None:
    ran = plb("init", "docments")
    assert ran.status == 2
    assert "did you mean 'documents'" in ran.err


def test_every_commented_default_of_init_is_true(plb: Plb) -> None:
    """Uncomment every line of the shipped file: it must stay the same configuration."""
    text = default_config().read_text()
    full = re.sub(r"^# (\[[\w.]+\]|\w+ = .*)$", r"\1", text, flags=re.MULTILINE)
    full = re.sub(r"^\w+ =  \(not set\)\n", "", full, flags=re.MULTILINE)
    full = full.replace(" (required: fill in)", "60")
    config = read_text(full)
    assert not config.problems.found
    Path("full.toml").write_text(full)
    ran = plb("check", "--config", "full.toml")
    assert ran.status == 0, ran.err


def test_errors_and_actions_are_explained_with_a_backends_own(plb: Plb) -> None:
    own = "backend.documents.on_error.backend_timeout=stop"
    ran = plb("explain", "errors", "--set", own)
    assert re.search(
        r"^backend_timeout +next +\(documents: stop\)$", ran.out, re.MULTILINE
    )
    assert "stop: give the failure to the caller." in ran.out
    shown = plb("explain", "errors", "--json", "--set", own).json()
    assert shown["default"]["backend_timeout"] == "next"
    assert shown["backends"] == {"documents": {"backend_timeout": "stop"}}


def test_no_command_prints_help(plb: Plb) -> None:
    ran = plb()
    assert ran.status == 2
    assert "demo" in ran.out
    assert plb("--version").out.strip()


def test_a_plugins_command_is_built_only_when_asked_for(plb: Plb) -> None:
    with pytest.raises(SystemExit) as caught:
        plb("index", "--help")
    assert caught.value.code == 0


def test_an_unknown_command_is_status_two(plb: Plb) -> None:
    with pytest.raises(SystemExit) as caught:
        plb("frobnicate")
    assert caught.value.code == 2
