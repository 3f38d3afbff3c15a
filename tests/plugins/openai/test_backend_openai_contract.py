from __future__ import annotations

from typing import ClassVar

import plb_backend_openai
from plb_backend_openai.settings import OpenAISettings
from plb_core.settings import EnvVar
from plb_core.testing.contracts.backend import CANARY, BackendContract
from plb_core.testing.emulators import Emulator, Fault, OpenAIEmulator


class TestOpenAI(BackendContract):
    provider = plb_backend_openai.plb_register_backend()
    variables: ClassVar = {"OPENAI_TEST_KEY": CANARY}
    no_answer = Fault.behind_200("content_filter")

    def emulator(self) -> Emulator:
        return OpenAIEmulator(api_key=CANARY)

    def settings(self, url: str) -> OpenAISettings:
        return OpenAISettings(
            base_url=f"{url}/v1",
            allow_private=True,
            api_key_env=EnvVar("OPENAI_TEST_KEY"),
            model="gpt-6-mini",
            max_answer_bytes=1024 * 1024,
            max_stream_bytes=1024 * 1024,
        )
