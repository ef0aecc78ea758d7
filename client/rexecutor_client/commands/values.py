"""What people write for times, durations and JSON."""

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from .exits import UsageError

_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[wdhms])")
_SECONDS = re.compile(r"\d+(?:\.\d+)?")
_ISO = re.compile(r"P(?=.)(?:(\d+)W)?(?:(\d+)D)?(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_ISO_UNITS = ("w", "d", "h", "m", "s")


def duration(text: str) -> timedelta:
    """Read seconds (``90``), ``5m``, ``2h30m``, or ISO 8601 (``P1DT2H``)."""
    found = _duration(text)
    if found is None:
        raise UsageError(f"{text!r} is no duration: write 90 (seconds), 5m, 2h30m or P1D")
    return found


def moment(text: str) -> datetime:
    """Read a time in RFC 3339; one without an offset is of the local time zone."""
    try:
        read = datetime.fromisoformat(text)
        return read if read.tzinfo is not None else read.astimezone()
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{text!r} is no time: write 2026-11-26T17:00:00Z; without Z it is local time") from error


def past(text: str) -> datetime:
    """Read a time, or how long ago it was."""
    ago = _duration(text)
    try:
        return moment(text) if ago is None else datetime.now(UTC) - ago
    except OverflowError as error:
        raise UsageError(f"{text!r} is too long ago") from error


def json_value(text: str) -> Any:
    """Read JSON given as it is, as ``@file``, or as ``-`` for stdin."""
    source = _source(text)
    try:
        return msgspec.json.decode(source)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        hint = "" if text == "-" or text.startswith("@") else "; a text needs quotes of its own: '\"text\"'"
        raise UsageError(f"{text!r} is no JSON ({error}){hint}") from error


def _source(text: str) -> bytes | str:
    if text == "-":
        return sys.stdin.buffer.read()
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {text[1:]!r}: {error.strerror}") from error


def _duration(text: str) -> timedelta | None:
    parts = _parts(text)
    if parts is None:
        return None
    try:
        return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
    except OverflowError:
        return None


def _parts(text: str) -> list[tuple[str, str]] | None:
    if _SECONDS.fullmatch(text):
        return [(text, "s")]
    if (iso := _ISO.fullmatch(text.upper())) is not None:
        return [(number, unit) for number, unit in zip(iso.groups(), _ISO_UNITS, strict=True) if number]
    found = _PART.findall(text)
    return found if found and "".join(number + unit for number, unit in found) == text else None
