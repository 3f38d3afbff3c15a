"""The example distribution, built, installed beside plb in a fresh place, and used."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "plugins" / "example-sticky-tenant"
CONFIG = """\
[backend.a]
plugin = "documents"
[backend.b]
plugin = "documents"
[backend.c]
plugin = "documents"

[track.main]
algorithm = "sticky_tenant"
"""
SCRIPT = """\
import asyncio, json, sys
from plb_core import Query
from plb_core.balancer import Balancer

async def main():
    backends = {}
    async with Balancer.from_file("config.toml") as balancer:
        for number in range(12):
            tenant = f"tenant {number}"
            query = Query(
                "What are metabolic pathways?", attributes={"tenant": tenant}
            )
            replies = [await balancer.ask(query) for _ in range(4)]
            assert {reply.algorithm for reply in replies} == {"sticky_tenant"}
            backends[tenant] = [reply.backend for reply in replies]
    print(json.dumps(backends))

asyncio.run(main())
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a fresh environment with both wheels installed."""
    folder = tmp_path_factory.mktemp("example")
    wheels = folder / "wheels"
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "-w", wheels, ROOT, EXAMPLE, cwd=folder)
    built = sorted(wheels.glob("*.whl"))
    assert [each.name.split("-")[0] for each in built] == [
        "example_sticky_tenant",
        "plb",
    ]
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    example, core = built
    run(
        *(python, "-m", "pip", "--quiet", "--disable-pip-version-check"),
        *("install", f"{example}[test]", core),
        cwd=folder,
    )
    return python


def test_the_installed_plugin_is_listed(python: Path, tmp_path: Path) -> None:
    listed = run(python.parent / "plb", "plugins", "--json", cwd=tmp_path)
    assert "sticky_tenant" in listed
    assert "example-sticky-tenant" in listed


def test_a_tenant_sticks_to_one_backend(python: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "ask.py").write_text(SCRIPT)
    asked = json.loads(run(python, "ask.py", cwd=tmp_path))
    assert len(asked) == 12
    for backends in asked.values():
        assert len(set(backends)) == 1
    assert len({backends[0] for backends in asked.values()}) > 1


def test_its_own_tests_pass_where_it_is_installed(python: Path, tmp_path: Path) -> None:
    # Copied, so that the installed module is tested and not the folder's.
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    output = run(python, "-m", "pytest", "-q", "tests", cwd=tmp_path)
    assert " passed" in output
    assert "failed" not in output
