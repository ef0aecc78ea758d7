"""What the rarer writes ask for: items of a group commit on every database."""

from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

from ..domain.job import JobChanges
from ..domain.status import JobStatus


class Rerun(Struct, frozen=True):
    """A call of ``rerun_job``."""

    job_id: int
    force: bool


class Update(Struct, frozen=True):
    """A call of ``update_job``."""

    job_id: int
    changes: JobChanges
    if_match: frozenset[int] | None


class Deletion(Struct, frozen=True):
    """Jobs to delete if they still have this status and are still scheduled in this range."""

    ids: Sequence[int]
    status: JobStatus
    earliest: int
    latest: int


class SessionAlive(Struct, frozen=True):
    """The session with this lease showed life so many seconds ago."""

    lease_id: int
    lease_seconds: float
    seconds_ago: float


Held: TypeAlias = tuple[int, int]
"""A job's id, and the fence under which it is held."""


class Audit(Struct, frozen=True):
    """A session as its server knows it; no claim for it is under way."""

    session: str
    lease: int | None
    """Its connection's, None for a poll that was answered with an error."""
    held: Sequence[Held] = ()


class JobLease(Struct, frozen=True):
    """A wish to hold one job until ``seconds`` from now; ``is_own`` if its neighbours are not meant."""

    job_id: int
    fence: int
    seconds: float
    is_own: bool


def size_of(audits: Sequence[Audit]) -> int:
    """Return how many rows audits are worth."""
    return sum(1 + len(audit.held) for audit in audits)
