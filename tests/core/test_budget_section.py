from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest

from plb_core.budget import Budget
from plb_core.config import Config, read_text
from plb_core.ledger_records import Scope

BASE = (
    '[routing]\ncost_scorer = "tokens"\n[backend.web]\n[backend.x]\n'
    '[track.main]\nalgorithm = "round_robin"\n'
)


def read(budget: str) -> Config:
    return read_text(f"[budget]\n{budget}\n{BASE}", file="c.toml")


def problem(budget: str) -> str:
    (found,) = read(budget).problems.found
    return str(found)


def test_without_a_section_nothing_is_limited() -> None:
    config = read_text(BASE)
    assert not config.problems.found
    assert config.budget is None
    budget = Budget()
    assert budget.caps().limits == {}
    assert budget.store == "memory"
    assert budget.zone() is UTC


def test_without_a_cost_scorer_nothing_can_be_held() -> None:
    text = "[budget]\n" + BASE.replace('cost_scorer = "tokens"\n', "")
    (found,) = read_text(text, file="c.toml").problems.found
    assert (
        str(found) == "c.toml:1: budget: needs a cost scorer: set routing.cost_scorer"
    )


def test_reads_every_key() -> None:
    config = read(
        'store = "sqlite"\ntimezone = "Europe/Berlin"\ndaily_usd = 5\n'
        "alert_share = 0.5\nmin_output_tokens = 10\nmax_output_tokens = 20\n"
        'wait_s = 0\nwhen_exhausted = "refuse"\n'
        "backend = { web = 1.5 }\ntrack = { main = 0.25 }\nclient = { team = 0 }"
    )
    assert not config.problems.found
    budget = config.budget
    assert budget is not None
    assert budget.zone() == ZoneInfo("Europe/Berlin")
    caps = budget.caps()
    assert caps.alert_share == 0.5
    assert caps.limits == {
        Scope(): 5_000_000,
        Scope("backend", "web"): 1_500_000,
        Scope("track", "main"): 250_000,
        Scope("client", "team"): 0,
    }
    assert (budget.min_output_tokens, budget.max_output_tokens) == (10, 20)
    assert (budget.wait_s, budget.when_exhausted) == (0.0, "refuse")


@pytest.mark.parametrize(
    ("usd", "micro_usd"),
    [
        ("0.05", 50_000),
        ("0.1", 100_000),
        ("0.29", 290_000),  # 0.29 * 1e6 is 289999.99999999994 in floating point
        ("1e-6", 1),
        ("1.9999999e-6", 1),
        ("9.99e-7", 0),
        ("5e-324", 0),
        ("-0.0", 0),
        ("1_000_000_000", 10**15),
    ],
)
def test_a_cap_is_rounded_down_and_never_overstated(usd: str, micro_usd: int) -> None:
    config = read(f"daily_usd = {usd}\nbackend = {{ web = {usd} }}")
    assert not config.problems.found
    assert config.budget is not None
    assert config.budget.caps().limits == {
        Scope(): micro_usd,
        Scope("backend", "web"): micro_usd,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("daily_usd = nan", "budget.daily_usd: expected a finite number"),
        ("daily_usd = inf", "budget.daily_usd: expected a finite number"),
        ("daily_usd = -0.01", "budget.daily_usd: expected US dollars from 0 to"),
        ("daily_usd = 1e300", "budget.daily_usd: expected US dollars from 0 to"),
        ("daily_usd = 1_000_000_001", "from 0 to 1000000000, got 1000000001"),
        ('daily_usd = "5"', "budget.daily_usd: expected a number"),
        ("daily_usd = true", "budget.daily_usd: expected a number"),
        ("backend = { web = nan }", "budget.backend.web: expected a finite number"),
        ("backend = { web = -1 }", "budget.backend.web: expected US dollars"),
        ("client = { a = -1 }", "budget.client.a: expected US dollars"),
        ("track = { main = 1e99 }", "budget.track.main: expected US dollars"),
        ("backend = { wbe = 1 }", "there is no [backend.wbe]; did you mean 'web'?"),
        ("track = { mian = 1 }", "there is no [track.mian]; did you mean 'main'?"),
        ("alert_share = 1.1", "budget.alert_share: expected a number from 0 to 1"),
        ("wait_s = -1", "budget.wait_s"),
        ("min_output_tokens = 0", "budget.min_output_tokens"),
        ("max_output_tokens = 0", "budget.max_output_tokens"),
        ("min_output_tokens = 9\nmax_output_tokens = 8", "is above max_output_tokens"),
        ('when_exhausted = "open"', "'elsewhere', 'refuse'"),
        ('timezone = "Europe/Berln"', "there is no time zone 'Europe/Berln'"),
        ('timezone = "Europe"', "there is no time zone 'Europe'"),
        ('timezone = "../../etc/passwd"', "there is no time zone"),
        ('timezone = ""', "there is no time zone ''"),
        ("daily = 1", "budget.daily: unknown key"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(text: str, message: str) -> None:
    assert message in problem(text)


def test_the_key_of_a_wrong_cap_has_its_line() -> None:
    text = f"[budget.backend]\nweb = 1\nx = -1\n{BASE}"
    (found,) = read_text(text, file="c.toml").problems.found
    assert str(found).startswith("c.toml:3: budget.backend.x: ")
