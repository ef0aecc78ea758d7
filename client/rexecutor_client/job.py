"""Jobs as the service takes and gives them, and what it answers.

Each class is the contract's JSON, member by member: what is read ignores members that it does not know, what is sent
leaves out members that are ``UNSET``. Times are aware datetimes.
"""

import sys
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Generic

from msgspec import UNSET, Struct, UnsetType

from .uniqueness import UniquenessCriteria

# A job that names no types is one of plain JSON, and a TypeVar has a default since Python 3.13.
if sys.version_info >= (3, 13):
    from typing import TypeVar
else:
    from typing_extensions import TypeVar

Data = TypeVar("Data", default=Any)
Metadata = TypeVar("Metadata", default=Any)


class JobStatus(StrEnum):
    """Where a job stands."""

    SCHEDULED = "scheduled"
    EXECUTING = "executing"
    RETRYABLE = "retryable"
    COMPLETE = "complete"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"


class EnqueueOutcome(StrEnum):
    """What an enqueue did."""

    INSERTED = "inserted"
    EXISTING = "existing"
    REPLACED = "replaced"


class JobError(Struct, frozen=True):
    """One recorded error of a job."""

    attempt: int
    error_type: str
    details: str
    recorded_at: datetime


class Job(Struct, Generic[Data, Metadata], kw_only=True):
    """A job as it was when the service answered or handed it out.

    For an executor ``data`` and ``metadata`` are of the types that it names; everywhere else they are JSON values.
    """

    id: int
    executor: str
    status: JobStatus
    data: Data
    metadata: Metadata
    attempt: int
    """1 on the first claim."""
    max_attempts: int
    priority: int
    """0 goes first."""
    tags: list[str]
    errors: list[JobError]
    """Oldest first; a worker gets the last three."""
    error_count: int
    inserted_at: datetime
    scheduled_at: datetime
    attempted_at: datetime | None
    completed_at: datetime | None
    cancelled_at: datetime | None
    discarded_at: datetime | None
    attempted_by: list[str]
    uniqueness_key: str | int | None
    fence: int
    """The fencing token: an acknowledgement that bears it acts only while this very claim holds."""
    lease_expires_at: datetime | None
    version: int
    deadline: datetime | None = None
    """While it runs under a timeout: when that is over."""
    revoked: str | None = None
    """While it runs: why it is no longer this worker's, once that is known. What it does then counts for nothing."""

    @property
    def is_last_attempt(self) -> bool:
        """Whether no attempt is left after this one."""
        return self.attempt >= self.max_attempts


class EnqueuableJob(Struct, kw_only=True):
    """A job to enqueue; what is ``UNSET`` is the service's default."""

    executor: str
    data: Any = UNSET
    """JSON, or what becomes JSON: a dataclass, a msgspec ``Struct`` or a pydantic model."""
    metadata: Any = UNSET
    max_attempts: int | UnsetType = UNSET
    scheduled_at: datetime | UnsetType = UNSET
    """When to run, now if unset; an aware datetime. Not together with ``delay``."""
    delay: timedelta | UnsetType = UNSET
    """How long from now on, by the database's clock."""
    priority: int | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    uniqueness_criteria: UniquenessCriteria | UnsetType = UNSET


class JobChanges(Struct, kw_only=True):
    """What an update changes; what is ``UNSET`` stays."""

    data: Any = UNSET
    metadata: Any = UNSET
    max_attempts: int | UnsetType = UNSET
    scheduled_at: datetime | UnsetType = UNSET
    delay: timedelta | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET


class ExecutionError(Struct, frozen=True):
    """Why an execution failed: ``panic``, ``timeout``, ``cancelled`` or any other type, and what there is to say."""

    error_type: str
    message: str


class Enqueued(Struct, frozen=True):
    """The job that stands for an enqueue: a new one, or the duplicate that was found."""

    id: int
    outcome: EnqueueOutcome


class Ack(Struct, frozen=True):
    """A job's status after an acknowledgement; ``duplicate`` if that had been made before."""

    id: int
    status: JobStatus
    duplicate: bool


class LeaseRenewed(Struct, frozen=True):
    """Until when a job is held."""

    id: int
    lease_expires_at: datetime


class Page(Struct, frozen=True):
    """Jobs, highest id first, and the cursor that leads to the next page: None after the last."""

    jobs: list[Job]
    next_cursor: str | None


class ExecutorSummary(Struct, frozen=True):
    """How many jobs of an executor have which status, and who works on them."""

    executor: str
    counts: dict[str, int]
    oldest_ready_at: datetime | None
    connections: int
