"""What a claim asks for, what it brings, and who of those in line gets which job."""

from collections import deque
from collections.abc import Sequence

from msgspec import Struct

from ..domain.instant import Instant
from ..domain.job import Job

MAX_JOBS_A_CLAIM = 1_000
"""Bounds a claim's transaction, in which others wait."""
MAX_STREAM_CLAIM = 500
"""Most jobs that one claim takes for one stream: while they are sent and worked on, the next are claimed."""


class NewLease(Struct, frozen=True, kw_only=True):
    """A lease to be opened; ``seconds`` from the transaction's now."""

    session: str
    executor: str
    worker: str
    seconds: float
    connected: bool
    resume_hash: str | None = None
    previous_resume_hash: str | None = None


class Resume(Struct, frozen=True, kw_only=True):
    """A session's wish to go on at a new connection, with the token that ``presented_hash`` was made of."""

    session: str
    executor: str
    worker: str | None
    """Its name from now on; None keeps the old one."""
    seconds: float
    presented_hash: str
    resume_hash: str
    """Of the token that it gets now."""


class Resumed(Struct, frozen=True, kw_only=True):
    """A session at its new connection; the lease of the old one is no more."""

    resume_hash: str
    worker: str
    old_lease: int
    leases: list[int]
    """All leases of the session, that of the new connection first."""
    held: list[tuple[int, int]]
    """(id, fence) of each job, by id."""


class Demand(Struct, frozen=True):
    """One place in line: up to ``credits`` jobs for a lease, which is opened first if it is new and gets any.

    With ``returns``, each job that the same transaction has taken from the lease before gives a credit more.
    """

    lease: int | NewLease
    worker: str
    credits: int
    returns: bool = False


class ClaimCall(Struct, frozen=True):
    """A claim for all places in an executor's line, who has gone longest without a job first."""

    executor: str
    demands: Sequence[Demand]


class Claimed(Struct):
    """The jobs of each demand, in delivery order: priority, scheduled_at, id."""

    jobs: list[list[Job]]
    lease_ids: list[int | None]
    """The lease of each demand; None where a new one was not needed or an old one has run out."""
    was_enough: bool = True
    """Whether there were as many jobs as credits."""
    was_all: bool = False
    """Whether no job is due any more."""
    next_due_at: Instant | None = None
    """When to ask again if there were fewer: when the next job falls due."""


def deal(credits_of: Sequence[int], count: int) -> list[int]:
    """Return for each of ``count`` jobs, best first, the index of the place that gets it.

    Each job goes to the place that has gone longest without one.
    """
    if len(credits_of) == 1:
        return [0] * min(count, credits_of[0])
    line = deque((index, credits) for index, credits in enumerate(credits_of) if credits)
    dealt: list[int] = []
    while line and len(dealt) < count:
        index, credits = line.popleft()
        dealt.append(index)
        if credits > 1:
            line.append((index, credits - 1))
    return dealt
