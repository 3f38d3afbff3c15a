from __future__ import annotations

from typing import ClassVar

from plb_backend_perplexity import plb_register_backend, search_api
from plb_backend_perplexity.settings import PerplexitySettings, SearchApiSettings
from plb_core.testing.contracts.backend import CANARY, BackendContract
from plb_core.testing.emulators import (
    Emulator,
    Fault,
    OpenAIEmulator,
    PerplexityEmulator,
)

LIMIT_BYTES = 1024 * 1024


class TestAgent(BackendContract):
    provider = plb_register_backend()
    variables: ClassVar = {"PERPLEXITY_API_KEY": CANARY}
    no_answer = Fault.status(
        400, body={"error": {"message": "input cannot be empty", "code": 400}}
    )
    effort = "fast"

    def emulator(self) -> Emulator:
        return PerplexityEmulator(api_key=CANARY)

    def settings(self, url: str) -> object:
        return PerplexitySettings(
            base_url=url,
            allow_private=True,
            max_answer_bytes=LIMIT_BYTES,
            max_stream_bytes=LIMIT_BYTES,
            effort=self.effort,
            poll_interval_s=0.01,
        )


class TestBackgroundRuns(TestAgent):
    effort = "medium"


class TestChatRelay(TestAgent):
    def emulator(self) -> Emulator:
        return OpenAIEmulator(api_key=CANARY)

    def settings(self, url: str) -> object:
        return PerplexitySettings(
            base_url=f"{url}/v1",
            allow_private=True,
            max_answer_bytes=LIMIT_BYTES,
            max_stream_bytes=LIMIT_BYTES,
            api="chat",
            model="gpt-6-mini",
        )


class TestSearchApi(TestAgent):
    provider = search_api.plb_register_backend()
    no_answer = Fault.status(200, body={"results": []})

    def settings(self, url: str) -> object:
        return SearchApiSettings(
            base_url=url,
            allow_private=True,
            max_answer_bytes=LIMIT_BYTES,
            max_stream_bytes=LIMIT_BYTES,
        )
