"""Type-checked, never run: an application that embeds plb."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import assert_type

from plb_core import (
    Answer,
    BackendError,
    BackendInfo,
    Chunk,
    ConfigError,
    NoAnswer,
    NoBackendAvailable,
    Problem,
    Query,
    Source,
)
from plb_core.balancer import Balancer
from plb_core.config import Config, read_file, read_text
from plb_core.errors import Overloaded, UnknownRequest
from plb_core.lease import Lease
from plb_core.protocols import Backend
from plb_core.replies import EmbeddingsReply, Reply
from plb_core.stream import ReplyStream


async def ask(path: Path) -> str:
    async with Balancer.from_file(path, seed=1) as balancer:
        assert_type(balancer, Balancer)
        reply = await balancer.ask("What is glycolysis?")
        assert_type(reply, Reply)
        assert_type(reply.sources, tuple[Source, ...])
        assert_type(reply.cost_micro_usd, int | None)
        assert_type(reply.quality, Mapping[str, float] | None)
        await balancer.ask(
            Query("q", model="fast", needs=frozenset({"tools"}), deadline_s=2)
        )
        assert_type(balancer.explain(reply.request_id), dict[str, object])
        balancer.rate(reply.request_id, {"content": 1})
        await balancer.apply(read_file("other.toml"))
        assert_type(balancer.ready(), bool)
        return reply.text


async def stream(balancer: Balancer) -> None:
    async with balancer.stream("q") as chunks:
        assert_type(chunks, ReplyStream)
        async for chunk in chunks:
            assert_type(chunk, Chunk)
            assert_type(chunk.answer, Answer | None)
    assert_type(chunks.reply, Reply | None)


async def embed(balancer: Balancer) -> tuple[tuple[float, ...], ...]:
    reply = await balancer.embed(Query(""), ["one", "two"])
    assert_type(reply, EmbeddingsReply)
    return reply.embeddings.vectors


def lease(balancer: Balancer) -> None:
    with balancer.lease("q") as held:
        assert_type(held, Lease)
        assert_type(held.info, BackendInfo)
        assert_type(held.backend, Backend)
        assert_type(held.answer(Answer("text"), ttft_s=0.2), Reply)


async def failures(balancer: Balancer) -> float | None:
    try:
        await balancer.ask("q")
    except (NoBackendAvailable, Overloaded) as error:
        return error.retry_after_s
    except NoAnswer as error:
        assert_type(error.request_id, str)
    except BackendError as error:
        assert_type(error.backend, str)
    except UnknownRequest:
        raise
    return None


def problems(toml: str) -> tuple[Problem, ...]:
    config = read_text(toml, file="in memory")
    assert_type(config, Config)
    try:
        Balancer(config, plugins=[object()])
    except ConfigError as error:
        return error.problems
    return ()


def mistakes(balancer: Balancer) -> None:
    balancer.rate("req_1", {"content": "good"})  # type: ignore[dict-item]
    balancer.lease(5)  # type: ignore[arg-type]
    Query("q", needs={"tools"})  # type: ignore[arg-type]
    Query("q").text = "other"  # type: ignore[misc]
    Answer("x", finish_reason="bored")  # type: ignore[arg-type]
