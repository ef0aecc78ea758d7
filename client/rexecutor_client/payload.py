"""Data and metadata as an executor wants them: plain JSON, msgspec's structs, dataclasses or pydantic's models."""

from typing import Any

import msgspec

from .errors import RexecutorError


class Undecodable(RexecutorError, ValueError):
    """The data of a job is not what its executor takes."""


def decode(value: Any, kind: Any) -> Any:
    """Return a JSON value as ``kind``; with Any as it is. Raises Undecodable."""
    if kind is Any:
        return value
    try:
        # The keys of JSON objects are texts: those of a dict[int, str] too.
        return msgspec.convert(value, kind, str_keys=True, dec_hook=_other_kind)
    except (ValueError, TypeError) as error:
        name = getattr(kind, "__name__", str(kind))
        raise Undecodable(f"is no {name}: {error}") from error


def _other_kind(kind: Any, value: Any) -> Any:
    """Decode what msgspec does not know: a model of pydantic, also one within a list or a dataclass."""
    validate = getattr(kind, "model_validate", None)
    if validate is None:
        raise TypeError(f"JSON is not decoded to {kind}")
    return validate(value)
