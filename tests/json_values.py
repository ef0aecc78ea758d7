"""JSON equality as the contract means it, written down independently of the service."""

from typing import Any


def equal_by_value(one: Any, other: Any) -> bool:
    """Key order ignored, numbers compared by value, booleans no numbers."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal_by_value(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal_by_value, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return type(one) in {int, float, str, type(None)} and one == other
