"""The job on the wire: JSON text, put together by hand because tens of thousands of them go out each second.

What may need escaping is JSON text in the domain's job already; an executor's name and a status never need any.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from ..domain.instant import Instant, format_instant
from ..domain.job import Job, JobError, cut_text
from ..domain.limits import ERROR_BYTES_TO_WORKERS, ERRORS_TO_WORKERS
from ..domain.status import JobStatus

_ENDED_AT: Final = {
    JobStatus.COMPLETE: '"completed_at":"{}","cancelled_at":null,"discarded_at":null',
    JobStatus.CANCELLED: '"completed_at":null,"cancelled_at":"{}","discarded_at":null',
    JobStatus.DISCARDED: '"completed_at":null,"cancelled_at":null,"discarded_at":"{}"',
}
_NOT_ENDED: Final = '"completed_at":null,"cancelled_at":null,"discarded_at":null'
_encoder = msgspec.json.Encoder()


def encode_job(job: Job) -> bytes:
    """Return the Job of the contract, with all its errors."""
    return _text(job, job.errors).encode()


def encode_job_for_worker(job: Job) -> bytes:
    """Return the Job of the contract with its last three errors, each cut at 4 KiB."""
    errors = job.errors
    if errors:
        errors = [
            JobError(
                error.attempt, error.error_type, cut_text(error.details, ERROR_BYTES_TO_WORKERS), error.recorded_at
            )
            for error in errors[-ERRORS_TO_WORKERS:]
        ]
    return _text(job, errors).encode()


def _text(job: Job, errors: Sequence[JobError]) -> str:
    finished_at = job.finished_at
    ends = _NOT_ENDED if finished_at is None else _ENDED_AT[job.status].format(format_instant(finished_at))
    return (
        f'{{"id":{job.id},"executor":"{job.executor}","status":"{job.status._value_}",'
        f'"data":{job.data},"metadata":{job.metadata},"attempt":{job.attempt},"max_attempts":{job.max_attempts},'
        f'"priority":{job.priority},"tags":{job.tags},"errors":{_errors_text(errors) if errors else "[]"},'
        f'"error_count":{job.error_count},"inserted_at":"{format_instant(job.inserted_at)}",'
        f'"scheduled_at":"{format_instant(job.scheduled_at)}","attempted_at":{_time_or_null(job.attempted_at)},'
        f'{ends},"attempted_by":{job.attempted_by},"uniqueness_key":{job.uniqueness_key or "null"},'
        f'"fence":{job.fence},"lease_expires_at":{_time_or_null(job.lease_expires_at)},"version":{job.version}}}'
    )


def _time_or_null(instant: Instant | None) -> str:
    return "null" if instant is None else f'"{format_instant(instant)}"'


def _errors_text(errors: Sequence[JobError]) -> str:
    return _encoder.encode(
        [
            {
                "attempt": error.attempt,
                "error_type": error.error_type,
                "details": error.details,
                "recorded_at": format_instant(error.recorded_at),
            }
            for error in errors
        ]
    ).decode()
