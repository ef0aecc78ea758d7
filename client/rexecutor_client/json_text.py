"""JSON as the service takes it, from dataclasses, msgspec's structs and pydantic's models as well."""

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import msgspec

from .errors import RexecutorError


class NotJson(RexecutorError, ValueError):
    """A value cannot be sent: JSON has no text for it, or the service does not take it. Nothing was sent."""


def encode(value: Any) -> bytes:
    """Return JSON text in UTF-8. Raises NotJson."""
    try:
        text = _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise NotJson(f"cannot be sent as JSON: {error}") from error
    # Infinity and NaN would go out as null. The search for them is slow, and without a null there is none.
    if b"null" in text and _has_no_number(value):
        raise NotJson("cannot be sent as JSON: Infinity and NaN are no numbers there")
    return text


def _known(value: Any) -> Any:
    """Return what stands for a value that msgspec does not know: pydantic's models tell it themselves.

    Times of derived classes, as pandas and pendulum have them, it takes for strangers too.
    """
    if isinstance(value, datetime):
        moment = datetime.combine(value.date(), value.time(), value.tzinfo)
        return moment if moment.tzinfo is None else moment.astimezone(UTC)
    if isinstance(value, timedelta):
        return timedelta(seconds=value.total_seconds())
    if isinstance(value, date):
        return date(value.year, value.month, value.day)
    if isinstance(value, time):
        return time(value.hour, value.minute, value.second, value.microsecond, value.tzinfo, fold=value.fold)
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"{type(value).__name__} is neither JSON, a dataclass, a msgspec Struct nor a pydantic model")
    return dump(mode="json", by_alias=True)


def _has_no_number(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(map(_has_no_number, value.values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(map(_has_no_number, value))
    if isinstance(value, msgspec.Struct):
        return any(_has_no_number(getattr(value, name)) for name in value.__struct_fields__)
    if hasattr(value, "__dataclass_fields__"):
        return any(_has_no_number(getattr(value, name)) for name in value.__dataclass_fields__)
    if hasattr(value, "model_dump"):
        return _has_no_number(value.model_dump())
    return False


_encoder = msgspec.json.Encoder(enc_hook=_known)
