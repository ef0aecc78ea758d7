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
    validate = getattr(kind, "model_validate", None)
    try:
        return msgspec.convert(value, kind) if validate is None else validate(value)
    except (ValueError, TypeError) as error:
        name = getattr(kind, "__name__", str(kind))
        raise Undecodable(f"is no {name}: {error}") from error
