from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import attrs
import pytest

from plb_core import (
    PluginConflict,
    PluginContractError,
    PluginNotFound,
    Provider,
    hookimpl,
)
from plb_core.loader import COMMAND_GROUP, Loader
from plb_core.sections import PluginPolicy
from plb_core.source import read_source


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path into which tests install distributions."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(
    site: Path, name: str, points: dict[str, str], code: str = "", version: str = "1.0"
) -> None:
    """Write a distribution with entry points and one module called like it."""
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    )
    lines = "".join(f"{key} = {value}\n" for key, value in points.items())
    (info / "entry_points.txt").write_text(f"[plb]\n{lines}")
    (site / f"{name}.py").write_text(code)


GOOD = '''
"""A plugin of the test."""
from plb_core import Provider, hookimpl

@hookimpl
def plb_register_algorithm():
    return Provider("{name}", lambda settings, context: object())
'''


def test_loads_a_named_plugin_once(site: Path) -> None:
    install(site, "plb_test_one", {"one": "plb_test_one"}, GOOD.format(name="one"))
    loader = Loader()
    assert loader.provider("algorithm", "one").name == "one"
    assert loader.provider("algorithm", "one") is loader.provider("algorithm", "one")


def test_a_plugin_that_is_not_named_is_listed_but_never_imported(site: Path) -> None:
    mark = site / "ran"
    code = f"open({str(mark)!r}, 'w').close()\n" + GOOD.format(name="rogue")
    install(site, "plb_test_rogue", {"rogue": "plb_test_rogue"}, code)
    loader = Loader()
    assert "rogue" in [plugin.name for plugin in loader.installed()]
    assert read_source("plb_test_rogue").kinds == ("algorithm",)
    assert not mark.exists()
    loader.provider("algorithm", "rogue")
    assert mark.exists()


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(PluginNotFound, match="did you mean 'round_robin'"):
        Loader().provider("algorithm", "round_robbin")


def test_a_plugin_of_another_kind_is_refused() -> None:
    with pytest.raises(PluginContractError, match="offers no backend"):
        Loader().provider("backend", "round_robin")


def test_two_distributions_with_one_name_are_both_named(site: Path) -> None:
    install(site, "plb_test_left", {"both": "plb_test_left"}, GOOD.format(name="both"))
    install(
        site, "plb_test_right", {"both": "plb_test_right"}, GOOD.format(name="both")
    )
    with pytest.raises(PluginConflict, match=r"plb_test_left.* and .*plb_test_right"):
        Loader().provider("algorithm", "both")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import surely_not_there",
            "importing plb_test_bad failed: ModuleNotFoundError",
        ),
        ("1 / 0", "importing plb_test_bad failed: ZeroDivisionError"),
        ("raise SystemExit(3)", "importing plb_test_bad failed: SystemExit"),
        ("x = 1", "offers no algorithm"),
        (GOOD.format(name="other"), "calls its algorithm 'other' instead of 'bad'"),
        (
            GOOD.format(name="bad").replace("algorithm()", "algoritm()"),
            "plb_register_algoritm",
        ),
        (GOOD.format(name="bad").replace("algorithm()", "algorithm(x)"), "algorithm"),
        (
            GOOD.format(name="bad").replace("return Provider", "return 1 #"),
            "returned a int, not a Provider",
        ),
        (
            GOOD.format(name="bad").replace("return", "raise KeyError;"),
            "plb_register_algorithm of 'bad' failed: KeyError",
        ),
        (
            GOOD.format(name="bad").replace("object())", "object(), dict)"),
            "are not an attrs class",
        ),
    ],
)
def test_says_what_is_wrong_with_a_plugin(site: Path, code: str, message: str) -> None:
    install(site, "plb_test_bad", {"bad": "plb_test_bad"}, code)
    try:
        with pytest.raises(PluginContractError, match=message):
            Loader().provider("algorithm", "bad")
    finally:
        sys.modules.pop("plb_test_bad", None)


