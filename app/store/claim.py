"""What a claim asks for, what it brings, and who of those in line gets which job."""

from collections import deque
from collections.abc import Sequence

from msgspec import Struct

from ..domain.instant import Instant
from ..domain.job import Job


class NewLease(Struct, frozen=True, kw_only=True):
    """A lease to be opened; ``seconds`` from the transaction's now."""

    session: str
    executor: str
    worker: str
    seconds: float
    connected: bool
    resume_hash: str | None = None


class Demand(Struct, frozen=True):
    """One place in line: up to ``credits`` jobs for a lease, which is opened first if it is new and gets any."""

    lease: int | NewLease
    worker: str
    credits: int


class ClaimCall(Struct, frozen=True):
    """A claim for all places in an executor's line, who has gone longest without a job first."""

    executor: str
    demands: Sequence[Demand]


class Claimed(Struct):
    """The jobs of each demand, in delivery order: priority, scheduled_at, id."""

    jobs: list[list[Job]]
    lease_ids: list[int | None]
    """The lease of each demand; None where a new one was not needed or an old one has run out."""
    next_due_at: Instant | None = None
    """When the next job falls due, if there were fewer jobs than credits."""


def deal(demands: Sequence[Demand], count: int) -> list[int]:
    """Return for each of ``count`` jobs, best first, the index of the demand that gets it.

    Each job goes to the place that has gone longest without one.
    """
    if len(demands) == 1:
        return [0] * min(count, demands[0].credits)
    line = deque((index, demand.credits) for index, demand in enumerate(demands))
    dealt: list[int] = []
    while line and len(dealt) < count:
        index, credits = line.popleft()
        dealt.append(index)
        if credits > 1:
            line.append((index, credits - 1))
    return dealt
