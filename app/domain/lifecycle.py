"""The acknowledgement table of the contract, as data, and what each operation does to a job.

Pure: a store loads a :class:`JobState`, lets a function here change it, and writes it back in the same transaction.
"""

from enum import Enum, StrEnum, auto

from msgspec import Struct

from .errors import FenceRequired, InvalidTransition, JobExecuting, StaleFence, VersionMismatch
from .instant import Instant, RunAt, resolve
from .job import Ack, ErrorType, ExecutionError, JobChanges, JobError, storable_error
from .limits import MAX_UINT16
from .status import READY, JobStatus


class Operation(StrEnum):
    """What a worker or an operator says of a job."""

    COMPLETE = "complete"
    RETRY = "retry"
    DISCARD = "discard"
    CANCEL = "cancel"
    SNOOZE = "snooze"
    RELEASE = "release"


class Acknowledgement(Struct, frozen=True, kw_only=True, gc=False):
    """One call of an operation; fenced when it bears a fence."""

    operation: Operation
    job_id: int
    fence: int | None = None
    run_at: RunAt | None = None
    """When to run next: for retry and snooze."""
    error: ExecutionError | None = None
    """For retry, discard and cancel."""


class RevokeReason(StrEnum):
    """Why a job is no longer its worker's."""

    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    LOST = "lost"
    RERUN = "rerun"
    ACKNOWLEDGED = "acknowledged"


class Settlement(Struct, frozen=True, gc=False):
    """A lease no longer holds a job: its credit is free; with a reason its worker is told to stop."""

    lease_id: int
    job_id: int
    fence: int
    reason: RevokeReason | None = None


