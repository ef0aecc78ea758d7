"""Many completes of one caller: the usual ones take two statements, and any that is not usual has its own outcome."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from msgspec.structs import asdict

from app.backend.extensions import Service
from app.domain.errors import JobNotFound, StaleFence
from app.domain.job import Ack, Job
from app.domain.lifecycle import Acknowledgement, Operation
from app.domain.status import JobStatus
from app.store.dialects.sqlite.acknowledge import acknowledge, prepare
from app.store.dialects.sqlite.transaction import SqliteTransaction
from tests.builders import FAILURE, new_job
from tests.delivery.streams import all_go_to, subscribed, take
from tests.held_writer import until_waiting, writer_held
from tests.services import on_both_databases

MANY = 40


async def claimed(service: Service, executor: str = "mail", *, times: int = 1) -> list[Job]:
    """Many jobs of a caller that does not stay, each claimed so many times."""
    await service.enqueue_many([new_job(executor) for _ in range(MANY)])
    for left in reversed(range(times)):
        jobs = await service.claim_jobs(executor, limit=MANY, lease=timedelta(hours=1))
        if left:
            for job in jobs:
                await service.release_job(job.id, fence=job.fence)
    return jobs


def completes(jobs: Sequence[Job], *, fence: int | None = None) -> list[Acknowledgement]:
    return [
        Acknowledgement(operation=Operation.COMPLETE, job_id=job.id, fence=job.fence if fence is None else fence)
        for job in jobs
    ]


def done(jobs: Sequence[Job], *, duplicate: bool = False) -> list[Ack]:
    return [Ack(job.id, JobStatus.COMPLETE, duplicate) for job in jobs]


async def assert_counts(service: Service, **expected: dict[JobStatus, int]) -> None:
    found = {
        each.executor: {status: n for status, n in each.counts.items() if n} for each in await service.list_executors()
    }
    assert found == expected


@on_both_databases
class TestOutcomes:
    async def test_all_are_completed(self, service):
        jobs = await claimed(service)
        assert await service.acknowledge(completes(jobs)) == done(jobs)
        stored = await service.get_job(jobs[-1].id)
        assert (stored.status, stored.version, stored.lease_expires_at) == (JobStatus.COMPLETE, 3, None)
        assert stored.finished_at is not None
        await assert_counts(service, mail={JobStatus.COMPLETE: MANY})

    async def test_repeated_they_are_duplicates(self, service):
        jobs = await claimed(service)
        await service.acknowledge(completes(jobs))
        assert await service.acknowledge(completes(jobs)) == done(jobs, duplicate=True)
        await assert_counts(service, mail={JobStatus.COMPLETE: MANY})

    async def test_stale_one_among_them_is_refused_alone(self, service):
        jobs = await claimed(service)
        await service.release_job(jobs[7].id, fence=jobs[7].fence)
        (again,) = await service.claim_jobs("mail", limit=1)
        outcomes = await service.acknowledge(completes(jobs))
        assert isinstance(outcomes.pop(7), StaleFence)
        assert outcomes == done(jobs[:7] + jobs[8:])
        assert asdict(await service.get_job(again.id)) == asdict(again)

    async def test_unknown_one_among_them_is_refused_alone(self, service):
        jobs = await claimed(service)
        calls = completes(jobs)
        calls[3] = Acknowledgement(operation=Operation.COMPLETE, job_id=1_000_000, fence=1)
        outcomes = await service.acknowledge(calls)
        assert isinstance(outcomes.pop(3), JobNotFound)
        assert outcomes == done(jobs[:3] + jobs[4:])
        await assert_counts(service, mail={JobStatus.COMPLETE: MANY - 1, JobStatus.EXECUTING: 1})

    async def test_job_that_is_named_twice_is_completed_once(self, service):
        jobs = await claimed(service)
        outcomes = await service.acknowledge(completes([*jobs, jobs[0]]))
        assert outcomes == [*done(jobs), *done(jobs[:1], duplicate=True)]

    async def test_other_operations_among_them_have_their_effect(self, service):
        jobs = await claimed(service)
        calls = completes(jobs)
        calls[5] = Acknowledgement(operation=Operation.DISCARD, job_id=jobs[5].id, fence=jobs[5].fence, error=FAILURE)
        outcomes = await service.acknowledge(calls)
        assert outcomes.pop(5) == Ack(jobs[5].id, JobStatus.DISCARDED)
        assert outcomes == done(jobs[:5] + jobs[6:])
        await assert_counts(service, mail={JobStatus.COMPLETE: MANY - 1, JobStatus.DISCARDED: 1})

    async def test_jobs_of_several_leases_and_executors(self, service):
        jobs = [*await claimed(service, "one"), *await claimed(service, "other", times=2)]
        assert await service.acknowledge(completes(jobs)) == done(jobs)
        await assert_counts(service, one={JobStatus.COMPLETE: MANY}, other={JobStatus.COMPLETE: MANY})

    @pytest.mark.parametrize("fence", [0, 2, 2**63 - 1])
    async def test_another_fence_completes_none(self, service, fence):
        jobs = await claimed(service)
        outcomes = await service.acknowledge(completes(jobs, fence=fence))
        assert all(isinstance(outcome, StaleFence) for outcome in outcomes)
        await assert_counts(service, mail={JobStatus.EXECUTING: MANY})

    async def test_each_gives_a_credit_to_the_worker_that_held_it(self, service):
        async with subscribed(service, prefetch=MANY) as one, subscribed(service, prefetch=MANY) as other:
            await service.enqueue_many([new_job() for _ in range(4 * MANY)])
            jobs = [*await take(one, MANY), *await take(other, MANY)]
            await service.acknowledge(completes(jobs))
            await take(one, MANY)
            await take(other, MANY)

    async def test_each_gives_its_worker_a_credit(self, service):
        async with subscribed(service, prefetch=MANY) as one, subscribed(service) as other:
            await service.enqueue_many([new_job() for _ in range(2 * MANY + 5)])
            jobs = await take(one, MANY)
            await service.acknowledge(completes(jobs))
            await take(one, MANY)
            await all_go_to(other, 5)


async def test_two_callers_of_the_same_jobs_in_one_transaction(service):
    jobs = await claimed(service)
    async with writer_held(service):
        calls = [asyncio.create_task(service.acknowledge(completes(jobs))) for _ in range(2)]
        await until_waiting(service, 2)
    assert [await call for call in calls] == [done(jobs), done(jobs, duplicate=True)]


async def test_those_of_a_write_that_fails_among_others_free_no_credit(service):
    """The failed one's jobs stay where they are, and the worker hears of the other's only."""

    def complete_and_fail(transaction: SqliteTransaction, items: list) -> list:
        acknowledge(transaction, items)
        raise RuntimeError("failed")

    async with subscribed(service, prefetch=2 * MANY) as one, subscribed(service) as other:
        await service.enqueue_many([new_job() for _ in range(3 * MANY + 5)])
        jobs = await take(one, 2 * MANY)
        async with writer_held(service):
            failing = service._dialect._commit.submit(complete_and_fail, [prepare(completes(jobs[:MANY]))])
            one.acknowledging()
            calls = asyncio.create_task(service.acknowledge(completes(jobs[MANY:])))
            await until_waiting(service, 3)
        with pytest.raises(RuntimeError):
            await failing
        assert await calls == done(jobs[MANY:])
        await take(one, MANY)
        assert {job.fence for job in await all_go_to(other, 5)} == {1}, "nothing was claimed in excess"
        assert (await service.get_job(jobs[0].id)).status is JobStatus.EXECUTING


async def test_lease_of_a_caller_that_did_not_stay_is_forgotten(service):
    jobs = await claimed(service)
    before = await service._dialect._one(count_leases, None)
    await service.acknowledge(completes(jobs))
    assert (before, await service._dialect._one(count_leases, None)) == (1, 0)


def count_leases(transaction: SqliteTransaction, _items: list) -> list[int]:
    return list(transaction.connection.execute("SELECT count(*) FROM leases").fetchone())
