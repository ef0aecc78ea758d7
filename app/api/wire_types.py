"""The kinds of members that bodies share, and how each becomes the domain's word for it.

What a type here cannot say (U+0000, a time's range, a limit that is a setting) its reader checks, and names the member
by its JSON pointer.
"""

import re
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from ..domain.instant import (
    DURATION_PATTERN,
    MAX_INSTANT,
    MIN_INSTANT,
    Instant,
    RunAt,
    parse_delay,
    parse_duration,
    parse_instant,
)
from ..domain.json_text import JsonDocument, UnstorableJson, json_document
from ..domain.limits import MAX_INT64, MAX_LEASE_SECONDS, MAX_UINT16, MIN_INT64, MIN_LEASE_SECONDS, Limits
from .request_errors import invalid

EXECUTOR_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9._:-]{0,254}"
_EXECUTOR = re.compile(EXECUTOR_PATTERN, re.ASCII)

Int64 = Annotated[int, Meta(ge=MIN_INT64, le=MAX_INT64, extra_json_schema={"format": "int64"})]
Fence = Annotated[
    int,
    Meta(
        ge=0,
        le=MAX_INT64,
        description="The fencing token that came with the job: the call acts only while the job is held under it.",
        extra_json_schema={"format": "int64"},
    ),
]
ExecutorName = Annotated[
    str,
    Meta(
        description="Which kind of worker runs the job.",
        extra_json_schema={"pattern": f"^{EXECUTOR_PATTERN}$", "examples": ["send_email"]},
    ),
]
WorkerName = Annotated[
    str, Meta(min_length=1, max_length=128, description="A name for people, kept in `attempted_by`.")
]
Priority = Annotated[int, Meta(ge=0, le=MAX_UINT16, description="0 runs first; compared within one executor.")]
MaxAttempts = Annotated[int, Meta(ge=1, le=MAX_UINT16, description="How often the job may be handed to a worker.")]
Payload = Annotated[
    Any,
    Meta(
        description="Any JSON value, opaque to the service; `data` and `metadata` together are bounded.",
        extra_json_schema={"examples": [{"to": "ada@example.org"}]},
    ),
]
Tags = Annotated[
    list[str],
    Meta(
        description="At most 32 tags of 128 characters.", extra_json_schema={"maxItems": 32, "examples": [["billing"]]}
    ),
]
Time = Annotated[
    str,
    Meta(
        description="RFC 3339 with an offset, in the years 1970 to 2200; more than six digits of a second are cut.",
        extra_json_schema={"format": "date-time", "examples": ["2030-01-01T08:00:00Z"]},
    ),
]
Duration = Annotated[
    int | float | str,
    Meta(
        description="ISO 8601 in weeks, days and smaller, or a number of seconds; 0 to 36,525 days.",
        extra_json_schema={"pattern": f"^{DURATION_PATTERN}$", "minimum": 0, "examples": ["PT2M", 120]},
    ),
]

_NOT_A_TIME = "must be a time in RFC 3339 with an offset, such as 2030-01-01T08:00:00Z"
_NOT_A_DURATION = (
    'must be an ISO 8601 duration in weeks, days and smaller, such as "PT2M", or a number of seconds; 0 to 36525 days'
)


@lru_cache(maxsize=4096)
def is_executor_name(name: str) -> bool:
    """Return whether an executor may have this name."""
    return _EXECUTOR.fullmatch(name) is not None


def read_executor(name: str, pointer: str) -> str:
    """Return the name of an executor."""
    if is_executor_name(name):
        return name
    raise invalid(pointer, "must be 1 to 255 letters, digits and ._:- in ASCII, the first of them a letter, digit or _")


def read_string(text: str, pointer: str) -> str:
    """Return a string that every database can hold."""
    if "\0" in text:
        raise invalid(pointer, "must not contain U+0000")
    return text


