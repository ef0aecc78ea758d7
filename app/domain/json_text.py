"""One JSON value as text: kept as it was given, compared by value.

The text keeps the difference between ``1`` and ``1.0``, since a double comes back as one; the canonical text, in which
integral doubles in the range of integers are integers, is what queries compare. The two are nearly always the same.
"""

from typing import Any, NewType

import msgspec
from msgspec import Struct

from .limits import MAX_JSON_DEPTH, MIN_INT64

JsonText = NewType("JsonText", str)
"""One JSON value as compact text with sorted keys."""

_MAX_UINT64 = 2**64 - 1
_encoder = msgspec.json.Encoder(order="sorted")


class UnstorableJson(ValueError):
    """The value is JSON that a database cannot hold; the message says why."""


class JsonDocument(Struct, frozen=True, gc=False):
    """A JSON value on its way into the store."""

    text: JsonText
    canonical: JsonText | None = None
    """The canonical text where it differs from ``text``."""

    @property
    def compared(self) -> JsonText:
        """The canonical text."""
        return self.text if self.canonical is None else self.canonical


NULL = JsonDocument(JsonText("null"))


def json_document(value: Any) -> JsonDocument:
    """Make a document of a decoded JSON value.

    Raises UnstorableJson for U+0000, integers outside 64 bits and more than 64 open brackets.
    """
    if value is None:
        return NULL
    has_double_that_may_equal_an_integer = _check(value)
    text = JsonText(_encoder.encode(value).decode())
    if not has_double_that_may_equal_an_integer:
        return JsonDocument(text)
    return JsonDocument(text, JsonText(_encoder.encode(_with_integers(value)).decode()))


def json_value(text: JsonText) -> Any:
    """Decode what the store gave back."""
    return msgspec.json.decode(text)


def _check(value: Any) -> bool:
    """Walk the value once; return whether some double in it may equal an integer."""
    found = False
    level = [value]
    depth = 0
    while level:
        following: list[Any] = []
        for node in level:
            kind = type(node)
            if kind is str:
                if "\0" in node:
                    raise UnstorableJson("U+0000 cannot be stored")
            elif kind is dict:
                following.extend(node)
                following.extend(node.values())
                if not node:
                    following.append(None)
            elif kind is list:
                following.extend(node)
                if not node:
                    following.append(None)
            elif kind is int:
                if not MIN_INT64 <= node <= _MAX_UINT64:
                    raise UnstorableJson("an integer must lie between -2^63 and 2^64-1")
            elif kind is float and _may_equal_an_integer(node):
                found = True
        if following:
            depth += 1
            if depth > MAX_JSON_DEPTH:
                raise UnstorableJson(f"at most {MAX_JSON_DEPTH} brackets may be open at once")
        level = following
    return found


def _may_equal_an_integer(double: float) -> bool:
    # Beyond this range no integer is stored; and spelt out, 1e300 would take 301 digits.
    return MIN_INT64 <= double <= _MAX_UINT64 and double.is_integer()


def _with_integers(value: Any) -> Any:
    """Return the value with the doubles that may equal an integer as integers."""
    if isinstance(value, dict):
        return {key: _with_integers(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_with_integers(item) for item in value]
    if isinstance(value, float) and _may_equal_an_integer(value):
        return int(value)
    return value
