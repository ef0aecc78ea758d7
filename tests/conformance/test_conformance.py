"""The seed's own suite, the acceptance test of every rexecutor backend, case by case under its names.

Expressed anew after rexecutor's ``backend/testing.rs``. Each case runs in process and over the wire.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from app.backend.contract import Backend, Subscription
from app.domain.errors import JobNotFound
from app.domain.job import Job, JobChanges
from app.domain.pruning import Except, MaxAge, MaxLength, Only, PruneSpec
from app.domain.query import ExecutorEqual, IdEquals, Not, Query
from app.domain.status import JobStatus
from app.domain.uniqueness import Replace, ReplaceField
from tests.builders import DAY, FAILURE, HOUR, MINUTE, new_job, now, unique

EXECUTOR = "executor"
NO_JOB = 42

pytestmark = pytest.mark.timeout(60)


async def test_subscribe_ready_jobs(backend: Backend):
    async with subscribed(backend) as jobs:
        await backend.enqueue(new_job("another_executor"))
        enqueued = await backend.enqueue(new_job(EXECUTOR))

        job = await anext(jobs)

        assert job.id == enqueued.id
        assert job.executor == EXECUTOR


async def test_subscribe_ready_jobs_enqueuing_wakes_subscriber(backend: Backend):
    async with subscribed(backend) as jobs:
        delivery = asyncio.create_task(first_of(jobs))
        await asyncio.sleep(0)  # lets the subscriber ask before there is anything
        await backend.enqueue(new_job("another_executor"))
        await backend.enqueue(new_job(EXECUTOR))

        async with asyncio.timeout(2):
            job = await delivery

        assert job.executor == EXECUTOR


async def test_subscribe_ready_jobs_streams_jobs_by_priority(backend: Backend):
    due, soon = now(), now() + 600_000
    async with subscribed(backend) as jobs:
        last = await backend.enqueue(new_job(EXECUTOR, scheduled_at=soon))
        second = await backend.enqueue(new_job(EXECUTOR, scheduled_at=due, priority=2))
        first = await backend.enqueue(new_job(EXECUTOR, scheduled_at=due))

        delivered = [(await anext(jobs)).id for _ in range(3)]

        assert delivered == [first.id, second.id, last.id]


async def test_subscribe_ready_jobs_streams_only_one_steam_receives_job(backend: Backend):
    async with subscribed(backend) as one, subscribed(backend) as other:
        enqueued = {(await backend.enqueue(new_job(EXECUTOR))).id for _ in range(2)}

        delivered = await asyncio.gather(first_of(one), first_of(other))

        assert {job.id for job in delivered} == enqueued


async def test_enqueue(backend: Backend):
    one = await backend.enqueue(new_job(EXECUTOR))
    other = await backend.enqueue(new_job(EXECUTOR))

    assert one.id != other.id
    assert await stored(backend, one.id) is not None
    assert await stored(backend, other.id) is not None


async def test_enqueue_unique(backend: Backend):
    first = await backend.enqueue(new_job(EXECUTOR))
    second = await backend.enqueue(new_job(EXECUTOR, unique=unique(executor=True, within=2 * MINUTE)))

    assert second.id == first.id
    assert await stored(backend, second.id) is not None


async def test_enqueue_unique_no_matching(backend: Backend):
    criteria = unique(statuses=(JobStatus.RETRYABLE,), within=2 * MINUTE)
    first = await backend.enqueue(new_job(EXECUTOR))
    second = await backend.enqueue(new_job(EXECUTOR, unique=criteria))

    assert second.id != first.id
    assert await stored(backend, first.id) is not None
    assert await stored(backend, second.id) is not None


async def test_enqueue_unique_replace(backend: Backend):
    everything = Replace(frozenset(ReplaceField))
    criteria = unique(executor=True, within=2 * MINUTE, on_conflict=everything)
    first = await backend.enqueue(new_job(EXECUTOR, priority=2))
    second = await backend.enqueue(new_job(EXECUTOR, unique=criteria))

    assert second.id == first.id
    assert (await the(backend, first.id)).priority == 0


async def test_update_job(backend: Backend):
    enqueued = await backend.enqueue(new_job(EXECUTOR))

    await backend.update_job(enqueued.id, JobChanges(priority=3))

    assert (await the(backend, enqueued.id)).priority == 3


async def test_update_job_not_found(backend: Backend):
    with pytest.raises(JobNotFound):
        await backend.update_job(NO_JOB, JobChanges(priority=3))


async def test_mark_job_complete(backend: Backend):
    enqueued = await backend.enqueue(new_job(EXECUTOR))

    await backend.mark_job_complete(enqueued.id)

    assert (await the(backend, enqueued.id)).status is JobStatus.COMPLETE


async def test_mark_job_complete_not_found(backend: Backend):
    with pytest.raises(JobNotFound):
        await backend.mark_job_complete(NO_JOB)


async def test_rerun_job_first_attempt(backend: Backend):
    enqueued = await backend.enqueue(new_job(EXECUTOR, max_attempts=5))
    await increment_job_attempt(backend, enqueued.id, 1)

    await backend.rerun_job(enqueued.id)

    job = await the(backend, enqueued.id)
    assert (job.status, job.attempt, job.max_attempts, job.finished_at) == (JobStatus.SCHEDULED, 1, 6, None)


async def test_rerun_job_first_subsequent_attempt(backend: Backend):
    enqueued = await backend.enqueue(new_job(EXECUTOR, max_attempts=5))
    await increment_job_attempt(backend, enqueued.id, 2)

    await backend.rerun_job(enqueued.id)

    job = await the(backend, enqueued.id)
    assert (job.status, job.attempt, job.max_attempts, job.finished_at) == (JobStatus.RETRYABLE, 2, 6, None)


async def test_rerun_job_not_found(backend: Backend):
    with pytest.raises(JobNotFound):
        await backend.rerun_job(NO_JOB)


async def test_mark_job_snoozed_first_attempt(backend: Backend):
    tomorrow = now() + DAY
    enqueued = await backend.enqueue(new_job(EXECUTOR))
    await increment_job_attempt(backend, enqueued.id, 1)

    await backend.mark_job_snoozed(enqueued.id, tomorrow)

    job = await the(backend, enqueued.id)
    assert (job.status, job.attempt, job.scheduled_at) == (JobStatus.SCHEDULED, 0, tomorrow)


async def test_mark_job_snoozed_other_attempt(backend: Backend):
    tomorrow = now() + DAY
    enqueued = await backend.enqueue(new_job(EXECUTOR))
    await increment_job_attempt(backend, enqueued.id, 2)

    await backend.mark_job_snoozed(enqueued.id, tomorrow)

    job = await the(backend, enqueued.id)
    assert (job.status, job.attempt, job.scheduled_at) == (JobStatus.RETRYABLE, 1, tomorrow)


async def test_mark_job_snoozed_not_found(backend: Backend):
    with pytest.raises(JobNotFound):
        await backend.mark_job_snoozed(NO_JOB, now() + DAY)


async def test_mark_job_discarded(backend: Backend):
    enqueued = await backend.enqueue(new_job(EXECUTOR))

    await backend.mark_job_discarded(enqueued.id, FAILURE)

    job = await the(backend, enqueued.id)
    assert job.status is JobStatus.DISCARDED
    assert_failure_recorded(job)


async def test_mark_job_discarded_not_found(backend: Backend):
    with pytest.raises(JobNotFound):
        await backend.mark_job_discarded(NO_JOB, FAILURE)


async def test_mark_job_retryable(backend: Backend):
    enqueued = await backend.enqueue(new_job(EXECUTOR))

    await backend.mark_job_retryable(enqueued.id, now() + DAY, FAILURE)

    job = await the(backend, enqueued.id)
    assert job.status is JobStatus.RETRYABLE
    assert_failure_recorded(job)


async def test_mark_job_retryable_not_found(backend: Backend):
    with pytest.raises(JobNotFound):
        await backend.mark_job_retryable(NO_JOB, now() + DAY, FAILURE)


async def test_mark_job_cancelled(backend: Backend):
    enqueued = await backend.enqueue(new_job(EXECUTOR))

    await backend.mark_job_cancelled(enqueued.id, FAILURE)

    job = await the(backend, enqueued.id)
    assert job.status is JobStatus.CANCELLED
    assert_failure_recorded(job)


async def test_mark_job_cancelled_not_found(backend: Backend):
    with pytest.raises(JobNotFound):
        await backend.mark_job_cancelled(NO_JOB, FAILURE)


async def test_query(backend: Backend):
    enqueued = await backend.enqueue(new_job(EXECUTOR))
    await backend.enqueue(new_job("other_executor"))
    await backend.enqueue(new_job(EXECUTOR))

    assert await count(backend, IdEquals(NO_JOB)) == 0
    assert await count(backend, IdEquals(enqueued.id)) == 1
    assert await count(backend, ExecutorEqual(EXECUTOR)) == 2


async def test_prune_jobs(backend: Backend):
    all_jobs = Not(ExecutorEqual(""))
    start = now()
    for hours in range(100):
        enqueued = await backend.enqueue(new_job(EXECUTOR, scheduled_at=start - hours * HOUR))
        await backend.mark_job_complete(enqueued.id)
    for _ in range(100):
        enqueued = await backend.enqueue(new_job("other_executor"))
        await backend.mark_job_complete(enqueued.id)

    await backend.prune_jobs(PruneSpec(JobStatus.CANCELLED, MaxLength(10), Except()))
    assert await count(backend, all_jobs) == 200

    await backend.prune_jobs(PruneSpec(JobStatus.COMPLETE, MaxLength(50), Only(("other_executor",))))
    assert await count(backend, all_jobs) == 150
    assert await count(backend, ExecutorEqual("other_executor")) == 50

    await backend.prune_jobs(PruneSpec(JobStatus.COMPLETE, MaxAge(timedelta(hours=50)), Only((EXECUTOR,))))
    assert await count(backend, all_jobs) == 100
    assert await count(backend, ExecutorEqual(EXECUTOR)) == 50


@asynccontextmanager
async def subscribed(backend: Backend) -> AsyncIterator[AsyncIterator[Job]]:
    """The seed's stream: each job is asked for when it is wanted."""
    subscription: Subscription = await backend.subscribe_ready_jobs(EXECUTOR)
    try:
        yield aiter(subscription)
    finally:
        await subscription.close()


async def first_of(jobs: AsyncIterator[Job]) -> Job:
    return await anext(jobs)


async def increment_job_attempt(backend: Backend, job_id: int, times: int) -> None:
    """Run the executor's only job as often, each time to be tried again at once."""
    async with subscribed(backend) as jobs:
        for _ in range(times):
            assert (await anext(jobs)).id == job_id
            await backend.mark_job_retryable(job_id, now(), FAILURE)


async def stored(backend: Backend, job_id: int) -> Job | None:
    jobs = (await backend.query(IdEquals(job_id))).jobs
    assert len(jobs) <= 1
    return jobs[0] if jobs else None


async def the(backend: Backend, job_id: int) -> Job:
    job = await stored(backend, job_id)
    assert job is not None
    return job


async def count(backend: Backend, query: Query) -> int:
    return len((await backend.query(query, limit=1000)).jobs)


def assert_failure_recorded(job: Job) -> None:
    (error,) = job.errors
    assert (error.attempt, error.error_type, error.details) == (job.attempt, FAILURE.error_type, FAILURE.message)
