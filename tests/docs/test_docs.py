"""The documentation says what the code does, and its examples run."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from plb_core.config import read_text
from plb_core.loader import COMMAND_GROUP, Loader
from plb_core.source import read_source

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def blocks(language: str) -> list[pytest.ParameterSet]:
    found = []
    for page in PAGES:
        for number, match in enumerate(BLOCK.finditer(page.read_text()), 1):
            if match[1] == language:
                name = f"{page.relative_to(ROOT)}#{number}"
                found.append(pytest.param(match[3], id=name))
    return found


def generated_pages() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pages: dict[str, str] = module.pages()
    return pages


def test_generated_pages_are_up_to_date() -> None:
    for name, text in generated_pages().items():
        written = (DOCS / "reference" / name).read_text()
        assert written == text, f"{name} is stale: run `make docs`"


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code: str, tmp_path: Path) -> None:
    script = tmp_path / "block.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml_blocks_are_sound(text: str) -> None:
    document = tomllib.loads(text)
    if document.keys() & {"project", "build-system"}:
        return  # a pyproject.toml
    config = read_text(text)
    # A fragment may leave the backends or the track to the rest of the file.
    wrong = [
        problem
        for problem in config.problems.found
        if "there is no [" not in problem.message and "section:" not in problem.message
    ]
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_page_is_reachable_from_the_index() -> None:
    seen: set[Path] = set()
    queue = [DOCS / "index.md"]
    while queue:
        page = queue.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        queue += [
            (page.parent / target).resolve()
            for target in LINK.findall(page.read_text())
            if "://" not in target
        ]
    missing = {page for page in PAGES[1:] if page.resolve() not in seen}
    assert not missing


def test_every_plugin_has_a_page() -> None:
    for plugin in Loader().installed():
        if plugin.distribution != "plb":
            continue
        kinds = read_source(plugin.module).kinds
        folder = DOCS / "reference"
        names = {
            folder / "algorithms" / f"{plugin.name}.md",
            *(
                folder / f"{kind.replace('_', '-')}-{plugin.name}.md"
                for kind in (*kinds, "health", "cost", "quality")
            ),
            folder / "http-api.md" if "service" in kinds else folder / "-",
            folder / f"backend-{plugin.name.partition('_')[0]}.md",
        }
        assert any(name.exists() for name in names), plugin.name


def test_the_readme_is_short() -> None:
    assert (ROOT / "README.md").read_text().count("\n") <= 110


def test_the_shipped_configuration_is_what_init_writes() -> None:
    from plb_core.cli.init import config_text

    written = (ROOT / "config.toml").read_text()
    assert written == config_text(["documents"], "least_connections")


def test_every_command_is_installed_by_an_entry_point() -> None:
    assert {each.name for each in Loader().installed(COMMAND_GROUP)} >= {
        "demo",
        "index",
    }
