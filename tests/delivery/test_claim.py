"""Claims by REST: the stream for those without WebSocket."""

import asyncio
from datetime import timedelta

import pytest

from app.backend.extensions import Service
from app.domain.job import Job
from app.domain.stream import SubscriptionClosed
from tests.builders import DAY, SECOND, new_job, now
from tests.delivery.streams import PATIENCE_SECONDS, all_go_to, spin, subscribed, take_until_stopped
from tests.services import running_service

LONG = timedelta(seconds=30)


async def test_claim_without_a_wait_answers_at_once(service):
    assert await service.claim_jobs("mail") == []
    await service.enqueue(new_job(scheduled_at=now() + DAY))
    assert await service.claim_jobs("mail", limit=10) == []


async def test_claim_brings_the_best_jobs_up_to_its_limit(service):
    ids = [(await service.enqueue(new_job(priority=priority))).id for priority in (3, 1, 2, 0)]
    assert [job.id for job in await service.claim_jobs("mail", limit=3)] == [ids[3], ids[1], ids[2]]
    assert [job.id for job in await service.claim_jobs("mail", limit=3)] == [ids[0]]


async def test_jobs_that_are_too_much_for_one_claim_come_in_several_best_first(service):
    """A claim holds 8 MiB at most, a single job whatever it has; short ones between long ones keep their place."""
    long, short = "x" * 400_000, "x"
    ids = [(await service.enqueue(new_job(data=short if n % 3 else long, priority=n // 30))).id for n in range(90)]
    brought: list[Job] = []
    while jobs := await service.claim_jobs("mail", limit=100):
        assert sum(len(job.data) for job in jobs) <= 2 * 8 * 1024 * 1024
        assert len(jobs) < 90
        brought += jobs
    assert [job.id for job in brought] == ids
    assert {len(job.data) for job in brought} == {len(long) + 2, len(short) + 2}


async def test_waiting_claim_answers_as_soon_as_there_is_one_job(service):
    claim = asyncio.create_task(service.claim_jobs("mail", limit=10, wait=LONG))
    await asyncio.sleep(0)
    enqueued = await service.enqueue(new_job())
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert [job.id for job in await claim] == [enqueued.id]


async def test_waiting_claim_answers_when_a_job_falls_due(service):
    await service.enqueue(new_job(scheduled_at=timedelta(milliseconds=150)))
    async with asyncio.timeout(PATIENCE_SECONDS):
        (job,) = await service.claim_jobs("mail", wait=LONG)
    assert job.attempted_at >= job.scheduled_at


async def test_wait_ends_with_no_job(service):
    started = now()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await service.claim_jobs("mail", wait=timedelta(milliseconds=100)) == []
    assert now() - started >= SECOND // 10


async def test_fifty_waiting_claims_get_a_job_each(service):
    claims = [asyncio.create_task(service.claim_jobs("mail", wait=LONG)) for _ in range(50)]
    await asyncio.sleep(0)
    results = await service.enqueue_many([new_job() for _ in range(50)])
    async with asyncio.timeout(PATIENCE_SECONDS):
        claimed = await asyncio.gather(*claims)
    assert sorted(job.id for (job,) in claimed) == [result.id for result in results]


async def test_lease_of_a_claim_is_as_long_as_asked(service):
    await service.enqueue_many([new_job(), new_job()])
    (standard,) = await service.claim_jobs("mail")
    (long,) = await service.claim_jobs("mail", lease=timedelta(hours=12))
    assert standard.lease_expires_at == standard.attempted_at + 30 * SECOND
    assert long.lease_expires_at == long.attempted_at + 12 * 3600 * SECOND


async def test_worker_is_recorded_by_name_or_else_by_a_session(service):
    await service.enqueue_many([new_job(), new_job()])
    (named,) = await service.claim_jobs("mail", worker="curl")
    (unnamed,) = await service.claim_jobs("mail")
    assert named.attempted_by == '["curl"]'
    assert len(unnamed.attempted_by) > len('[""]')


class TestCancelledClaim:
    """Whoever asked is gone before the answer was written."""

    async def cancel_after(self, service: Service, microseconds: int) -> tuple[list[Job], int]:
        """Cancel a claim so long after a job was enqueued; return what it brought all the same, and the job's id."""
        claim = asyncio.create_task(service.claim_jobs("mail", wait=LONG))
        await asyncio.sleep(0)
        enqueuing = asyncio.create_task(service.enqueue(new_job()))
        await spin(microseconds)
        claim.cancel()
        try:
            brought = await claim
        except asyncio.CancelledError:
            brought = []
        return brought, (await enqueuing).id

    async def test_jobs_come_back_refunded_whenever_it_was_cancelled(self, service):
        for number in range(100):
            brought, job_id = await self.cancel_after(service, number * 20)
            if not brought:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    brought = await service.claim_jobs("mail", wait=LONG)
            (job,) = brought
            assert (job.id, job.attempt) == (job_id, 1)
            await service.mark_job_complete(job.id, fence=job.fence)

    async def test_claim_that_is_under_way_gives_its_jobs_back(self, service):
        await service.enqueue_many([new_job(), new_job()])
        claim = asyncio.create_task(service.claim_jobs("mail", limit=2, wait=LONG))
        await asyncio.sleep(0)
        (poll,) = service._registry._lines._dispatchers["mail"]._line
        while poll.wanted:
            await asyncio.sleep(0)
        claim.cancel()
        with pytest.raises(asyncio.CancelledError):
            await claim
        async with subscribed(service) as other:
            assert [(job.attempt, job.fence) for job in await all_go_to(other, 2)] == [(1, 2), (1, 2)]

    async def test_jobs_that_had_just_arrived_come_back_too(self, service):
        """The jobs stand in the answer, but whoever waits for it has not run since."""
        claim = asyncio.create_task(service.claim_jobs("mail", limit=2, wait=LONG))
        await service.enqueue_many([new_job(), new_job()])
        (poll,) = service._registry._lines._dispatchers["mail"]._line
        while not poll._answer.done():
            await asyncio.sleep(0)
        assert not claim.done()
        claim.cancel()
        with pytest.raises(asyncio.CancelledError):
            await claim
        async with subscribed(service) as other:
            assert [(job.attempt, job.fence) for job in await all_go_to(other, 2)] == [(1, 2), (1, 2)]

    async def test_job_of_a_cancelled_claim_goes_to_the_next_in_line(self, service):
        async with subscribed(service) as other:
            for number in range(50):
                brought, job_id = await self.cancel_after(service, number * 40)
                job = brought[0] if brought else (await all_go_to(other, 1))[0]
                other.stop("s")
                assert await take_until_stopped(other, "s") == []
                assert (job.id, job.attempt) == (job_id, 1)
                await service.mark_job_complete(job.id, fence=job.fence)


async def test_jobs_given_back_are_refunded(service):
    await service.enqueue_many([new_job(), new_job()])
    jobs = await service.claim_jobs("mail", limit=2)
    await service.give_back(jobs)
    async with asyncio.timeout(PATIENCE_SECONDS):
        again = await service.claim_jobs("mail", limit=2, wait=LONG)
        again += await service.claim_jobs("mail", wait=LONG) if len(again) == 1 else []
    assert [(job.id, job.attempt, job.fence) for job in again] == [(job.id, 1, 2) for job in jobs]


async def test_service_can_close_while_claims_and_streams_wait(tmp_path):
    async with running_service(tmp_path) as service:
        claim = asyncio.create_task(service.claim_jobs("mail", wait=LONG))
        subscription = await service.subscribe_ready_jobs("mail", prefetch=1)
        stream = asyncio.create_task(subscription.next())
        await asyncio.sleep(0)
    for waiting in (claim, stream):
        waiting.cancel()
    outcomes = await asyncio.gather(claim, stream, return_exceptions=True)
    ends = (asyncio.CancelledError, SubscriptionClosed)
    assert all(outcome == [] or isinstance(outcome, ends) for outcome in outcomes), outcomes
    await subscription.close()


async def test_claim_that_does_not_wait_is_answered_behind_any_number_of_credits(service):
    """A claim asks for a thousand jobs at most, which those before it in line want already."""
    before = [await service.subscribe_ready_jobs("mail", prefetch=250) for _ in range(5)]
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await service.claim_jobs("mail", wait=timedelta(0)) == []
    for each in before:
        await each.close()
