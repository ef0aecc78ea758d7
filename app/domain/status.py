"""The states of a job."""

from enum import StrEnum


class JobStatus(StrEnum):
    """Where a job stands (rexecutor ``JobStatus``)."""

    SCHEDULED = "scheduled"
    EXECUTING = "executing"
    RETRYABLE = "retryable"
    COMPLETE = "complete"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"


READY = (JobStatus.SCHEDULED, JobStatus.RETRYABLE)
"""The statuses of a job that waits for its time, or for a worker."""

FINISHED = (JobStatus.COMPLETE, JobStatus.CANCELLED, JobStatus.DISCARDED)
