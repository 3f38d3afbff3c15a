"""A small OpenAI-compatible model server for the real lightrag-server to talk to.

Embeddings are hashed words, so texts that share words are close. Chat recognises
LightRAG's prompts by phrases that are part of their form and answers each from the
text in the prompt alone; a prompt it does not recognise is kept in `unrecognised`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Literal, Self

DIMENSIONS = 192
UNKNOWN = "I do not have enough information to answer."
Failure = Literal["", "chat", "embeddings", "stream"]

_FILLER = frozenset(
    [
        "and",
        "are",
        "does",
        "for",
        "from",
        "how",
        "its",
        "that",
        "the",
        "this",
        "what",
        "when",
        "where",
        "which",
        "why",
        "with",
        "you",
    ]
)


def words(text: str) -> list[str]:
    """Return the telling words, lower case, without a plural s."""
    found = re.findall(r"[a-z0-9]{3,}", text.lower())
    return [word.removesuffix("s") for word in found if word not in _FILLER]


def embed(text: str) -> list[float]:
    """Return a unit vector: each word adds to three hashed places."""
    vector = [0.0] * DIMENSIONS
    for word, count in Counter(words(text)).items():
        digest = hashlib.sha256(word.encode()).digest()
        for place, sign in zip(digest[0:6:2], digest[1:6:2], strict=True):
            vector[place % DIMENSIONS] += math.copysign(count**0.5, sign - 127.5)
    length = math.hypot(*vector) or 1.0
    return [value / length for value in vector]


def sentences(text: str) -> list[str]:
    """Return the sentences of an English text."""
    return [part for part in re.split(r"(?<=[.!?])\s+", text.strip()) if part]


def extraction(text: str) -> str:
    """Return LightRAG's rows: long words are entities, neighbours are related."""
    entities: dict[str, str] = {}
    relations: dict[tuple[str, str], str] = {}
    for sentence in sentences(text):
        names = [name.title() for name in re.findall(r"[A-Za-z]{7,}", sentence)][:4]
        for name in names:
            entities.setdefault(name, sentence)
        for pair in pairwise(names):
            if pair[0] != pair[1]:
                relations.setdefault(pair, sentence)
    rows = [("entity", name, "Concept", about) for name, about in entities.items()]
    rows += [("relation", *pair, "context", why) for pair, why in relations.items()]  # type: ignore[misc]  # rows of two lengths
    return "\n".join(["<|#|>".join(row) for row in rows] + ["<|COMPLETE|>"])


def keywords(question: str) -> str:
    """Return the two lists of keywords LightRAG asks for."""
    found = list(dict.fromkeys(words(question)))
    return json.dumps({"high_level_keywords": found, "low_level_keywords": found})


def answer(context: str, question: str) -> str:
    """Return the sentences of the context closest to the question, cited."""
    wanted = set(words(question))
    titles = dict(re.findall(r"^\[(\d+)\] (.+)$", context, re.MULTILINE))
    found: list[tuple[int, str, str]] = []
    for line in context.splitlines():
        if line.startswith("{") and '"reference_id"' in line:
            chunk = json.loads(line)
            for sentence in sentences(chunk.get("content", "")):
                shared = len(wanted.intersection(words(sentence)))
                found.append((shared, sentence, chunk["reference_id"]))
    best = [each for each in sorted(found, key=lambda each: -each[0])[:3] if each[0]]
    if not best:
        return UNKNOWN
    text = " ".join(f"{sentence} [{number}]" for _, sentence, number in best)
    cited = [f"- [{n}] {titles[n]}" for n in dict.fromkeys(n for *_, n in best)]
    return "\n".join([text, "", "### References", "", *cited])


class OpenAIStub:
    """The server; `failure` says what fails from now on.

    Runs in a thread of its own, because the server under test is another process.
    """

    def __init__(self) -> None:
        self.failure: Failure = ""
        self.unrecognised: list[str] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def reply(self, messages: list[dict[str, str]]) -> str:
        """Return what the model says to these messages."""
        system = "\n".join(m["content"] for m in messages if m["role"] == "system")
        asked = messages[-1]["content"]
        whole = f"{system}\n{asked}"
        if "expert keyword extractor" in whole:
            found = re.search(r"User Query: (.*?)\n+---Output---", whole, re.DOTALL)
            return keywords(found.group(1) if found else "")
        if "---Input Text---" in asked:
            fenced = asked.rpartition("---Input Text---")[2].split("```")
            return extraction(fenced[1])
        if "---Context---" in system:
            return answer(system.rpartition("---Context---")[2], asked)
        if "Description List" in whole:
            return " ".join(re.findall(r'"Description": "(.*?)"', whole))[:500]
        self.unrecognised.append(whole[:200])
        return UNKNOWN


def _handler(stub: OpenAIStub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body are two writes; Nagle's algorithm would add some 40 ms a call.
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Say nothing."""

        def do_POST(self) -> None:
            size = int(self.headers["content-length"])
            body = json.loads(self.rfile.read(size))
            if self.path == "/v1/embeddings" and stub.failure != "embeddings":
                self.send_json(200, _embeddings(body))
            elif self.path == "/v1/chat/completions" and stub.failure != "chat":
                self.send_chat(body)
            else:
                self.send_json(
                    503, {"error": {"message": "out", "type": "server_error"}}
                )

        def send_chat(self, body: Mapping[str, object]) -> None:
            text = stub.reply(body["messages"])  # type: ignore[arg-type]  # trusted peer
            if not body.get("stream"):
                self.send_json(200, _completion({"message": _message(text)}))
                return
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for i, piece in enumerate(_pieces(text)):
                if stub.failure == "stream" and i == 3:
                    self.close_connection = True  # without the last chunk: a cut
                    return
                data = f"data: {piece}\n\n".encode()
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.write(b"0\r\n\r\n")

        def send_json(self, status: int, value: object) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


def _embeddings(body: Mapping[str, object]) -> object:
    inputs = body["input"]
    texts = inputs if isinstance(inputs, list) else [str(inputs)]
    data: list[object] = []
    for index, text in enumerate(texts):
        vector: object = embed(str(text))
        if body.get("encoding_format") == "base64":
            packed = struct.pack(f"<{DIMENSIONS}f", *embed(str(text)))
            vector = base64.b64encode(packed).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return {"object": "list", "model": "stub", "data": data, "usage": usage}


def _completion(choice: Mapping[str, object], form: str = "") -> dict[str, object]:
    return {
        "id": "chatcmpl-stub",
        "object": f"chat.completion{form}",
        "created": 0,
        "model": "stub",
        "choices": [{"index": 0, "finish_reason": None if form else "stop", **choice}],
        "usage": None
        if form
        else {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


def _message(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _pieces(text: str) -> Iterator[str]:
    for word in re.findall(r"\S+\s*", text):
        yield json.dumps(_completion({"delta": _message(word)}, ".chunk"))
    last = _completion({"delta": {}, "finish_reason": "stop"}, ".chunk")
    yield json.dumps(last)
    yield "[DONE]"
