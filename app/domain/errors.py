"""What the contract's methods raise: one small family, which carries data and knows no HTTP."""

from .status import JobStatus


class BackendError(Exception):
    """The backend could not do what was asked."""


class JobNotFound(BackendError):
    """No job has this id."""

    def __init__(self, job_id: int) -> None:
        super().__init__(f"no job has the id {job_id}")
        self.job_id = job_id


class JobRefused(BackendError):
    """The job is in a state in which the call may not change it."""

    def __init__(self, job_id: int, current_status: JobStatus) -> None:
        super().__init__(f"job {job_id} is {current_status}")
        self.job_id = job_id
        self.current_status = current_status


class InvalidTransition(JobRefused):
    """The operation has no meaning for a job of this status."""


class StaleFence(JobRefused):
    """The job is not executing under the fence that the call gave."""


class JobExecuting(JobRefused):
    """The job is executing, and the call does not force it from its worker."""


class FenceRequired(JobRefused):
    """The setting refuses unfenced acknowledgements of executing jobs."""


class VersionMismatch(BackendError):
    """The job has another version than the caller asked for."""

    def __init__(self, job_id: int, version: int) -> None:
        super().__init__(f"job {job_id} has version {version}")
        self.job_id = job_id
        self.version = version


class PayloadTooLarge(BackendError):
    """The job's data and metadata would together exceed the limit."""

    def __init__(self, payload_bytes: int, *, index: int = 0) -> None:
        super().__init__(f"data and metadata of a job may be {payload_bytes} bytes together")
        self.payload_bytes = payload_bytes
        self.index = index
        """Which of the jobs that were given, from 0."""
        self.pointer = ""
        """Where the job stands in a request."""


class IdempotencyMismatch(BackendError):
    """The key came with another body before."""


class IdempotencyInProgress(BackendError):
    """The call that bears the same key has not ended in time; nothing is known of its outcome."""


class QueryTooComplex(BackendError):
    """The query is beyond the limits, its time included."""


class DatabaseUnavailable(BackendError):
    """The database cannot be reached or did not answer; whether the call took effect is unknown."""


class OutcomeUnknown(DatabaseUnavailable):
    """The database was lost in the middle of the call: it may have taken effect."""


class InsufficientStorage(BackendError):
    """There is no room for more."""


class NotReady(BackendError):
    """This server takes no such call now: it starts or leaves."""
