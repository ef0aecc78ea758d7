"""Many clients at once leave what some serial order would have left."""

import asyncio
from collections import Counter
from contextlib import nullcontext
from itertools import pairwise
from random import Random

import pytest

from app.backend.contract import Backend
from app.domain.errors import InvalidTransition, StaleFence
from app.domain.job import Ack, EnqueueOutcome, Job
from app.domain.query import ExecutorEqual, IdEquals
from app.domain.status import JobStatus
from app.domain.uniqueness import Replace, ReplaceField
from tests.builders import DAY, FAILURE, MINUTE, new_job, now, unique
from tests.conformance.sdk_backend import SdkBackend

EXISTING, INSERTED, REPLACED = EnqueueOutcome.EXISTING, EnqueueOutcome.INSERTED, EnqueueOutcome.REPLACED


async def stored(backend: Backend, executor: str = "mail") -> list[Job]:
    return (await backend.query(ExecutorEqual(executor), limit=1000)).jobs


async def executing_job(backend: Backend) -> Job:
    """A job that a worker has just been given: by another client, for one that knows its fence would tell it."""
    await backend.enqueue(new_job())
    async with SdkBackend(backend.url) if isinstance(backend, SdkBackend) else nullcontext(backend) as worker:
        subscription = await worker.subscribe_ready_jobs("mail")
        job = await anext(aiter(subscription))
        await subscription.close()
    return job


class TestEnqueue:
    @pytest.mark.parametrize(
        "criteria",
        [
            {"key": "k"},
            {"key": 7, "executor": True},
            {"executor": True},
            {"within": MINUTE},
            {"statuses": (JobStatus.SCHEDULED, JobStatus.EXECUTING)},
        ],
        ids=str,
    )
    async def test_of_fifty_identical_jobs_one_stands(self, backend, criteria):
        results = await asyncio.gather(
            *(backend.enqueue(new_job(scheduled_at=now() + DAY, unique=unique(**criteria))) for _ in range(50))
        )
        assert Counter(result.outcome for result in results) == {INSERTED: 1, EXISTING: 49}
        assert len({result.id for result in results}) == 1
        assert len(await stored(backend)) == 1

    async def test_fifty_jobs_without_criteria_all_stand(self, backend):
        """The control: what the test above would find if nothing were unique."""
        await asyncio.gather(*(backend.enqueue(new_job()) for _ in range(50)))
        assert len(await stored(backend)) == 50

    async def test_looking_first_and_enqueuing_then_is_no_substitute(self, backend):
        """The control: what fifty find who look at once, and then enqueue what they saw missing."""
        seen = await asyncio.gather(*(stored(backend) for _ in range(50)))
        await asyncio.gather(*(backend.enqueue(new_job()) for jobs in seen if not jobs))
        assert len(await stored(backend)) == 50

    @pytest.mark.parametrize("seed", range(3))
    async def test_windows_that_overlap_leave_jobs_that_do_not(self, backend, seed):
        """Each inserted job kept its distance from all others; each other one is near the one that stands for it."""
        start, window = now() + DAY, 10 * MINUTE
        times = [start + Random(seed * 100 + number).randrange(120 * MINUTE) for number in range(50)]
        results = await asyncio.gather(
            *(backend.enqueue(new_job(scheduled_at=at, unique=unique(executor=True, within=window))) for at in times)
        )
        by_id = {job.id: job.scheduled_at for job in await stored(backend)}
        assert sorted(by_id) == sorted(result.id for result in results if result.outcome is INSERTED)
        assert 1 < len(by_id) < 50
        standing = sorted(by_id.values())
        assert all(later - earlier > window for earlier, later in pairwise(standing))
        assert all(abs(by_id[result.id] - at) <= window for at, result in zip(times, results, strict=True))

    async def test_different_criteria_that_overlap_agree_on_an_order(self, backend):
        """A job unique by executor goes in only as the very first; one unique by key goes in once in any case."""
        by_executor = [new_job(unique=unique(executor=True)) for _ in range(25)]
        by_key = [new_job(unique=unique(key="k")) for _ in range(25)]
        mixed = [job for pair in zip(by_executor, by_key, strict=True) for job in pair]
        results = await asyncio.gather(*(backend.enqueue(job) for job in mixed))
        inserted = [
            ("key" if job in by_key else "executor", result.id)
            for job, result in zip(mixed, results, strict=True)
            if result.outcome is INSERTED
        ]
        inserted.sort(key=lambda kind_and_id: kind_and_id[1])
        assert [kind for kind, _ in inserted] in (["key"], ["executor", "key"])

    async def test_replaces_that_race_leave_one_of_them_whole(self, backend):
        first = await backend.enqueue(new_job(data=-1, metadata=-1, priority=99, scheduled_at=now() + DAY))
        everything = Replace(frozenset(ReplaceField))
        criteria = unique(executor=True, on_conflict=everything)
        results = await asyncio.gather(
            *(
                backend.enqueue(
                    new_job(
                        data=number,
                        metadata=number,
                        priority=number,
                        max_attempts=number + 1,
                        scheduled_at=now() + DAY + number,
                        unique=criteria,
                    )
                )
                for number in range(50)
            )
        )
        assert {(result.id, result.outcome) for result in results} == {(first.id, REPLACED)}
        (job,) = await stored(backend)
        assert job.data == job.metadata == str(job.priority) == str(job.max_attempts - 1)
        assert job.version == 51


