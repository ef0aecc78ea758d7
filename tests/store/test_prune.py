"""What a prune deletes: in both directions of time, of some executors or all, counted first if so wished."""

from collections import Counter
from datetime import timedelta
from random import Random

import pytest
import time_machine

from app.backend.extensions import Service
from app.domain.errors import JobNotFound
from app.domain.instant import MAX_INSTANT
from app.domain.job import Job
from app.domain.pruning import Except, MaxAge, MaxLength, Only, PruneBy, PruneExecutors, PruneSpec
from app.domain.query import And
from app.domain.status import READY, JobStatus
from tests.builders import DAY, FAILURE, HOUR, SECOND, new_job, now

PRUNABLE = [status for status in JobStatus if status is not JobStatus.EXECUTING]
MICROSECOND = timedelta(microseconds=1)
NOW = 1_800_000_000_000_000


async def store(service: Service, status: JobStatus, *, at: int, executor: str = "mail") -> int:
    """Stores a job with this status and time to run; returns its id."""
    job_id = (await service.enqueue(new_job(executor, scheduled_at=at))).id
    match status:
        case JobStatus.RETRYABLE:
            await service.mark_job_retryable(job_id, at, FAILURE)
        case JobStatus.COMPLETE:
            await service.mark_job_complete(job_id)
        case JobStatus.CANCELLED:
            await service.mark_job_cancelled(job_id, FAILURE)
        case JobStatus.DISCARDED:
            await service.mark_job_discarded(job_id, FAILURE)
    return job_id


async def all_jobs(service: Service) -> list[Job]:
    return (await service.query(And(()), limit=1000)).jobs


async def all_ids(service: Service) -> set[int]:
    return {job.id for job in await all_jobs(service)}


