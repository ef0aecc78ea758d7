"""Jobs in every status, without a worker's help."""

from app.backend.extensions import Service
from app.domain.job import JobChanges
from app.domain.status import JobStatus
from tests.builders import FAILURE


async def bring_to(service: Service, job_id: int, status: JobStatus) -> None:
    """Brings a scheduled job to a status, without changing its ``scheduled_at``."""
    at = (await service.get_job(job_id)).scheduled_at
    match status:
        case JobStatus.COMPLETE:
            await service.mark_job_complete(job_id)
        case JobStatus.CANCELLED:
            await service.mark_job_cancelled(job_id, FAILURE)
        case JobStatus.DISCARDED:
            await service.mark_job_discarded(job_id, FAILURE)
        case JobStatus.RETRYABLE:
            await service.mark_job_retryable(job_id, at, FAILURE)
        case JobStatus.EXECUTING:
            executor = (await service.get_job(job_id)).executor
            await service.update_job(job_id, JobChanges(scheduled_at=0, priority=0))
            (claimed,) = await service.claim_jobs(executor)
            assert claimed.id == job_id
            await service.update_job(job_id, JobChanges(scheduled_at=at))
        case JobStatus.SCHEDULED:
            pass