class TestAcknowledge:
    @pytest.mark.parametrize("operation", ["complete", "retry", "discard", "cancel", "snooze"])
    async def test_of_twenty_identical_fenced_acknowledgements_one_counts(self, backend, operation):
        job = await executing_job(backend)
        acks = await asyncio.gather(*(mark(backend, operation, job, fence=job.fence) for _ in range(20)))
        assert Counter(ack.duplicate for ack in acks) == {False: 1, True: 19}
        assert len({ack.status for ack in acks}) == 1
        after = (await backend.query(IdEquals(job.id))).jobs[0]
        assert (after.version, after.fence) == (job.version + 1, job.fence)
        assert len(after.errors) == (operation in {"retry", "discard", "cancel"})
        assert after.attempt == job.attempt - (operation == "snooze")

    async def test_twenty_unfenced_retries_all_count(self, backend):
        """The control: without a fence nothing tells a repeat from a new retry."""
        job = await executing_job(backend)
        acks = await asyncio.gather(*(mark(backend, "retry", job) for _ in range(20)))
        assert not any(ack.duplicate for ack in acks)
        assert (await backend.query(IdEquals(job.id))).jobs[0].error_count == 20

    async def test_of_different_acknowledgements_under_one_fence_one_wins(self, backend):
        job = await executing_job(backend)
        operations = ["complete", "retry", "discard", "cancel", "snooze"] * 4
        outcomes = await asyncio.gather(
            *(mark(backend, operation, job, fence=job.fence) for operation in operations), return_exceptions=True
        )
        made = [operation for operation, each in zip(operations, outcomes, strict=True) if isinstance(each, Ack)]
        assert len(made) == 4, "the winner and its repeats"
        assert len(set(made)) == 1
        assert Counter(type(each) for each in outcomes) == {Ack: 4, StaleFence: 16}
        after = (await backend.query(IdEquals(job.id))).jobs[0]
        assert after.version == job.version + 1

    async def test_operator_and_worker_race_for_a_job_and_one_of_them_has_it(self, backend):
        for _ in range(10):
            job = await executing_job(backend)
            worker, operator = await asyncio.gather(
                mark(backend, "complete", job, fence=job.fence),
                mark(backend, "cancel", job),
                return_exceptions=True,
            )
            after = (await backend.query(IdEquals(job.id))).jobs[0]
            if after.status is JobStatus.COMPLETE:
                assert isinstance(worker, Ack)
                assert isinstance(operator, InvalidTransition)
            else:
                assert isinstance(worker, StaleFence)
                assert isinstance(operator, Ack)
                assert after.status is JobStatus.CANCELLED


async def mark(backend: Backend, operation: str, job: Job, *, fence: int | None = None) -> Ack:
    match operation:
        case "complete":
            return await backend.mark_job_complete(job.id, fence=fence)
        case "retry":
            return await backend.mark_job_retryable(job.id, now() + DAY, FAILURE, fence=fence)
        case "discard":
            return await backend.mark_job_discarded(job.id, FAILURE, fence=fence)
        case "cancel":
            return await backend.mark_job_cancelled(job.id, FAILURE, fence=fence)
        case _:
            return await backend.mark_job_snoozed(job.id, now() + DAY, fence=fence)