def read_tags(tags: list[str], limits: Limits, pointer: str) -> tuple[str, ...]:
    """Return a job's tags."""
    if not tags:
        return ()
    if len(tags) > limits.tags:
        raise invalid(pointer, f"must be at most {limits.tags} tags")
    for index, tag in enumerate(tags):
        if len(tag) > limits.tag_characters:
            raise invalid(f"{pointer}/{index}", f"must be at most {limits.tag_characters} characters long")
        read_string(tag, f"{pointer}/{index}")
    return tuple(tags)


def read_document(value: Any, pointer: str) -> JsonDocument:
    """Return a JSON value on its way to the store."""
    try:
        return json_document(value)
    except UnstorableJson as error:
        raise invalid(pointer, f"cannot be stored: {error}") from None


def read_instant(text: str, pointer: str) -> Instant:
    """Return an instant that the service keeps."""
    return _within_range(_any_instant(text, pointer), pointer)


def read_duration(given: str | float, pointer: str) -> timedelta:
    """Return a duration."""
    try:
        return parse_duration(given)
    except (ValueError, OverflowError):
        raise invalid(pointer, _NOT_A_DURATION) from None


def read_lease(given: str | float | UnsetType, pointer: str) -> timedelta | None:
    """Return for how long jobs are to be leased; None stands for the service's default."""
    if given is UNSET:
        return None
    lease = read_duration(given, pointer)
    if not MIN_LEASE_SECONDS <= lease.total_seconds() <= MAX_LEASE_SECONDS:
        raise invalid(pointer, "must be from 1 second to 12 hours")
    return lease


def read_run_at(time: str | UnsetType, delay: str | float | UnsetType, *, name: str, pointer: str = "") -> RunAt | None:
    """Return when to run, given as a time in the member ``name`` or as ``delay``; None when neither is there."""
    if time is UNSET:
        return None if delay is UNSET else read_duration(delay, f"{pointer}/delay")
    if delay is not UNSET:
        raise invalid(f"{pointer}/delay", f"must not stand beside {name}")
    return read_instant(time, f"{pointer}/{name}")


def read_next_run_at(time: str | UnsetType, delay: str | float | UnsetType, pointer: str = "") -> RunAt:
    """Return when an acknowledged job is to run next: never later than the last instant that the service keeps."""
    if time is not UNSET and delay is not UNSET:
        raise invalid(f"{pointer}/delay", "must not stand beside next_scheduled_at")
    if time is not UNSET:
        instant = _any_instant(time, f"{pointer}/next_scheduled_at")
        return MAX_INSTANT if instant > MAX_INSTANT else _within_range(instant, f"{pointer}/next_scheduled_at")
    if delay is UNSET:
        raise invalid(pointer, "lacks the member next_scheduled_at, or delay instead")
    try:
        return parse_delay(delay)
    except (ValueError, OverflowError):
        raise invalid(f"{pointer}/delay", _NOT_A_DURATION) from None


def check_payload(data: JsonDocument | None, metadata: JsonDocument | None, limits: Limits, pointer: str = "") -> None:
    """Refuse data and metadata that are too much together."""
    characters = (len(data.text) if data else 0) + (len(metadata.text) if metadata else 0)
    # A character has at most four bytes in UTF-8: most jobs need not be encoded to be measured.
    if characters * 4 <= limits.payload_bytes:
        return
    size = (len(data.text.encode()) if data else 0) + (len(metadata.text.encode()) if metadata else 0)
    if size > limits.payload_bytes:
        raise invalid(
            f"{pointer}/data",
            f"must have, with metadata, at most {limits.payload_bytes} bytes as compact JSON in UTF-8",
        )


def _within_range(instant: Instant, pointer: str) -> Instant:
    if MIN_INSTANT <= instant <= MAX_INSTANT:
        return instant
    raise invalid(pointer, "must lie in the years 1970 to 2200, UTC")


def _any_instant(text: str, pointer: str) -> Instant:
    try:
        return parse_instant(text)
    except ValueError:
        raise invalid(pointer, _NOT_A_TIME) from None
