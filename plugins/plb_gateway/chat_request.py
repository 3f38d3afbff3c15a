"""Read the body of a chat completion into a `Query`."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from plb_core.types import NOTHING, Query
from plb_gateway import fields
from plb_gateway.chat_messages import read_messages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plb_gateway.client_hints import Hints

MAX_OUTPUT_TOKENS: Final = 1_000_000
output_tokens = fields.whole(1, MAX_OUTPUT_TOKENS)
temperature = fields.number(0, 2)
top_p = fields.number(0, 1)
penalty = fields.number(-2, 2)


def stop(value: object, param: str) -> object:
    """Accept one stop text or up to sixteen."""
    if isinstance(value, str):
        return value
    texts = fields.listing(value, param)
    if len(texts) > 16 or not all(isinstance(each, str) for each in texts):  # noqa: PLR2004 - no model takes more
        raise fields.wrong(param, "a string or at most 16 strings")
    return texts


def choice_of_tool(value: object, param: str) -> object:
    """Accept a word or an object that names a function."""
    if not isinstance(value, str | dict):
        raise fields.wrong(param, "a string or an object")
    return value


# Sent on to the backend in OpenAI's names.
OPTIONS: Final[Mapping[str, fields.Check]] = MappingProxyType(
    {
        "temperature": temperature,
        "top_p": top_p,
        "presence_penalty": penalty,
        "frequency_penalty": penalty,
        "stop": stop,
        "seed": fields.whole(-(2**63), 2**63 - 1),
        "logit_bias": fields.mapping,
        "tools": fields.objects,
        "tool_choice": choice_of_tool,
        "parallel_tool_calls": fields.flag,
        "response_format": fields.mapping,
        "reasoning_effort": fields.key,
        "verbosity": fields.key,
    }
)

# Read by plb itself.
_OWN: Final = frozenset(
    {
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "stream",
        "stream_options",
        "user",
    }
)

# Change nothing about the answer: accepted whatever they hold.
_HARMLESS: Final = frozenset(
    {
        "metadata",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
    }
)

# Known options that plb does not offer: the value that asks for nothing, and why.
_FIXED: Final[Mapping[str, tuple[object, str]]] = MappingProxyType(
    {
        "n": (1, "plb gives one answer per request."),
        "logprobs": (False, "log probabilities are not offered."),
        "top_logprobs": (0, "log probabilities are not offered."),
        "modalities": (["text"], "answers are text."),
        "audio": (None, "answers are text."),
        "functions": (None, "use tools."),
        "function_call": (None, "use tool_choice."),
        "web_search_options": (None, "name a live backend in model instead."),
    }
)

_KNOWN: Final = _OWN | _HARMLESS | frozenset(OPTIONS) | frozenset(_FIXED)


class ChatRequest(NamedTuple):
    """What a chat completion's body asks for.

    `as_is` is True when nothing may be added to the text, because a program parses it.
    """

    query: Query
    stream: bool
    include_usage: bool
    as_is: bool


def read_chat(body: Mapping[str, object], hints: Hints) -> ChatRequest:
    """Return the checked request; raise `Refusal` naming the first wrong field."""
    options = _read_options(body)
    if "messages" not in body:
        raise fields.missing("messages")
    conversation = read_messages(body["messages"])
    needs: set[str] = options.keys() & {"tools", "response_format"}
    if conversation.has_images:
        needs.add("images")
    model = body.get("model")
    user = body.get("user")
    session = "" if user is None else fields.key(user, "user")
    query = Query(
        conversation.question,
        model="auto" if model is None else fields.model_name(model),
        session=hints.session or session,
        messages=conversation.messages,
        max_output_tokens=_max_output_tokens(body),
        needs=frozenset(needs),
        options=options or NOTHING,
        region=hints.region,
        attributes=hints.attributes,
        deadline_s=hints.deadline_s,
    )
    stream, include_usage = _read_stream(body)
    return ChatRequest(query, stream, include_usage, "response_format" in options)


def _read_options(body: Mapping[str, object]) -> dict[str, object]:
    fields.only_known(body, _KNOWN, "")
    options = {}
    for name, value in body.items():
        if name in _OWN or value is None:
            continue
        check = OPTIONS.get(name)
        if check is not None:
            options[name] = check(value, name)
        elif name in _FIXED:
            neutral, advice = _FIXED[name]
            if value != neutral or type(value) is not type(neutral):
                raise fields.unsupported(name, advice)
    if not options.get("tools"):
        options.pop("tools", None)
    if options.get("response_format") == {"type": "text"}:
        del options["response_format"]
    return options


def _max_output_tokens(body: Mapping[str, object]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is not None:
            return output_tokens(value, name)
    return None


def _read_stream(body: Mapping[str, object]) -> tuple[bool, bool]:
    value = body.get("stream")
    stream = value is not None and fields.flag(value, "stream")
    options = body.get("stream_options")
    if options is None:
        return stream, False
    table = fields.mapping(options, "stream_options")
    known = frozenset({"include_usage", "include_obfuscation"})
    fields.only_known(table, known, "stream_options")
    usage = table.get("include_usage")
    wanted = usage is not None and fields.flag(usage, "stream_options.include_usage")
    return stream, wanted
