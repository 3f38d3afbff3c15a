from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVE = [
    sys.executable,
    "-m",
    "plb_core.cli",
    "serve",
    "--set",
    "service.gateway.port=0",
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        SERVE, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


def address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        if found:
            return found[0]
    assert process.stderr is not None
    raise AssertionError(process.stderr.read())


def ask(url: str) -> dict[str, object]:
    request = urllib.request.Request(
        f"{url}/api/query",
        json.dumps({"question": "What are metabolic pathways?"}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        found: dict[str, object] = json.load(response)
        return found


def test_serves_until_terminated(server: subprocess.Popen[str]) -> None:
    url = address(server)
    assert ask(url)["backend"] == "documents"
    server.send_signal(signal.SIGTERM)
    assert server.wait(10) == 0


def test_reads_the_configuration_again_on_sighup(
    tmp_path: Path, server: subprocess.Popen[str]
) -> None:
    url = address(server)
    assert ask(url)["algorithm"] == "least_connections"
    assert server.stderr is not None
    config = '[backend.documents]\n[service.gateway]\n[track.main]\nalgorithm = "{}"\n'
    (tmp_path / "config.toml").write_text(config.format("nope"))
    server.send_signal(signal.SIGHUP)
    for line in server.stderr:
        if "config.toml:4: track.main.algorithm" in line:
            break
    assert ask(url)["algorithm"] == "least_connections"
    (tmp_path / "config.toml").write_text(config.format("round_robin"))
    server.send_signal(signal.SIGHUP)
    for line in server.stderr:
        if "plan_applied" in line:
            break
    assert ask(url)["algorithm"] == "round_robin"


def test_asks_once_and_stops(tmp_path: Path) -> None:
    done = subprocess.run(
        [*SERVE, "--once", "--ask", "What are metabolic pathways?"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Metabolic pathways are" in done.stdout
    assert "serving http://127.0.0.1:" in done.stdout


def test_without_a_service_there_is_nothing_to_serve(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        '[backend.documents]\n[track.main]\nalgorithm = "round_robin"\n'
    )
    done = subprocess.run(
        SERVE[:-2],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2
    assert "nothing to serve" in done.stderr


def test_a_taken_port_is_said_and_ends_with_status_two(
    tmp_path: Path, server: subprocess.Popen[str]
) -> None:
    port = address(server).rpartition(":")[2]
    done = subprocess.run(
        [*SERVE[:-1], f"service.gateway.port={port}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
