"""The counts of ``list_executors`` are those of a recount, whatever was done."""

from collections import Counter
from contextlib import suppress
from datetime import timedelta
from random import Random

import pytest

from app.backend.extensions import Service
from app.domain.errors import BackendError
from app.domain.job import JobChanges
from app.domain.lifecycle import Acknowledgement, Operation
from app.domain.pruning import MaxLength, Only, PruneSpec
from app.domain.query import And
from app.domain.status import READY, JobStatus
from app.domain.uniqueness import Replace, ReplaceField
from tests.builders import DAY, FAILURE, new_job, now, unique
from tests.services import on_both_databases

pytestmark = on_both_databases

EXECUTORS = ["a", "b", "c"]
PRUNABLE = [status for status in JobStatus if status is not JobStatus.EXECUTING]


async def do_something(service: Service, chance: Random) -> None:
    job_id = chance.randint(1, 60)
    executor = chance.choice(EXECUTORS)
    fence = chance.choice([None, chance.randint(0, 4)])
    match chance.randrange(12):
        case 0 | 1:
            await service.enqueue(new_job(executor, scheduled_at=chance.choice([None, now() + DAY])))
        case 2:
            await service.enqueue_many([new_job(chance.choice(EXECUTORS)) for _ in range(4)])
        case 3:
            criteria = unique(
                executor=True,
                statuses=tuple(chance.sample(list(JobStatus), 3)),
                on_conflict=Replace(frozenset({ReplaceField.SCHEDULED_AT}), frozenset(JobStatus)),
            )
            await service.enqueue_many([new_job(executor, unique=criteria), new_job(executor)])
        case 4 | 5:
            await service.claim_jobs(executor, limit=chance.randint(1, 6))
        case 6:
            jobs = await service.claim_jobs(executor, limit=3)
            for job in jobs:
                await service.release_job(job.id, fence=job.fence)
        case 7 | 8 | 9:
            calls = [
                Acknowledgement(
                    operation=chance.choice([each for each in Operation if each is not Operation.RELEASE]),
                    job_id=chance.randint(1, 60),
                    fence=chance.choice([None, chance.randint(0, 4)]),
                    run_at=now(),
                    error=FAILURE,
                )
                for _ in range(5)
            ]
            await service.acknowledge(calls)
        case 10:
            await service.rerun_job(job_id, force=fence is None)
        case 11 if chance.random() < 0.3:
            await service.prune_jobs(PruneSpec(chance.choice(PRUNABLE), MaxLength(2), Only((executor,))))
        case _:
            await service.update_job(job_id, JobChanges(priority=chance.randint(0, 3), scheduled_at=now()))


@pytest.mark.parametrize("seed", range(6))
async def test_counts_agree_with_a_recount_after_anything(service, seed):
    chance = Random(seed)
    for step in range(150):
        with suppress(BackendError):
            await do_something(service, chance)
        if step % 10 == 9:
            await assert_counts_agree(service)


async def assert_counts_agree(service: Service) -> None:
    jobs = (await service.query(And(()), limit=1000)).jobs
    recounted = Counter((job.executor, job.status) for job in jobs)
    ready = {
        executor: min(
            (job.scheduled_at for job in jobs if job.executor == executor and job.status in READY), default=None
        )
        for executor in {job.executor for job in jobs}
    }
    summaries = await service.list_executors()
    assert [summary.executor for summary in summaries] == sorted(ready)
    for summary in summaries:
        assert summary.counts == {status: recounted[summary.executor, status] for status in JobStatus}
        oldest = ready[summary.executor]
        assert summary.oldest_ready_at == (oldest if oldest is not None and oldest <= now() else None)
        assert summary.connections == 0


async def test_service_without_jobs_has_no_executors(service):
    assert await service.list_executors() == []


async def test_connections_are_counted_while_they_last(service):
    one = await service.subscribe_ready_jobs("mail")
    other = await service.subscribe_ready_jobs("mail")
    (mail,) = await service.list_executors()
    assert (mail.executor, mail.connections, sum(mail.counts.values())) == ("mail", 2, 0)
    await one.close()
    assert [each.connections for each in await service.list_executors()] == [1]
    await other.close()
    assert await service.list_executors() == []


async def test_connection_is_counted_once_also_when_a_job_of_its_has_a_lease_of_its_own(service):
    subscription = await service.subscribe_ready_jobs("mail", prefetch=1)
    await service.enqueue(new_job())
    job = await anext(aiter(subscription))
    await service.renew_lease(job.id, fence=job.fence, lease=timedelta(hours=1))
    assert [each.connections for each in await service.list_executors()] == [1]
    await subscription.close()
    assert [each.connections for each in await service.list_executors()] == [0]


async def test_jobs_of_the_future_are_not_ready_yet(service):
    await service.enqueue(new_job(scheduled_at=now() + DAY))
    (mail,) = await service.list_executors()
    assert mail.oldest_ready_at is None
    await service.enqueue_many([new_job(scheduled_at=7, priority=9), new_job(scheduled_at=8)])
    (mail,) = await service.list_executors()
    assert mail.oldest_ready_at == 7
