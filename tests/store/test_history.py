"""What a job remembers of its attempts: the first error and the last 49, the last ten workers."""

import pytest
from msgspec.structs import asdict

from app.backend.extensions import Service
from app.domain.job import ExecutionError, Job
from app.domain.json_text import json_value
from tests.builders import new_job


async def fail(service: Service, job_id: int, number: int) -> None:
    await service.mark_job_retryable(job_id, 0, ExecutionError("custom", f"failure {number}"))


def failures(job: Job) -> list[int]:
    return [int(error.details.removeprefix("failure ")) for error in job.errors]


@pytest.mark.parametrize(
    ("count", "kept"),
    [
        (0, []),
        (1, [1]),
        (49, list(range(1, 50))),
        (50, list(range(1, 51))),
        (51, [1, *range(3, 52)]),
        (120, [1, *range(72, 121)]),
    ],
)
async def test_first_error_and_the_last_49_are_kept(service, count, kept):
    enqueued = await service.enqueue(new_job())
    for number in range(1, count + 1):
        await fail(service, enqueued.id, number)
    job = await service.get_job(enqueued.id)
    assert failures(job) == kept
    assert job.error_count == count


async def test_worker_gets_the_last_three_errors(service):
    enqueued = await service.enqueue(new_job())
    for number in range(1, 6):
        await fail(service, enqueued.id, number)
    (job,) = await service.claim_jobs("mail")
    assert (failures(job), job.error_count) == ([3, 4, 5], 5)


async def test_errors_bear_the_attempt_in_which_they_happened(service):
    enqueued = await service.enqueue(new_job())
    for number in range(1, 4):
        (job,) = await service.claim_jobs("mail")
        await service.mark_job_retryable(job.id, 0, ExecutionError("custom", f"failure {number}"), fence=job.fence)
    assert [error.attempt for error in (await service.get_job(enqueued.id)).errors] == [1, 2, 3]


async def test_last_ten_workers_are_remembered(service):
    enqueued = await service.enqueue(new_job())
    for number in range(1, 14):
        (job,) = await service.claim_jobs("mail", worker=f"worker {number}")
        expected = [f"worker {each}" for each in range(max(1, number - 9), number + 1)]
        assert json_value(job.attempted_by) == expected
        assert json_value((await service.get_job(job.id)).attempted_by) == expected
        await service.release_job(enqueued.id, fence=job.fence)


@pytest.mark.parametrize("first_attempts", [0, 2])
async def test_each_claim_is_refunded_anew(service, first_attempts):
    await service.enqueue(new_job())
    for number in range(first_attempts):
        (job,) = await service.claim_jobs("mail")
        await service.mark_job_retryable(job.id, 0, ExecutionError("custom", f"failure {number}"), fence=job.fence)
    for _ in range(3):
        (job,) = await service.claim_jobs("mail")
        assert job.attempt == first_attempts + 1
        await service.release_job(job.id, fence=job.fence)
        await service.mark_job_snoozed(job.id, 0)
        assert (await service.get_job(job.id)).attempt == first_attempts, "refunded once, not twice"


async def test_claim_returns_the_job_as_it_is_stored(service):
    await service.enqueue(new_job(data=[1.0], metadata={"a": 1}, tags=("x",), priority=2))
    (job,) = await service.claim_jobs("mail", worker="w")
    assert asdict(await service.get_job(job.id)) == asdict(job)
    await service.mark_job_retryable(job.id, 0, ExecutionError("custom", "x"), fence=job.fence)
    (again,) = await service.claim_jobs("mail", worker="w")
    assert asdict(await service.get_job(job.id)) == asdict(again)
    assert (again.attempt, again.fence) == (2, 2)
