"""Jobs as the lifecycle sees them, and calls on them."""

from typing import Any

import pytest
from msgspec.structs import asdict

from app.domain.job import ExecutionError
from app.domain.lifecycle import Acknowledgement, JobState, Operation, acknowledge
from app.domain.status import JobStatus

NOW = 1_800_000_000_000_000
LATER = NOW + 3_600_000_000
LEASE = 11
FAILURE = ExecutionError("custom", "it broke")

FINISHED = {"complete", "cancelled", "discarded"}
STATUSES = ["scheduled", "retryable", "executing", "complete", "cancelled", "discarded"]
RECORDS_AN_ERROR = {"retry", "discard", "cancel"}
SETS_A_TIME = {"retry", "snooze"}
REFUNDS = {"snooze", "release"}
UNFENCED_OPERATIONS = ["complete", "retry", "discard", "cancel", "snooze"]
FENCED_OPERATIONS = [*UNFENCED_OPERATIONS, "release"]


def job_in(status: str, **members: Any) -> JobState:
    """A job that was claimed twice and is now in this status; a held one is held under fence 2."""
    defaults: dict[str, Any] = {
        "id": 7,
        "executor": "mail",
        "status": JobStatus(status),
        "priority": 3,
        "scheduled_at": NOW - 60_000_000,
        "attempt": 2,
        "max_attempts": 5,
        "fence": 2,
        "version": 9,
        "lease_id": LEASE if status == "executing" else None,
        "refunded": False,
        "finished_at": NOW - 1_000_000 if status in FINISHED else None,
        "acknowledged_fence": None,
        "acknowledged_operation": None,
        "error_count": 4,
    }
    return JobState(**{**defaults, **members})


def call(operation: str, *, fence: int | None = None) -> Acknowledgement:
    return Acknowledgement(
        operation=Operation(operation),
        job_id=7,
        fence=fence,
        run_at=LATER if operation in SETS_A_TIME else None,
        error=FAILURE if operation in RECORDS_AN_ERROR else None,
    )


def apply(state: JobState, operation: str, *, fence: int | None = None, require_fence: bool = False) -> Any:
    return acknowledge(state, call(operation, fence=fence), NOW, require_fence=require_fence)


def claim(state: JobState) -> None:
    """What a store does to a job that it hands to a worker."""
    state.status = JobStatus.EXECUTING
    state.attempt += 1
    state.fence += 1
    state.version += 1
    state.refunded = False
    state.lease_id = LEASE


def assert_refused(state: JobState, error: type[Exception], operation: str, **how: Any) -> None:
    before = asdict(state)
    with pytest.raises(error) as refused:
        apply(state, operation, **how)
    assert asdict(state) == before, "a refusal changes nothing"
    assert type(refused.value) is error
    assert refused.value.job_id == 7
    assert refused.value.current_status == before["status"]


def assert_no_op(state: JobState, operation: str, **how: Any) -> None:
    before = asdict(state)
    ack = apply(state, operation, **how)
    assert ack.duplicate
    assert ack.status == before["status"]
    assert asdict(state) == before, "a no-op changes nothing"