def doomed(spec: PruneSpec, jobs: list[Job], at: int) -> set[int]:
    """The ids that the contract dooms."""
    match spec.executors:
        case Only(executors):
            matched = [job for job in jobs if job.executor in executors]
        case Except(executors):
            matched = [job for job in jobs if job.executor not in executors]
    matched = [job for job in matched if job.status is spec.status]
    waiting = spec.status in READY
    match spec.prune_by:
        case MaxAge(age) if waiting:
            return {job.id for job in matched if job.scheduled_at > at + age // MICROSECOND}
        case MaxAge(age):
            return {job.id for job in matched if job.scheduled_at < at - age // MICROSECOND}
        case MaxLength(length):
            matched.sort(key=lambda job: (job.scheduled_at, job.id), reverse=not waiting)
            return {job.id for job in matched[length:]}


@pytest.mark.parametrize(
    "executors", [Except(), Except(("mail",)), Only(("mail", "video")), Only(()), Only(("no such",))]
)
@pytest.mark.parametrize(
    "prune_by",
    [
        MaxAge(timedelta(0)),
        MaxAge(timedelta(hours=2, minutes=30)),
        MaxAge(timedelta(days=36_525)),
        MaxLength(0),
        MaxLength(4),
        MaxLength(10_000),
    ],
)
async def test_prune_deletes_what_the_contract_says(service, prune_by: PruneBy, executors: PruneExecutors):
    chance = Random(7)
    start = now()
    for status in PRUNABLE:
        for executor in ("mail", "video", "sms"):
            for hours in chance.sample(range(-5, 6), 4):
                await store(service, status, at=start + hours * HOUR + HOUR // 4, executor=executor)
    await service.enqueue_many([new_job("held", scheduled_at=0)] * 2)
    await service.claim_jobs("held", limit=2)
    for status in PRUNABLE:
        spec = PruneSpec(status, prune_by, executors)
        before = await all_jobs(service)
        expected = doomed(spec, before, now())
        assert await service.prune_jobs(spec, dry_run=True) == len(expected)
        assert await all_jobs(service) == before, "a dry run deletes nothing"
        assert await service.prune_jobs(spec) == len(expected)
        assert await all_ids(service) == {job.id for job in before} - expected


@pytest.mark.parametrize("status", PRUNABLE)
async def test_age_is_compared_strictly(service, status):
    sign = 1 if status in READY else -1
    with time_machine.travel(NOW / 1_000_000, tick=False):
        ids = [await store(service, status, at=NOW + sign * (HOUR + offset)) for offset in (-1, 0, 1)]
        spec = PruneSpec(status, MaxAge(timedelta(hours=1)))
        assert await service.prune_jobs(spec, dry_run=True) == 1
        assert await service.prune_jobs(spec) == 1
        assert await all_ids(service) == set(ids[:2])


@pytest.mark.parametrize("status", PRUNABLE)
async def test_length_counts_all_matched_executors_together(service, status):
    times = [NOW + offset * SECOND for offset in (3, 1, 4, 0, 2, 5)]
    ids = [await store(service, status, at=at, executor=f"e{number % 3}") for number, at in enumerate(times)]
    by_time = [job_id for _, job_id in sorted(zip(times, ids, strict=True), reverse=status not in READY)]
    assert await service.prune_jobs(PruneSpec(status, MaxLength(2), Except(("e9",)))) == 4
    assert await all_ids(service) == set(by_time[:2])


@pytest.mark.parametrize("status", PRUNABLE)
async def test_executors_that_do_not_match_do_not_count_for_the_length(service, status):
    mine = [await store(service, status, at=NOW, executor="mine") for _ in range(3)]
    others = [await store(service, status, at=NOW, executor="other") for _ in range(5)]
    assert await service.prune_jobs(PruneSpec(status, MaxLength(3), Only(("mine",)))) == 0
    assert await service.prune_jobs(PruneSpec(status, MaxLength(2), Except(("other",)))) == 1
    assert len(await all_ids(service) & set(mine)) == 2
    assert await all_ids(service) >= set(others)


async def test_errors_and_counts_go_with_the_job(service):
    job_id = await store(service, JobStatus.DISCARDED, at=NOW)
    assert await service.prune_jobs(PruneSpec(JobStatus.DISCARDED, MaxLength(0))) == 1
    with pytest.raises(JobNotFound):
        await service.get_job(job_id)
    assert await service.list_executors() == []


async def test_ids_of_pruned_jobs_are_never_used_again(tmp_path, service):
    job_id = await store(service, JobStatus.COMPLETE, at=NOW)
    await service.prune_jobs(PruneSpec(JobStatus.COMPLETE, MaxLength(0)))
    assert (await service.enqueue(new_job())).id > job_id


async def test_prune_of_many_batches_deletes_all_of_them(service):
    await service.enqueue_many([new_job(scheduled_at=now() + DAY + number) for number in range(2_500)])
    spec = PruneSpec(JobStatus.SCHEDULED, MaxLength(100))
    assert await service.prune_jobs(spec, dry_run=True) == 2_400
    assert await service.prune_jobs(spec) == 2_400
    remaining = await all_jobs(service)
    assert len(remaining) == 100
    assert Counter(job.executor for job in remaining) == {"mail": 100}
    assert await service.prune_jobs(PruneSpec(JobStatus.SCHEDULED, MaxLength(0))) == 100


@pytest.mark.parametrize("kind", [Only, Except])
async def test_any_strings_and_any_number_of_them_may_name_executors(service, kind):
    await store(service, JobStatus.COMPLETE, at=NOW)
    names = (*(f"e{number}" for number in range(300_000)), "", "' OR 1=1 --", "ä")
    expected = 1 if kind is Except else 0
    assert await service.prune_jobs(PruneSpec(JobStatus.COMPLETE, MaxLength(0), kind(names))) == expected


@pytest.mark.parametrize("length", [2**31, 2**62, 2**63 - 1])
async def test_huge_lengths_keep_everything(service, length):
    await store(service, JobStatus.COMPLETE, at=MAX_INSTANT)
    assert await service.prune_jobs(PruneSpec(JobStatus.COMPLETE, MaxLength(length))) == 0
