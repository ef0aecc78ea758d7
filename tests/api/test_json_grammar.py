"""The grammar says of every text what the decoder says, and goes where the decoder gives up."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.json_grammar import is_json_text, without_excess

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
broken = st.lists(
    st.sampled_from(
        [
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            '"a"',
            '"\\u0041"',
            '"\\ud800"',
            '"\\ud83d\\ude00"',
            "1",
            "-",
            ".5",
            "1.5e3",
            "true",
            "nul",
            " ",
            "\n",
            '"',
            "\\",
        ]
    ),
    max_size=9,
).map("".join)


@given(values, st.booleans())
def test_what_is_json_is_recognised(value: object, ascii_only: bool) -> None:
    try:
        body = json.dumps(value, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return
    assert is_json_text(body) == _decodes(body)


@given(broken)
def test_broken_text_is_told_from_json_as_the_decoder_does(text: str) -> None:
    assert is_json_text(text.encode()) == _decodes(text.encode())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"[" * 100_000 + b"]" * 100_000, True),
        (b"[" * 100_000 + b"]" * 99_999, False),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, True),
        (b'{"a":' * 100_000 + b"1" + b"]" * 100_000, False),
        (b"[" * 5_000 + b"NaN" + b"]" * 5_000, False),
        (b"[" * 5_000 + b'"\xff"' + b"]" * 5_000, False),
    ],
)
def test_depth_is_no_matter(body: bytes, expected: bool) -> None:
    assert is_json_text(body) is expected


def _decodes(body: bytes) -> bool:
    try:
        msgspec.json.Decoder(float_hook=float).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


@given(values, st.integers(0, 4))
def test_what_is_too_deep_becomes_null(value: object, depth: int) -> None:
    text = json.dumps(value)
    assert json.loads(without_excess(text, max_depth=depth)) == _cut(json.loads(text), depth)


def _cut(value: object, depth: int) -> object:
    if isinstance(value, list):
        return [_cut(each, depth - 1) for each in value] if depth else None
    if isinstance(value, dict):
        return {name: _cut(each, depth - 1) for name, each in value.items()} if depth else None
    return value
