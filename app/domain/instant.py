"""Instants and durations as the service keeps and speaks them.

An instant is an ``int``: microseconds since the epoch, UTC. It compares, sorts and is stored as it is; text is made
only at the wire, with :func:`format_instant`.
"""

import math
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol, TypeAlias

Instant: TypeAlias = int
"""Microseconds since 1970-01-01T00:00:00Z."""

RunAt: TypeAlias = Instant | timedelta
"""A time to run: an instant, or a delay by the database's clock."""

MICROSECOND = timedelta(microseconds=1)
MIN_INSTANT: Instant = 0
MAX_INSTANT: Instant = 7_289_654_399_999_999
"""2200-12-31T23:59:59.999999Z: the last instant that the service keeps."""
MAX_DURATION = timedelta(days=36_525)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ]((?!24)\d\d:\d\d:\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
# The number of digits is bounded because the arithmetic on them takes more than linear time.
_NUMBER = r"([0-9]{1,20}(?:\.[0-9]{1,100})?)"
DURATION_PATTERN = (
    rf"P(?=[0-9T])(?:{_NUMBER}W)?(?:{_NUMBER}D)?(?:T(?=[0-9])(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?"
)
_DURATION = re.compile(DURATION_PATTERN)
_UNITS_IN_MICROSECONDS = (604_800_000_000, 86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000)


class Clock(Protocol):
    """Tells the time; what must agree between processes asks the database's clock."""

    def now(self) -> Instant:
        """Return the current instant."""


def parse_instant(text: str) -> Instant:
    """Read RFC 3339 with an offset; more than six digits of a second are cut.

    The result may lie outside the range that the service keeps: callers compare it with ``MIN_INSTANT`` and
    ``MAX_INSTANT``. Raises ValueError for anything else, a time without an offset included.
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise ValueError("expected a time in RFC 3339 with an offset, such as 2026-11-24T08:00:00Z")
    day, clock, fraction, _, sign, offset_hours, offset_minutes = match.groups()
    naive = datetime.fromisoformat(f"{day}T{clock}")
    instant = (naive.replace(tzinfo=UTC) - _EPOCH) // MICROSECOND
    if fraction is not None:
        instant += int(fraction[:6].ljust(6, "0"))
    if sign is None:
        return instant
    hours, minutes = int(offset_hours), int(offset_minutes)
    if hours > 23 or minutes > 59:
        raise ValueError("the offset from UTC must be at most 23:59")
    offset = (hours * 60 + minutes) * 60_000_000
    return instant - offset if sign == "+" else instant + offset


@lru_cache(maxsize=4096)
def format_instant(instant: Instant) -> str:
    """Write an instant as RFC 3339 in UTC with microseconds and ``Z``.

    Cached, since jobs that are stored or delivered together share their instants.
    """
    seconds, microseconds = divmod(instant, 1_000_000)
    return f"{_up_to_the_second(seconds)}.{microseconds:06d}Z"


def parse_duration(given: str | float) -> timedelta:
    """Read ISO 8601 in weeks, days and smaller, or a number of seconds; cut to microseconds.

    Raises ValueError outside 0 to 36,525 days and for any other text.
    """
    microseconds = _duration_in_microseconds(given)
    if not 0 <= microseconds <= MAX_DURATION // MICROSECOND:
        raise ValueError("a duration must be from 0 to 36525 days")
    return timedelta(microseconds=microseconds)


def parse_delay(given: str | float) -> RunAt:
    """Read a duration of any length from now on; one that leads beyond the last instant is that instant.

    Raises ValueError as :func:`parse_duration` does, for its upper bound excepted.
    """
    if not isinstance(given, str) and given * 1_000_000 > MAX_INSTANT:
        return MAX_INSTANT
    microseconds = _duration_in_microseconds(given)
    if microseconds < 0:
        raise ValueError("a delay must not be negative")
    return MAX_INSTANT if microseconds > MAX_INSTANT else timedelta(microseconds=microseconds)


def from_datetime(moment: datetime) -> Instant:
    """Convert an aware datetime."""
    return (moment - _EPOCH) // MICROSECOND


def resolve(run_at: RunAt, now: Instant) -> Instant:
    """Return when to run: never beyond the last instant that the service keeps."""
    if isinstance(run_at, timedelta):
        run_at = now + run_at // MICROSECOND
    return min(run_at, MAX_INSTANT)


@lru_cache(maxsize=4096)
def _up_to_the_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def _duration_in_microseconds(given: str | float) -> int:
    if not isinstance(given, str):
        if math.isnan(given) or abs(given) > 1e12:
            raise ValueError("a duration must be from 0 to 36525 days")
        return int(given * 1_000_000) if isinstance(given, int) else _cut(repr(given))
    match = _DURATION.fullmatch(given)
    if match is None:
        raise ValueError(
            'expected an ISO 8601 duration in weeks, days and smaller, such as "PT2M", or a number of seconds'
        )
    return sum(_cut(part, unit) for part, unit in zip(match.groups(), _UNITS_IN_MICROSECONDS, strict=True) if part)


def _cut(number: str, unit: int = 1_000_000) -> int:
    """Return a decimal number of units in whole microseconds, what is smaller cut off."""
    mantissa, _, exponent = number.partition("e")
    whole, _, fraction = mantissa.partition(".")
    sign = -1 if whole.startswith("-") else 1
    scale = 10 ** len(fraction)
    amount = int(whole.lstrip("-") + fraction) * unit
    power = int(exponent) if exponent else 0
    amount, scale = (int(amount * 10**power), scale) if power >= 0 else (amount, scale * 10**-power)
    return int(sign * (amount // scale))