def test_settings_must_not_take_names_that_every_backend_has() -> None:
    @attrs.frozen
    class Clash:
        weight: float = 1.0

    class Plugin:
        @hookimpl
        def plb_register_backend(self) -> Provider[Any]:
            return Provider("clash", lambda _s, _c: object(), Clash)

    with pytest.raises(PluginContractError, match="every backend has: weight"):
        Loader(extra=[Plugin()])


def test_two_objects_offering_one_name_conflict() -> None:
    class Plugin:
        @hookimpl
        def plb_register_backend(self) -> Provider[Any]:
            return Provider("same", lambda _s, _c: object())

    with pytest.raises(PluginConflict, match="both provide the backend 'same'"):
        Loader(extra=[Plugin(), Plugin()])


def test_an_object_handed_over_twice_conflicts() -> None:
    plugin = object()
    with pytest.raises(PluginConflict, match="twice"):
        Loader(extra=[plugin, plugin])


def test_only_allowed_distributions_may_provide(site: Path) -> None:
    install(site, "plb_test_one", {"one": "plb_test_one"}, GOOD.format(name="one"))
    strict = Loader(PluginPolicy(allow=("plb_test_other",)))
    assert {p.name: p.allowed for p in strict.installed()}["one"] is False
    with pytest.raises(PluginContractError, match="allow does not list"):
        strict.provider("algorithm", "one")
    assert strict.provider("algorithm", "round_robin")  # plb's own always may
    for entry in ("plb_test_one", "plb_test_one==1.0"):
        assert Loader(PluginPolicy(allow=(entry,))).provider("algorithm", "one")
    with pytest.raises(PluginContractError):
        Loader(PluginPolicy(allow=("plb_test_one==2",))).provider("algorithm", "one")


def test_an_entry_point_seen_twice_on_the_path_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from plb_core import loader

    real = entry_points

    def doubled(group: str) -> list[EntryPoint]:
        return [*real(group=group), *real(group=group)]

    monkeypatch.setattr(loader, "entry_points", doubled)
    assert Loader().provider("algorithm", "round_robin")


def test_commands_are_a_group_of_their_own() -> None:
    names = [plugin.name for plugin in Loader().installed(COMMAND_GROUP)]
    assert "demo" in names
    assert "round_robin" not in names


def test_reading_source_survives_what_is_not_there(site: Path) -> None:
    (site / "plb_test_broken.py").write_text("def (")
    assert read_source("plb_test_broken").summary == ""
    assert read_source("surely.not.there").kinds == ()
    assert read_source("sys").summary == ""


@pytest.mark.parametrize(
    "code",
    [
        "raise OSError('torn')",
        GOOD.replace("register_algorithm", "regsiter_algorithm"),
        GOOD.replace("return Provider", "raise OSError('torn') #"),
    ],
)
def test_a_plugin_that_cannot_be_used_says_why_each_time(site: Path, code: str) -> None:
    """Asked for again, it was only said to offer nothing."""
    install(site, "broken", {"broken": "broken"}, code.format(name="broken"))
    loader = Loader()
    messages = []
    for _ in range(2):
        with pytest.raises(PluginContractError) as caught:
            loader.provider("algorithm", "broken")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "offers no" not in messages[0]


def test_one_module_may_stand_behind_two_names(site: Path) -> None:
    """The second name finds the module registered, and offers what is its own."""
    code = GOOD.format(name="one")
    install(site, "pair", {"one": "pair", "two": "pair"}, code)
    loader = Loader()
    assert loader.provider("algorithm", "one").name == "one"
    with pytest.raises(PluginContractError, match="'two' offers no algorithm"):
        loader.provider("algorithm", "two")
    with pytest.raises(PluginContractError, match="'one' offers no backend"):
        loader.provider("backend", "one")
    assert loader.provider("algorithm", "one").name == "one"
