"""The connection to PostgreSQL breaks between a commit and its reply: what was done is found out; nothing sticks."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from app.backend.extensions import Service
from app.delivery import sessions
from app.domain.errors import DatabaseUnavailable
from app.domain.idempotency import Idempotency
from app.domain.lifecycle import RevokeReason
from app.domain.query import ExecutorEqual
from app.domain.status import JobStatus
from app.domain.stream import Revoke
from tests.builders import FAILURE, new_job
from tests.delivery.streams import eventually, subscribed, take, take_events
from tests.postgres import empty
from tests.reply_thief import ReplyThief
from tests.services import running_service

CLAIM, COMPLETE, INSERT, RELEASE, COMMIT = (
    "RECURSIVE living",
    "completed AS",
    "inserted AS",
    "UPDATE jobs SET",
    "COMMIT",
)
PATIENCE_SECONDS = 60

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def thief(postgres_database) -> AsyncIterator[ReplyThief]:
    empty(postgres_database)
    async with ReplyThief(postgres_database).running() as thief:
        yield thief


@pytest.fixture
async def service(thief, tmp_path) -> AsyncIterator[Service]:
    """One whose leases run out long after the test."""
    async with running_service(tmp_path, database_url=thief.url, lease_seconds=600) as service:
        yield service


async def done(stolen: asyncio.Future[None]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await stolen


class TestClaim:
    async def test_jobs_that_no_worker_was_sent_come_again_to_the_same_session(self, service, thief):
        async with subscribed(service) as worker:
            await service.enqueue_many([new_job() for _ in range(3)])
            stolen = thief.steal(CLAIM)
            worker.request(2)
            await done(stolen)
            jobs = await take(worker, 2)
            assert [(job.fence, job.attempt, job.error_count) for job in jobs] == [(2, 1, 0)] * 2
            assert (worker.open_credits, worker.held_jobs) == (0, 2)
            worker.request(1)
            (third,) = await take(worker, 1)
            assert third.fence == 1

    async def test_jobs_that_the_session_has_stay_with_it(self, service, thief):
        async with subscribed(service) as worker:
            await service.enqueue_many([new_job(), new_job()])
            worker.request(1)
            (held,) = await take(worker, 1)
            await service.renew_lease(held.id, fence=held.fence, lease=timedelta(hours=1))
            stolen = thief.steal(CLAIM)
            worker.request(1)
            await done(stolen)
            (lost,) = await take(worker, 1)
            assert lost.fence == 2
            assert not (await service.mark_job_complete(held.id, fence=held.fence)).duplicate
            assert worker.held_jobs == 1

    async def test_jobs_of_a_statement_that_was_executed_late_come_again(self, service, thief, monkeypatch):
        """What is sent to a backend that stands still is executed once it goes on, though nobody waits for it."""
        monkeypatch.setattr(sessions, "_LATE_SECONDS", 3.0)
        async with subscribed(service) as one, subscribed(service) as other:
            await service.enqueue(new_job())
            late = thief.make_late(CLAIM)
            one.request(1)
            await asyncio.wait_for(late.begun.wait(), PATIENCE_SECONDS)
            one.stop()
            await eventually(lambda: asyncio.sleep(0, not service._registry._sessions._doubted.is_set()))
            await asyncio.sleep(1)  # for the first audit to be over
            late.let.set()
            await done(late.done)
            other.request(1)
            (job,) = await take(other, 1)
            assert (job.fence, job.attempt) == (2, 1)

    async def test_jobs_of_a_poll_are_due_again_at_once(self, service, thief):
        await service.enqueue(new_job())
        stolen = thief.steal(CLAIM)
        with pytest.raises(DatabaseUnavailable):
            await service.claim_jobs("mail", lease=timedelta(hours=12))
        assert stolen.done()
        (job,) = await service.claim_jobs("mail", wait=timedelta(seconds=PATIENCE_SECONDS))
        assert (job.fence, job.attempt) == (2, 1)


class TestAcknowledge:
    async def test_complete_that_was_lost_frees_its_credit(self, service, thief):
        async with subscribed(service, prefetch=1) as worker:
            await service.enqueue_many([new_job(), new_job()])
            (job,) = await take(worker, 1)
            thief.steal(COMPLETE)
            with pytest.raises(DatabaseUnavailable):
                await service.mark_job_complete(job.id, fence=job.fence)
            assert (await service.mark_job_complete(job.id, fence=job.fence)).duplicate
            (following,) = await take(worker, 1)
            assert following.id != job.id

    async def test_retry_that_was_lost_frees_its_credit(self, service, thief):
        async with subscribed(service, prefetch=1) as worker:
            await service.enqueue(new_job())
            (job,) = await take(worker, 1)
            thief.steal(COMMIT)
            with pytest.raises(DatabaseUnavailable):
                await service.mark_job_retryable(job.id, timedelta(0), FAILURE, fence=job.fence)
            (again,) = await take(worker, 1)
            assert (again.id, again.fence) == (job.id, 2)

    @pytest.mark.parametrize("reason", [RevokeReason.CANCELLED, RevokeReason.ACKNOWLEDGED])
    async def test_job_that_was_taken_away_is_revoked(self, service, thief, reason):
        async with subscribed(service, prefetch=1) as worker:
            await service.enqueue(new_job())
            (job,) = await take(worker, 1)
            thief.steal(COMMIT)
            cancels = reason is RevokeReason.CANCELLED
            call = service.mark_job_cancelled(job.id, FAILURE) if cancels else service.mark_job_complete(job.id)
            with pytest.raises(DatabaseUnavailable):
                await call
            assert await take_events(worker, 1) == [Revoke(job.id, job.fence, reason)]
            assert worker.open_credits == 1

    async def test_lease_of_its_own_that_was_lost_is_known_again(self, service, thief):
        async with subscribed(service, prefetch=1) as worker:
            await service.enqueue_many([new_job(), new_job()])
            (job,) = await take(worker, 1)
            thief.steal(COMMIT)
            with pytest.raises(DatabaseUnavailable):
                await service.renew_lease(job.id, fence=job.fence, lease=timedelta(hours=1))
            await eventually(lambda: asyncio.sleep(0, len(worker.leases) == 2))
            await service.mark_job_complete(job.id, fence=job.fence)
            await take(worker, 1)

    async def test_job_that_was_given_back_in_vain_goes_to_others(self, service, thief):
        async with subscribed(service) as one, subscribed(service) as other:
            one.request(1)
            await service.enqueue(new_job())
            await eventually(lambda: asyncio.sleep(0, one.held_jobs == 1))
            stolen = thief.steal(RELEASE)
            one.stop()
            await done(stolen)
            other.request(1)
            (job,) = await take(other, 1)
            assert (job.fence, job.attempt) == (2, 1)


class TestEnqueue:
    async def test_job_that_was_stored_is_stored_once_and_runs(self, service, thief):
        async with subscribed(service, prefetch=1) as worker:
            thief.steal(INSERT)
            with pytest.raises(DatabaseUnavailable):
                await service.enqueue(new_job())
            (job,) = await take(worker, 1)
            await service.mark_job_complete(job.id, fence=job.fence)
        (stored,) = (await service.query(ExecutorEqual("mail"))).jobs
        assert stored.status is JobStatus.COMPLETE

    async def test_repeat_under_the_same_key_gets_the_answer(self, service, thief):
        thief.steal(COMMIT)
        call = Idempotency(scope="enqueue", key="k", body_hash="h")
        with pytest.raises(DatabaseUnavailable):
            await service.enqueue(new_job(), idempotency=call)
        enqueued = await service.enqueue(new_job(), idempotency=call)
        assert call.is_replay
        (stored,) = (await service.query(ExecutorEqual("mail"))).jobs
        assert stored.id == enqueued.id
