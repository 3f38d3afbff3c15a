"""The folder tree is the architecture: who may import whom, how big a file may be."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "plb_core"
SHIPPED = [CORE, ROOT / "plb_contrib_algorithms", ROOT / "plugins"]

# Lower layers first; a module may import from its own layer and those before it.
LAYERS = [
    ["types", "ledger_records", "errors", "error_actions", "rolling", "retry_budget"],
    ["candidate", "settings", "toml_lines", "strict_json", "source", "day", "spending"],
    ["protocols"],
    [
        "hookspecs",
        "scoring",
        "sections",
        "breaker",
        "concurrency_limit",
        "overload",
        "rate_limit",
        "structure",
        "forms",
        "budget",
        "reservation",
        "ledger",
        "store",
    ],
    ["config", "loader"],
    ["plan", "replies"],
    ["build", "history", "health", "lifecycle", "trust", "payment", "shared"],
    ["causes", "failures"],
    ["attempts"],
    ["lease", "stream"],
    ["balancer"],
    ["cli"],
]

# A toolkit for backend plugins, beside the layers: the core itself never imports it.
TOOLKIT = {
    "http",
    "testing",
}

FILE_LINES = 400
FUNCTION_LINES = 60
ALGORITHM_LINES = 250


def python_files() -> Iterator[Path]:
    for folder in SHIPPED:
        yield from sorted(folder.rglob("*.py"))


def imports_at_run_time(path: Path) -> set[str]:
    """Return imported module names, those for type checking only left out."""
    tree = ast.parse(path.read_text())
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped |= {id(inner) for each in node.body for inner in ast.walk(each)}
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def core_part(name: str) -> str:
    return name.removeprefix("plb_core.").split(".")[0]


@pytest.mark.parametrize(
    "path", sorted(CORE.rglob("*.py")), ids=lambda p: str(p.relative_to(CORE))
)
def test_core_imports_point_one_way(path: Path) -> None:
    order = {name: level for level, names in enumerate(LAYERS) for name in names}
    own = path.relative_to(CORE).parts[0].removesuffix(".py")
    if own in TOOLKIT or own == "__init__":
        return
    assert own in order, f"{own} has no place in LAYERS"
    for name in imports_at_run_time(path):
        if name.startswith("plb_core.") and core_part(name) in order:
            assert order[core_part(name)] <= order[own], f"{own} imports {name}"
        assert core_part(name) not in TOOLKIT or not name.startswith("plb_core."), (
            f"{own} imports the toolkit module {name}"
        )


@pytest.mark.parametrize(
    "path", [*(ROOT / "plugins").glob("plb_*"), *SHIPPED[1].glob("*.py")], ids=str
)
def test_plugins_import_the_core_and_never_one_another(path: Path) -> None:
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    own = {path.name} if path.is_dir() else {"plb_contrib_algorithms"}
    for file in files:
        for name in imports_at_run_time(file):
            top = name.split(".")[0]
            if top.startswith("plb_") or top == "lightrag_integration":
                assert top in own | {"plb_core"}, f"{file} imports {name}"


def test_algorithms_do_not_import_one_another() -> None:
    registered = {
        path.stem
        for path in SHIPPED[1].glob("*.py")
        if "plb_register_algorithm" in path.read_text()
    }
    for stem in registered:
        for name in imports_at_run_time(SHIPPED[1] / f"{stem}.py"):
            assert name.removeprefix("plb_contrib_algorithms.") not in registered - {
                stem
            }


def test_importing_the_core_imports_no_plugin_and_no_http_library() -> None:
    import subprocess

    code = (
        "import sys, plb_core; bad = [m for m in sys.modules if m.split('.')[0] in"
        " ('aiohttp', 'rich') or m.startswith(('plb_contrib', 'plb_backend',"
        " 'plb_gateway'))]; sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "path", list(python_files()), ids=lambda p: str(p.relative_to(ROOT))
)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    lines = text.count("\n")
    assert lines <= FILE_LINES, f"{lines} lines: is it one idea?"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno
            assert length <= FUNCTION_LINES, f"{node.name} has {length} lines"


def test_algorithm_modules_stay_readable() -> None:
    for path in SHIPPED[1].glob("*.py"):
        if "plb_register_algorithm" in path.read_text():
            assert path.read_text().count("\n") <= ALGORITHM_LINES, path.name


@pytest.mark.parametrize(
    "path", list(python_files()), ids=lambda p: str(p.relative_to(ROOT))
)
def test_nothing_dangerous_is_called(path: Path) -> None:
    forbidden = {"eval", "exec", "__import__", "compile"}
    modules = {"pickle", "marshal", "shelve", "yaml"}
    # `custom` compiles an expression tree that it has checked node by node.
    allowed = {"expression.py": {"compile"}}.get(path.name, set())
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in forbidden - allowed, f"line {node.lineno}"
    assert not {name.split(".")[0] for name in imports_at_run_time(path)} & modules


@pytest.mark.parametrize(
    "path", list(python_files()), ids=lambda p: str(p.relative_to(ROOT))
)
def test_time_and_chance_come_from_outside(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            dotted = f"{node.value.id}.{node.attr}"
            assert dotted not in {
                "random.random",
                "random.choice",
                "random.uniform",
                "random.randint",
                "random.shuffle",
            }, f"line {node.lineno}: use the context's rng"
