"""Finds everything that is wrong with a decoded body, in the service's own words.

msgspec stops at the first error, and its messages repeat what the client sent. This walk is made only once msgspec has
refused a body.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

from msgspec import inspect

from ..domain.limits import MAX_INT64, MIN_INT64
from .request_errors import Fault

TOO_LARGE = "holds a number beyond the range of a double"
_MAX_FAULTS = 50


def find_faults(value: Any, kind: type) -> list[Fault]:
    """Return what keeps the value from being of the kind, the first 50 of it; empty when nothing does.

    Infinity in the value stands for a number beyond the range of a double.
    """
    return list(islice(_faults(value, _inspected(kind), ""), _MAX_FAULTS))


@lru_cache(maxsize=64)
def _inspected(kind: type) -> inspect.Type:
    return inspect.type_info(kind)


def _faults(value: Any, kind: inspect.Type, pointer: str) -> Iterator[Fault]:
    match kind:
        case inspect.Metadata():
            yield from _faults(value, kind.type, pointer)
        case inspect.UnionType():
            yield from _union_faults(value, kind, pointer)
        case inspect.AnyType():
            if _holds_infinity(value):
                yield Fault(pointer, TOO_LARGE)
        case _ if not _has_shape(value, kind):
            yield Fault(pointer, f"must be {_describe(kind)}")
        case inspect.StructType():
            yield from _struct_faults(value, kind, pointer)
        case inspect.ListType() | inspect.FrozenSetType():
            for index, item in enumerate(value):
                yield from _faults(item, kind.item_type, f"{pointer}/{index}")


def _union_faults(value: Any, kind: inspect.UnionType, pointer: str) -> Iterator[Fault]:
    for alternative in kind.types:
        if _has_shape(value, alternative):
            yield from _faults(value, alternative, pointer)
            return
    yield Fault(pointer, "must be " + " or ".join(_describe(alternative) for alternative in kind.types))


def _struct_faults(value: dict[str, Any], kind: inspect.StructType, pointer: str) -> Iterator[Fault]:
    fields = {field.encode_name: field for field in kind.fields}
    if not value.keys() <= fields.keys() | {kind.tag_field}:
        yield Fault(pointer, f"has an unknown member; known are {', '.join(fields)}")
    for name, field in fields.items():
        if name in value:
            yield from _faults(value[name], field.type, f"{pointer}/{name}")
        elif field.required:
            yield Fault(pointer, f"lacks the member {name}")


def _has_shape(value: Any, kind: inspect.Type) -> bool:
    """Return whether the value is of the kind, what is inside it aside."""
    match kind:
        case inspect.Metadata():
            return _has_shape(value, kind.type)
        case inspect.IntType():
            return type(value) is int and _is_within(value, kind)
        case inspect.FloatType():
            return type(value) in {int, float} and math.isfinite(value)
        case inspect.StrType():
            return type(value) is str and (kind.min_length or 0) <= len(value) <= (kind.max_length or len(value))
        case inspect.BoolType():
            return type(value) is bool
        case inspect.NoneType():
            return value is None
        case inspect.EnumType():
            return type(value) is str and value in [member.value for member in kind.cls]
        case inspect.LiteralType():
            return type(value) is str and value in kind.values
        case inspect.ListType() | inspect.FrozenSetType():
            return type(value) is list and len(value) >= (kind.min_length or 0)
        case inspect.StructType():
            return type(value) is dict
        case _:
            return True


def _describe(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata():
            return _describe(kind.type)
        case inspect.IntType():
            return _describe_integer(kind)
        case inspect.FloatType():
            return "a number"
        case inspect.StrType():
            return (
                "a string"
                if kind.max_length is None
                else f"a string of {kind.min_length or 0} to {kind.max_length} characters"
            )
        case inspect.BoolType():
            return "true or false"
        case inspect.NoneType():
            return "null"
        case inspect.EnumType():
            return "one of " + ", ".join(str(member.value) for member in kind.cls)
        case inspect.LiteralType():
            return " or ".join(str(member) for member in kind.values)
        case inspect.ListType() | inspect.FrozenSetType():
            return "a list" if not kind.min_length else "a list that is not empty"
        case inspect.StructType():
            return "an object"
        case _:
            return "a JSON value"


def _is_within(value: int, kind: inspect.IntType) -> bool:
    return (kind.ge is None or kind.ge <= value) and (kind.le is None or value <= kind.le)


def _describe_integer(kind: inspect.IntType) -> str:
    if kind.le is not None and kind.le < MAX_INT64:
        return f"an integer from {kind.ge or 0} to {kind.le}"
    size = "an integer" if kind.le is None else "an integer of 64 bits"
    return size if kind.ge is None or kind.ge == MIN_INT64 else f"{size}, at least {kind.ge}"


def _holds_infinity(value: Any) -> bool:
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if type(node) is float and math.isinf(node):
            return True
        if type(node) is list:
            waiting.extend(node)
        elif type(node) is dict:
            waiting.extend(node.values())
    return False
