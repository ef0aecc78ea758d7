"""Jobs as a worker gets them, without a service, and what is recorded of them."""

from datetime import UTC, datetime
from typing import Any

from rexecutor_client import Discard, ExecutionError, Job, JobStatus, Retry
from rexecutor_client.results import Result


def handed_out(data: Any = None, **members: Any) -> Job[Any, Any]:
    """A job on its first of five attempts."""
    now = datetime.now(UTC)
    usual: dict[str, Any] = {
        "id": 1,
        "executor": "mail",
        "status": JobStatus.EXECUTING,
        "metadata": None,
        "attempt": 1,
        "max_attempts": 5,
        "priority": 0,
        "tags": [],
        "errors": [],
        "error_count": 0,
        "inserted_at": now,
        "scheduled_at": now,
        "attempted_at": now,
        "completed_at": None,
        "cancelled_at": None,
        "discarded_at": None,
        "attempted_by": [],
        "uniqueness_key": None,
        "fence": 1,
        "lease_expires_at": now,
        "version": 2,
    }
    return Job(data=data, **{**usual, **members})


def recorded(result: Result) -> ExecutionError:
    """What the failure says that a result is."""
    assert isinstance(result, (Retry, Discard))
    error = result.error if isinstance(result, Retry) else result.reason
    assert isinstance(error, ExecutionError)
    return error
