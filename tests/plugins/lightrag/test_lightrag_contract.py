from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import plb_backend_lightrag
from plb_backend_lightrag import LightRAGSettings
from plb_core.settings import EnvVar
from plb_core.testing.contracts.backend import CANARY, BackendContract
from plb_core.testing.emulators import Fault, LightRAGEmulator

MIB = 1024 * 1024


class TestWithAKey(BackendContract):
    provider = plb_backend_lightrag.plb_register_backend()
    variables: ClassVar[Mapping[str, str]] = {"TEST_LIGHTRAG_KEY": CANARY}
    no_answer = Fault.behind_200("empty_store", bills=False)

    def emulator(self) -> LightRAGEmulator:
        return LightRAGEmulator(api_key=CANARY)

    def settings(self, url: str) -> LightRAGSettings:
        return LightRAGSettings(
            base_url=url,
            api_key_env=EnvVar("TEST_LIGHTRAG_KEY"),
            max_answer_bytes=2 * MIB,
            max_stream_bytes=2 * MIB,
        )


class TestWithALogin(TestWithAKey):
    variables: ClassVar[Mapping[str, str]] = {
        "TEST_LIGHTRAG_USER": "ada",
        "TEST_LIGHTRAG_PASSWORD": CANARY,
    }

    def emulator(self) -> LightRAGEmulator:
        return LightRAGEmulator(accounts={"ada": CANARY})

    def settings(self, url: str) -> LightRAGSettings:
        return LightRAGSettings(
            base_url=url,
            username_env=EnvVar("TEST_LIGHTRAG_USER"),
            password_env=EnvVar("TEST_LIGHTRAG_PASSWORD"),
            max_answer_bytes=2 * MIB,
            max_stream_bytes=2 * MIB,
        )
