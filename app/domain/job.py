"""The job: what is enqueued, what is stored, what is answered."""

from enum import StrEnum

from msgspec import Struct

from .instant import Instant, RunAt
from .json_text import NULL, JsonDocument, JsonText
from .limits import MAX_ERROR_MESSAGE_BYTES, MAX_ERROR_TYPE_CHARACTERS
from .status import JobStatus
from .uniqueness import UniquenessCriteria

_CUT_MARKER = "… (cut)"


class ErrorType(StrEnum):
    """The error types with a meaning of their own; any other string is a worker's own."""

    PANIC = "panic"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    LOST = "lost"


class ExecutionError(Struct, frozen=True, gc=False):
    """Why an execution failed, as the worker tells it."""

    error_type: str
    message: str


class JobError(Struct, frozen=True, gc=False):
    """One recorded error of a job."""

    attempt: int
    error_type: str
    details: str
    recorded_at: Instant


class EnqueuableJob(Struct, frozen=True, kw_only=True, gc=False):
    """A job to enqueue (rexecutor ``EnqueuableJob``). ``scheduled_at`` None means now, by the database's clock."""

    executor: str
    data: JsonDocument = NULL
    metadata: JsonDocument = NULL
    max_attempts: int = 5
    scheduled_at: RunAt | None = None
    tags: tuple[str, ...] = ()
    priority: int = 0
    uniqueness_criteria: UniquenessCriteria | None = None


class Job(Struct, gc=False):
    """A stored job (rexecutor ``Job``, with what the service adds: fence, lease, version)."""

    id: int
    executor: str
    status: JobStatus
    data: JsonText
    metadata: JsonText
    attempt: int
    max_attempts: int
    priority: int
    tags: JsonText
    errors: list[JobError]
    error_count: int
    inserted_at: Instant
    scheduled_at: Instant
    attempted_at: Instant | None
    finished_at: Instant | None
    """When the job became complete, cancelled or discarded: its status says which."""
    attempted_by: JsonText
    uniqueness_key: JsonText | None
    fence: int
    lease_expires_at: Instant | None
    version: int


class JobChanges(Struct, frozen=True, kw_only=True):
    """What ``update_job`` changes; None leaves a member as it is."""

    data: JsonDocument | None = None
    metadata: JsonDocument | None = None
    max_attempts: int | None = None
    scheduled_at: RunAt | None = None
    priority: int | None = None
    tags: tuple[str, ...] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to change."""
        return all(getattr(self, name) is None for name in self.__struct_fields__)


class EnqueueOutcome(StrEnum):
    """What an enqueue did."""

    INSERTED = "inserted"
    EXISTING = "existing"
    REPLACED = "replaced"


class Enqueued(Struct, frozen=True, gc=False):
    """The answer to an enqueue: the job that stands now, and what was done."""

    id: int
    outcome: EnqueueOutcome


class Ack(Struct, frozen=True, gc=False):
    """The answer to a mark: the job's status, and whether it had been made before."""

    id: int
    status: JobStatus
    duplicate: bool = False


class Page(Struct, frozen=True):
    """Jobs of a query, highest id first; ``next_before`` is the id below which to go on, None at the end."""

    jobs: list[Job]
    next_before: int | None


class ExecutorSummary(Struct, frozen=True, kw_only=True):
    """What the service knows of one executor."""

    executor: str
    counts: dict[JobStatus, int]
    oldest_ready_at: Instant | None
    connections: int


class LeaseRenewed(Struct, frozen=True):
    """Until when the job is leased now."""

    id: int
    lease_expires_at: Instant


def storable_error(error: ExecutionError) -> ExecutionError:
    """Return the error as it can be recorded: an acknowledgement never fails because of what a failure looked like."""
    return ExecutionError(
        error.error_type.replace("\0", "\ufffd")[:MAX_ERROR_TYPE_CHARACTERS],
        cut_text(error.message.replace("\0", "\ufffd"), MAX_ERROR_MESSAGE_BYTES),
    )


def cut_text(text: str, max_bytes: int) -> str:
    """Return the text in at most ``max_bytes`` of UTF-8, a marker at the end where something was cut."""
    if len(text) * 4 <= max_bytes:
        return text
    encoded = text.encode()
    if len(encoded) <= max_bytes:
        return text
    kept = encoded[: max_bytes - len(_CUT_MARKER.encode())]
    return kept.decode(errors="ignore") + _CUT_MARKER
