"""Requests written and answers read by hand, byte for byte."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.gateway.gateway_setup import Served

BODY = b'{"messages":[{"role":"user","content":"Cell?"}]}'
HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\n"
CLOSE = b"Connection: close\r\n"
SENT = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


def post(
    body: bytes = BODY,
    *,
    start: bytes = CHAT,
    host: bytes = HOST,
    kind: bytes = JSON,
    more: bytes = CLOSE,
) -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return start + host + kind + length + more + b"\r\n" + body


def parsed(answer: bytes) -> tuple[int, dict[str, str], Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return int(status.split(" ")[1]), headers, json.loads(body)


QUESTION = {"role": "user", "content": "Cell?"}


def chat(**more: object) -> dict[str, object]:
    return {"messages": [QUESTION], **more}


async def send(
    served: Served, body: object, path: str = "/v1/chat/completions"
) -> tuple[int, Any]:
    data = json.dumps(body, ensure_ascii=False).encode()
    start = f"POST {path} HTTP/1.1\r\n".encode()
    status, _, answer = parsed(await served.raw(post(data, start=start)))
    return status, answer


async def refusal(
    served: Served, body: object, path: str = "/v1/chat/completions"
) -> tuple[str, str | None]:
    status, answer = await send(served, body, path)
    assert status == 400, answer
    assert not served.one.queries
    return answer["error"]["code"], answer["error"]["param"]


async def get(served: Served, path: str) -> tuple[int, dict[str, str], Any]:
    data = f"GET {path} HTTP/1.1\r\n".encode() + HOST + CLOSE + b"\r\n"
    return parsed(await served.raw(data))
