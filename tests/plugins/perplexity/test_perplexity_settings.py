from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from plb_backend_perplexity import plb_register_backend
from plb_backend_perplexity.settings import PerplexitySettings, SearchFilters
from plb_core import (
    ConfigError,
)
from plb_core.structure import Problems, read_settings
from plb_core.testing.emulators import PerplexityEmulator
from tests.plugins.perplexity.bench import (
    built,
)


@pytest.mark.parametrize(
    ("set_to", "key"),
    [
        ({"effort": ""}, "effort"),
        ({"model": "sonar"}, "model"),
        ({"model": "https://evil.example/x"}, "model"),
        ({"model": "anthropic/claude-opus-5"}, "max_output_tokens"),
        ({"max_steps": 101}, "max_steps"),
        ({"api": "chat"}, "model"),
        (
            {"search": SearchFilters(after=date(2026, 2, 1), before=date(2026, 2, 1))},
            "search.after",
        ),
    ],
    ids=repr,
)
def test_settings_that_do_not_go_together_are_refused(
    up: PerplexityEmulator, set_to: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        built(up, **set_to)
    assert [each.key for each in caught.value.problems] == [f"backend.pplx.{key}"]


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"effort": "faster"}, "effort"),
        ({"effort": "fast@latest"}, "effort"),
        ({"api": "responses"}, "api"),
        ({"base_url": "api.perplexity.ai"}, "base_url"),
        ({"poll_interval_s": 0}, "poll_interval_s"),
        ({"search": {"domains": ["https://x.org"]}}, "search.domains"),
        ({"search": {"domains": ["a.org"] * 21}}, "search.domains"),
        ({"search": {"country": "Germany"}}, "search.country"),
        ({"search": {"recency": "decade"}}, "search.recency"),
        ({"search": {"after": "2026-01-01"}}, "search.after"),
        ({"api_key_env": "NOT_SET_ANYWHERE"}, "api_key_env"),
        ({"api_key": "k"}, "api_key"),
    ],
    ids=repr,
)
def test_a_wrong_setting_is_named(table: dict[str, object], key: str) -> None:
    problems = Problems()
    assert read_settings(PerplexitySettings, table, ("b",), problems) is None
    assert [each.key for each in problems.found] == [f"b.{key}"]


def test_good_settings_are_read() -> None:
    problems = Problems()
    table = {
        "effort": "medium@2026-10-16.0",
        "search": {"domains": ["-a.org", "b.co.uk/path"], "country": "US"},
    }
    assert read_settings(PerplexitySettings, table, ("b",), problems) is not None
    assert not problems.found


def test_the_plugin_registers_under_its_name() -> None:
    assert plb_register_backend().name == "perplexity"
    assert plb_register_backend().settings is PerplexitySettings