class JobState(Struct, kw_only=True, gc=False):
    """The members of a stored job that operations read and change."""

    id: int
    executor: str
    status: JobStatus
    priority: int
    scheduled_at: Instant
    attempt: int
    max_attempts: int
    fence: int
    version: int
    lease_id: int | None
    refunded: bool
    """Whether the attempt of the last claim was taken back."""
    finished_at: Instant | None
    acknowledged_fence: int | None
    acknowledged_operation: str | None
    """The last fenced acknowledgement, also after the next claim."""
    error_count: int
    new_errors: list[JobError] = []
    settlement: Settlement | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the job waits for its time or for a worker."""
        return self.status in READY


class _Rule(Enum):
    APPLY = auto()
    NO_OP = auto()
    REFUSE = auto()


_A, _N, _R = _Rule.APPLY, _Rule.NO_OP, _Rule.REFUSE
_S = JobStatus
_UNFENCED: dict[Operation, dict[JobStatus, _Rule]] = {
    operation: dict(
        zip((_S.SCHEDULED, _S.RETRYABLE, _S.EXECUTING, _S.COMPLETE, _S.CANCELLED, _S.DISCARDED), rules, strict=True)
    )
    for operation, rules in {
        Operation.COMPLETE: (_A, _A, _A, _N, _R, _R),
        Operation.RETRY: (_A, _A, _A, _R, _R, _R),
        Operation.DISCARD: (_A, _A, _A, _R, _R, _N),
        Operation.CANCEL: (_A, _A, _A, _R, _N, _R),
        Operation.SNOOZE: (_A, _A, _A, _R, _R, _R),
    }.items()
}
_FENCE_MAY_BE_REQUIRED = {Operation.COMPLETE, Operation.RETRY, Operation.DISCARD, Operation.SNOOZE}
_FINAL = {
    Operation.COMPLETE: JobStatus.COMPLETE,
    Operation.DISCARD: JobStatus.DISCARDED,
    Operation.CANCEL: JobStatus.CANCELLED,
}


def acknowledge(state: JobState, call: Acknowledgement, now: Instant, *, require_fence: bool) -> Ack:
    """Apply an acknowledgement to a job, as the contract's table says.

    Returns with ``duplicate`` set, and the state unchanged, when the operation was made before. Raises StaleFence,
    InvalidTransition or FenceRequired, the state unchanged.
    """
    if call.fence is None:
        rule = _unfenced_rule(state, call.operation, require_fence=require_fence)
    else:
        rule = _fenced_rule(state, call)
    if rule is _Rule.NO_OP:
        return Ack(state.id, state.status, duplicate=True)
    _settle(state, call)
    _apply(state, call, now)
    state.version += 1
    return Ack(state.id, state.status)


def rerun(state: JobState, now: Instant, *, force: bool) -> Ack:
    """Make the job due now with one attempt more; raises JobExecuting unless ``force`` takes it from its worker."""
    if state.status is JobStatus.EXECUTING:
        if not force:
            raise JobExecuting(state.id, state.status)
        _take_away(state, RevokeReason.RERUN)
    state.scheduled_at = now
    state.max_attempts = min(state.max_attempts + 1, MAX_UINT16)
    state.finished_at = None
    state.status = JobStatus.SCHEDULED if state.attempt <= 1 else JobStatus.RETRYABLE
    state.version += 1
    return Ack(state.id, state.status)


def lose(state: JobState, now: Instant) -> None:
    """Take an executing job back from a worker that vanished: due at once, or discarded when no attempt is left."""
    _take_away(state, RevokeReason.LOST)
    _record(state, ExecutionError(ErrorType.LOST, "the lease ran out before the job was acknowledged"), now)
    if state.attempt < state.max_attempts:
        state.status = JobStatus.RETRYABLE
        state.scheduled_at = now
    else:
        state.status = JobStatus.DISCARDED
        state.finished_at = now
    state.version += 1


def update(state: JobState, changes: JobChanges, now: Instant, *, if_match: frozenset[int] | None) -> bool:
    """Change what the job's schedule depends on; return whether anything is to be written.

    ``data``, ``metadata`` and ``tags`` are not part of the state: the store writes them beside it. Raises
    VersionMismatch when ``if_match`` lacks the job's version.
    """
    if if_match is not None and state.version not in if_match:
        raise VersionMismatch(state.id, state.version)
    if changes.is_empty:
        return False
    if changes.max_attempts is not None:
        state.max_attempts = max(changes.max_attempts, state.attempt)
    if changes.priority is not None:
        state.priority = changes.priority
    if changes.scheduled_at is not None:
        state.scheduled_at = resolve(changes.scheduled_at, now)
    state.version += 1
    return True


def _unfenced_rule(state: JobState, operation: Operation, *, require_fence: bool) -> _Rule:
    if operation is Operation.RELEASE:
        raise FenceRequired(state.id, state.status)
    if require_fence and state.status is JobStatus.EXECUTING and operation in _FENCE_MAY_BE_REQUIRED:
        raise FenceRequired(state.id, state.status)
    rule = _UNFENCED[operation][state.status]
    if rule is _Rule.REFUSE:
        raise InvalidTransition(state.id, state.status)
    return rule


def _fenced_rule(state: JobState, call: Acknowledgement) -> _Rule:
    if state.status is JobStatus.EXECUTING and state.fence == call.fence:
        return _Rule.APPLY
    if state.acknowledged_fence == call.fence and state.acknowledged_operation == call.operation:
        return _Rule.NO_OP
    raise StaleFence(state.id, state.status)


def _settle(state: JobState, call: Acknowledgement) -> None:
    """Take the job from the lease that holds it, and remember a fenced acknowledgement."""
    if call.fence is not None:
        state.acknowledged_fence = call.fence
        state.acknowledged_operation = call.operation
        if state.lease_id is not None:
            state.settlement = Settlement(state.lease_id, state.id, state.fence)
            state.lease_id = None
    elif state.status is JobStatus.EXECUTING:
        cancelled = call.operation is Operation.CANCEL
        _take_away(state, RevokeReason.CANCELLED if cancelled else RevokeReason.ACKNOWLEDGED)


def _take_away(state: JobState, reason: RevokeReason) -> None:
    if state.lease_id is not None:
        state.settlement = Settlement(state.lease_id, state.id, state.fence, reason)
        state.lease_id = None
    state.fence += 1


def _apply(state: JobState, call: Acknowledgement, now: Instant) -> None:
    if call.error is not None:
        _record(state, storable_error(call.error), now)
    final = _FINAL.get(call.operation)
    if final is not None:
        state.status = final
        state.finished_at = now
        return
    if call.run_at is not None:
        state.scheduled_at = resolve(call.run_at, now)
    if call.operation is Operation.RETRY:
        state.status = JobStatus.RETRYABLE
        return
    _refund(state)
    state.status = JobStatus.SCHEDULED if state.attempt == 0 else JobStatus.RETRYABLE


def _refund(state: JobState) -> None:
    """Take the last claim's attempt back, unless it was before."""
    if not state.refunded:
        state.attempt = max(state.attempt - 1, 0)
        state.refunded = True


def _record(state: JobState, error: ExecutionError, now: Instant) -> None:
    state.error_count += 1
    state.new_errors = [*state.new_errors, JobError(state.attempt, error.error_type, error.message, now)]
