"""The connection tests again on uvloop, whose transports differ from asyncio's."""

from __future__ import annotations

import asyncio

import pytest

from tests.gateway.test_disconnects import (
    test_a_client_that_does_not_read_is_closed,
    test_a_cut_stream_lacks_the_end_mark,
    test_a_slow_reader_that_keeps_reading_gets_everything,
    test_leaving_midstream_cancels_the_backend,
    test_leaving_while_waiting_cancels_the_backend,
)

uvloop = pytest.importorskip("uvloop")

__all__ = [
    "test_a_client_that_does_not_read_is_closed",
    "test_a_cut_stream_lacks_the_end_mark",
    "test_a_slow_reader_that_keeps_reading_gets_everything",
    "test_leaving_midstream_cancels_the_backend",
    "test_leaving_while_waiting_cancels_the_backend",
]


@pytest.mark.asyncio
async def test_runs_on_uvloop() -> None:
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
