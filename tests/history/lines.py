"""The lines of a history: what a client asked, was told and was handed, each with the time of the machine's one clock.

Times are microseconds since 1970. A call that was never answered has no ``Answered`` line, or one that is ``unknown``.
"""

import os
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import Struct

FINAL = frozenset({"complete", "cancelled", "discarded"})


class Outcome(StrEnum):
    """How a call ended, as far as its caller knows."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REFUSED = "refused"
    """A 4xx."""
    UNKNOWN = "unknown"
    """A 5xx, or no answer."""


class Line(Struct, frozen=True, kw_only=True, tag_field="line", omit_defaults=True):
    """What happened at a time."""

    at: int


class Called(Line, frozen=True, kw_only=True, tag="called"):
    """A client is about to ask."""

    call: str
    operation: str
    executor: str | None = None
    """Of the jobs to enqueue."""
    job_id: int | None = None
    fence: int | None = None
    connection: str | None = None
    """The stream, if it is asked over one."""
    markers: list[str] = []
    """Of the jobs to enqueue, each marker given to one job only; a repeat under the same key repeats them."""
    not_before: int | None = None
    """When the job may run, at the earliest, if the call succeeds."""
    pruned_status: str | None = None
    pruned_executors: list[str] = []


class Answered(Line, frozen=True, kw_only=True, tag="answered"):
    """What came back."""

    call: str
    outcome: Outcome
    status: int = 0
    job_ids: list[int] = []
    """Of the jobs enqueued, in the order of their markers."""
    deleted: int = 0
    lease_expires_at: int | None = None


class Connected(Line, frozen=True, kw_only=True, tag="connected"):
    """A hello was read; a claim by REST is a connection of its own."""

    connection: str
    asked_at: int
    executor: str
    session: str
    resumed: bool = False
    resumes: str | None = None
    """The session whose token was given."""
    held: list[tuple[int, int]] = []
    credits: int
    returns: bool
    """Whether settled jobs give their credits back."""
    lease: int


class Requested(Line, frozen=True, kw_only=True, tag="requested"):
    """Credits are about to be granted."""

    connection: str
    credits: int


class Stopped(Line, frozen=True, kw_only=True, tag="stopped"):
    """The result of a stop was read: no job may follow, but for what was requested after the stop was sent."""

    connection: str
    asked_at: int


class Delivered(Line, frozen=True, kw_only=True, tag="delivered"):
    """A job was read."""

    connection: str
    job_id: int
    fence: int
    version: int
    scheduled_at: int
    attempted_at: int
    lease_expires_at: int


class Revoked(Line, frozen=True, kw_only=True, tag="revoked"):
    """A revoke was read."""

    connection: str
    job_id: int
    fence: int
    reason: str


class Alive(Line, frozen=True, kw_only=True, tag="alive"):
    """The server is known to have heard, after ``sent_at``, what was sent then: it renews the session."""

    connection: str
    sent_at: int


class Seen(Line, frozen=True, kw_only=True, tag="seen"):
    """A job was looked at; ``asked_at`` is when."""

    asked_at: int
    job_id: int
    version: int


class Stored(Struct, frozen=True, kw_only=True, tag_field="line", tag="stored"):
    """A job of the final dump."""

    job_id: int
    executor: str
    status: str
    fence: int
    version: int
    marker: str | None = None


AnyLine: TypeAlias = Called | Answered | Connected | Requested | Stopped | Delivered | Revoked | Alive | Seen | Stored

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AnyLine)


def now() -> int:
    """Return the time by the machine's clock, the one that the service uses."""
    return time.time_ns() // 1_000


def instant(text: str) -> int:
    """Return an instant of the wire as microseconds."""
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


class Recorder:
    """Appends lines to a file, each in one write: what is written outlives a ``kill -9`` of the writer."""

    def __init__(self, path: Path) -> None:
        """Append to a file, made if it is not there."""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, line: AnyLine) -> None:
        """Write a line before anything else happens."""
        os.write(self._file, _encoder.encode(line) + b"\n")

    def close(self) -> None:
        os.close(self._file)


def read_history(paths: Sequence[Path]) -> Iterator[AnyLine]:
    """Give the lines of each file in turn; only the last of a file may be torn."""
    for path in paths:
        content = path.read_bytes().split(b"\n")
        for line in content[:-1]:
            yield _decoder.decode(line)
