from __future__ import annotations

import json
from contextlib import suppress
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plb_core.strict_json import MAX_DEPTH, StrictJsonError, dumps, loads

REFUSED = [
    (b"", "invalid_json"),
    (b" ", "invalid_json"),
    (b"{", "invalid_json"),
    (b"[1,]", "invalid_json"),
    (b"{'a':1}", "invalid_json"),
    (b"[01]", "invalid_json"),
    (b"[1] [2]", "invalid_json"),
    (b'"a\nb"', "invalid_json"),
    (b'"\\x"', "invalid_json"),
    (b"nan", "invalid_json"),
    (b"NaN", "not_finite"),
    (b"[Infinity]", "not_finite"),
    (b'{"a":-Infinity}', "not_finite"),
    (b"1e400", "number_too_large"),
    (b"-1e999", "number_too_large"),
    (b"9" * 400 + b".0", "number_too_large"),
    (b"9" * 21, "number_too_large"),
    (b"9" * 5000, "number_too_large"),
    (b'{"a":1,"a":1}', "duplicate_key"),
    (b'{"a":1,"\\u0061":2}', "duplicate_key"),
    (b'[{"x":{"b":1,"b":2}}]', "duplicate_key"),
    (b"[" * 65 + b"]" * 65, "too_deep"),
    (b'{"a":' * 65 + b"1" + b"}" * 65, "too_deep"),
    (b"[" * 100_000, "too_deep"),
    (b"[" * 100_000 + b"]" * 100_000, "too_deep"),
    (b'"\xff"', "invalid_utf8"),
    (b'"\xed\xa0\x80"', "invalid_utf8"),
    (b'"\xc0\xaf"', "invalid_utf8"),
    ("[1]".encode("utf-16"), "invalid_utf8"),
    (b"\xef\xbb\xbf[1]", "byte_order_mark"),
    (b'"\\ud800"', "lone_surrogate"),
    (b'"\\uDC00x"', "lone_surrogate"),
    (b'{"\\udfff":1}', "lone_surrogate"),
    (b'"\\ud83d\\ud83d"', "lone_surrogate"),
]


@pytest.mark.parametrize(("data", "code"), REFUSED, ids=lambda value: repr(value)[:24])
def test_refuses(data: bytes, code: str) -> None:
    with pytest.raises(StrictJsonError) as caught:
        loads(data)
    assert caught.value.code == code
    assert caught.value.message == str(caught.value)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"null", None),
        (b' {"a": [1, -2.5, true]}\n', {"a": [1, -2.5, True]}),
        (b"18446744073709551615", 2**64 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"1e300", 1e300),
        (b"1e-400", 0.0),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\\\ud800"', "\\ud800"),
        ('"é\U0001f600"'.encode(), "é\U0001f600"),
        (b"[" * 64 + b"]" * 64, None),
        (b'{"a":"[[[[", "b":"\\"{{{"}', {"a": "[[[[", "b": '"{{{'}),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_accepts(data: bytes, value: object) -> None:
    read = loads(data)
    if value is not None:
        assert read == value


def test_brackets_in_texts_are_no_nesting() -> None:
    document = {"text": '[{"' * 1000, "list": [[], {}] * 500}
    assert loads(json.dumps(document).encode()) == document


def test_many_siblings_are_no_nesting_and_one_deep_among_them_is() -> None:
    assert loads(json.dumps([[]] * 10_000).encode()) == [[]] * 10_000
    deep: object = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    with pytest.raises(StrictJsonError) as caught:
        loads(json.dumps([[[]] * 100, deep]).encode())
    assert caught.value.code == "too_deep"


def test_the_message_never_quotes_the_document() -> None:
    for data in (b'{"sk-CANARY-1": oops}', b'{"sk-CANARY-1":1,"sk-CANARY-1":2}'):
        with pytest.raises(StrictJsonError) as caught:
            loads(data)
        assert "CANARY" not in repr(caught.value)
        assert caught.value.__cause__ is None


def test_writes_compact_utf8() -> None:
    assert dumps({"a": [1, "é"], "b": None}) == '{"a":[1,"é"],"b":null}'.encode()
    assert dumps(MappingProxyType({"a": (1,)})) == b'{"a":[1]}'


def _deep() -> list[object]:
    inner: list[object] = []
    for _ in range(100_000):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (float("nan"), "not_serialisable"),
        ([float("inf")], "not_serialisable"),
        ({"a": b"x"}, "not_serialisable"),
        ({"a": {1, 2}}, "not_serialisable"),
        ("\ud800", "lone_surrogate"),
        (_deep(), "too_deep"),
    ],
    ids=["nan", "inf", "bytes", "set", "surrogate", "deep"],
)
def test_refuses_to_write(value: object, code: str) -> None:
    with pytest.raises(StrictJsonError) as caught:
        dumps(value)
    assert caught.value.code == code


_texts = st.text(st.characters(codec="utf-8"))
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts,
    lambda inner: st.lists(inner) | st.dictionaries(_texts, inner),
    max_leaves=20,
)


@given(_json)
def test_what_is_written_reads_back_the_same(value: object) -> None:
    assert loads(dumps(value)) == value
    assert loads(json.dumps(value).encode()) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    value: object = None
    with suppress(StrictJsonError):
        value = loads(data)
    assert loads(dumps(value)) == value


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a":1.5,"b":-7,"c":"\\"d\\":1"}', {"a": 1.5, "b": -7, "c": '"d":1'}),
        (b'{"a" : 1 ,\n"b\\":"\t: [2]}', {"a": 1, 'b":': [2]}),
        (b'{"a:b":"c:d","e":{"f:":[":"]}}', {"a:b": "c:d", "e": {"f:": [":"]}}),
    ],
    ids=["quoted member", "spaces", "colons"],
)
def test_texts_that_look_like_members_are_none(data: bytes, value: object) -> None:
    assert loads(data) == value


def test_a_repeated_key_hides_behind_no_spacing_or_text() -> None:
    for data in (
        b'{"a":1,"a" :2}',
        b'{"a":1,"a"\n:2}',
        b'{"a" :1,"a"\t: 2,"b":"\\":"}',
        b'{"t":":::","a":1,"a":2}',
        b'[{"a":[{"k":0,"k" : 0}]}]',
    ):
        with pytest.raises(StrictJsonError) as caught:
            loads(data)
        assert caught.value.code == "duplicate_key"


def test_keys_that_are_no_texts_are_written_as_ever_or_refused() -> None:
    assert dumps({1: "a", None: "b"}) == b'{"1":"a","null":"b"}'
    with pytest.raises(StrictJsonError) as caught:
        dumps({b"a": 1})
    assert caught.value.code == "not_serialisable"
