"""Installing, starting and filling a real lightrag-server for tests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.slow.openai_stub import DIMENSIONS

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv-lightrag"
REQUIREMENT = "lightrag-hku[api]==1.5.7"
TOKENIZER = "fb374d419588a4632f3f557e76b4b70aebbca790"
READY_WITHIN_S = 60.0
INDEXED_WITHIN_S = 60.0


def tokenizer_folder() -> Path:
    """Return the folder with the tokenizer's vocabulary, or skip."""
    data = Path(os.environ.get("PLB_DATA", ROOT.parent / "shared" / "data"))
    folder = (data / "tiktoken_cache").resolve()
    if not (folder / TOKENIZER).is_file():
        pytest.skip(
            f"no tokenizer file at {folder / TOKENIZER}: it is tiktoken's o200k_base,"
            " which `.venv-lightrag/bin/lightrag-download-cache --cache-dir FOLDER`"
            " fetches; name its parent's parent in PLB_DATA"
        )
    return folder


def installed() -> Path:
    """Return the server's program, installing it when there is none."""
    program = VENV / "bin" / "lightrag-server"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        pip = str(VENV / "bin" / "pip")
        command = [pip, "install", "-q", "--disable-pip-version-check", REQUIREMENT]
        subprocess.run(command, check=True)
    return program


@contextmanager
def running(
    folder: Path, model_url: str, settings: Mapping[str, str]
) -> Iterator[LightRAGProcess]:
    """Run a server with an own store in `folder` until the block ends."""
    tokenizer = tokenizer_folder()
    program = installed()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / ".env").touch()  # the server asks for one in its folder
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "NO_PROXY": "*",
        "TIKTOKEN_CACHE_DIR": str(tokenizer),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "WORKING_DIR": str(folder / "store"),
        "INPUT_DIR": str(folder / "inputs"),
        "LOG_DIR": str(folder),
        "LLM_BINDING": "openai",
        "LLM_BINDING_HOST": model_url,
        "LLM_BINDING_API_KEY": "unused",
        "LLM_MODEL": "stub",
        "EMBEDDING_BINDING": "openai",
        "EMBEDDING_BINDING_HOST": model_url,
        "EMBEDDING_BINDING_API_KEY": "unused",
        "EMBEDDING_MODEL": "stub",
        "EMBEDDING_DIM": str(DIMENSIONS),
        "MAX_GLEANING": "0",
        "COSINE_THRESHOLD": "0.1",
        **settings,
    }
    with (folder / "output.log").open("wb") as log:
        process = subprocess.Popen(
            [program],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        server = LightRAGProcess(f"http://127.0.0.1:{port}", settings, process, folder)
        try:
            server.wait_until_ready()
            yield server
        finally:
            process.terminate()
            process.wait(timeout=20)


class LightRAGProcess:
    """A running server and what a test needs from it besides the plugin."""

    def __init__(
        self,
        url: str,
        settings: Mapping[str, str],
        process: subprocess.Popen[bytes],
        folder: Path,
    ) -> None:
        assert url.startswith("http://127.0.0.1:")
        self.url = url
        self._headers = {"X-API-Key": settings.get("LIGHTRAG_API_KEY", "none")}
        self._process = process
        self._folder = folder

    def wait_until_ready(self) -> None:
        """Return once the health page answers; fail with the log when it never does."""
        end_s = time.monotonic() + READY_WITHIN_S
        while self._process.poll() is None and time.monotonic() < end_s:
            try:
                self._call("/health")
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
            else:
                return
        log = (self._folder / "output.log").read_text(errors="replace")
        pytest.fail(f"lightrag-server did not start:\n{log[-3000:]}")

    def index(self, documents: Mapping[str, str]) -> None:
        """Put documents (path → text) into the store and wait until they are in."""
        body = {"texts": [*documents.values()], "file_sources": [*documents]}
        track = self._call("/documents/texts", body)["track_id"]
        end_s = time.monotonic() + INDEXED_WITHIN_S
        states: list[str] = []
        while time.monotonic() < end_s and states != ["processed"] * len(documents):
            time.sleep(0.1)
            found = self._call(f"/documents/track_status/{track}")["documents"]
            states = [each["status"] for each in found]
            assert "failed" not in states, found
        assert states == ["processed"] * len(documents), states

    def _call(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path,
            data,
            {**self._headers, "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.load(reply)
