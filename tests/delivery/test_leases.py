"""Nothing stays executing when its worker is gone, and nobody's word counts for a job that was taken back."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from app.backend.extensions import Service
from app.domain.errors import InvalidTransition, JobNotFound, StaleFence
from app.domain.job import Job
from app.domain.status import JobStatus
from app.domain.stream import Revoke
from tests.builders import FAILURE, HOUR, SECOND, new_job, now
from tests.delivery.streams import PATIENCE_SECONDS, a_day_later, eventually, subscribed, take, take_events
from tests.services import running_service

SHORT = 0.5
"""The shortest lease that a service can be set to, in seconds."""
FENCED = {
    "complete": lambda service, job: service.mark_job_complete(job.id, fence=job.fence),
    "retry": lambda service, job: service.mark_job_retryable(job.id, 0, FAILURE, fence=job.fence),
    "discard": lambda service, job: service.mark_job_discarded(job.id, FAILURE, fence=job.fence),
    "cancel": lambda service, job: service.mark_job_cancelled(job.id, FAILURE, fence=job.fence),
    "snooze": lambda service, job: service.mark_job_snoozed(job.id, 0, fence=job.fence),
    "release": lambda service, job: service.release_job(job.id, fence=job.fence),
    "heartbeat": lambda service, job: service.renew_lease(job.id, fence=job.fence),
}


async def claimed(service: Service, **members: int) -> Job:
    await service.enqueue(new_job(**members))
    (job,) = await service.claim_jobs("mail")
    return job


async def lost(service: Service, **members: int) -> Job:
    """A job as its worker got it, whose lease has run out and which was taken back."""
    job = await claimed(service, **members)
    with a_day_later():
        assert await service.rescue() == 1
    return job


class TestRescue:
    async def test_lost_job_is_due_at_once_with_its_error(self, service):
        job = await claimed(service)
        with a_day_later():
            before = now()
            assert await service.rescue() == 1
            after = now()
        found = await service.get_job(job.id)
        assert (found.status, found.attempt, found.fence, found.version) == ("retryable", 1, 2, job.version + 1)
        assert before <= found.scheduled_at <= after
        assert (found.lease_expires_at, found.error_count) == (None, 1)
        (error,) = found.errors
        assert (error.attempt, error.error_type, error.recorded_at) == (1, "lost", found.scheduled_at)

    async def test_lost_job_is_delivered_again(self, service):
        job = await claimed(service)
        with a_day_later():
            async with subscribed(service, prefetch=1) as one:
                assert await service.rescue() == 1
                (again,) = await take(one, 1)
        assert (again.id, again.attempt, again.fence) == (job.id, 2, 3)
        assert [error.error_type for error in again.errors] == ["lost"]

    async def test_lost_job_without_an_attempt_left_is_discarded(self, service):
        job = await lost(service, max_attempts=1)
        found = await service.get_job(job.id)
        assert (found.status, found.fence) == ("discarded", 2)
        assert found.finished_at is not None
        assert [error.error_type for error in found.errors] == ["lost"]
        assert await service.claim_jobs("mail") == []

    @pytest.mark.parametrize("operation", FENCED)
    async def test_acknowledgement_after_the_rescue_is_stale(self, service, operation):
        job = await lost(service)
        with a_day_later():
            for _ in range(2):
                before = await service.get_job(job.id)
                with pytest.raises(StaleFence):
                    await FENCED[operation](service, job)
                assert await service.get_job(job.id) == before
                await service.claim_jobs("mail")

    @pytest.mark.parametrize("operation", FENCED)
    async def test_acknowledgement_after_the_lease_but_before_the_rescue_counts(self, service, operation):
        job = await claimed(service)
        with a_day_later():
            await FENCED[operation](service, job)
            assert await service.rescue() == 0
            assert (await service.get_job(job.id)).fence == job.fence

    async def test_jobs_whose_lease_runs_are_left_alone(self, service):
        await service.enqueue_many([new_job() for _ in range(3)])
        await service.claim_jobs("mail", limit=3)
        assert await service.rescue() == 0
        (mail,) = await service.list_executors()
        assert mail.counts[JobStatus.EXECUTING] == 3

    async def test_thousands_of_lost_jobs_come_back_round_by_round(self, service):
        await service.enqueue_many([new_job(max_attempts=1 + number % 2) for number in range(2_300)])
        claimed = 0
        while jobs := await service.claim_jobs("mail", limit=900):
            claimed += len(jobs)
        rescued = 0
        with a_day_later():
            while found := await service.rescue():
                rescued += found
        assert claimed == rescued == 2_300
        (mail,) = await service.list_executors()
        assert (mail.counts[JobStatus.RETRYABLE], mail.counts[JobStatus.DISCARDED]) == (1_150, 1_150)

    async def test_jobs_behind_thousands_of_empty_leases_come_back_in_the_same_round(self, service, tmp_path):
        job = await claimed(service)
        with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection, connection:
            leases = [(f"session {number}",) for number in range(2_500)]
            connection.executemany(
                "INSERT INTO leases (session, executor, worker, owner, connected, expires_at)"
                " VALUES (?, 'mail', 'gone', 'me', 0, 1)",
                leases,
            )
        with a_day_later():
            assert await service.rescue() == 1
        assert (await service.get_job(job.id)).status == "retryable"


class TestRenewal:
    async def test_renewed_job_is_not_lost_and_its_version_stays(self, service):
        job = await claimed(service)
        with a_day_later():
            renewed = await service.renew_lease(job.id, fence=job.fence, lease=timedelta(hours=1))
            assert HOUR - SECOND < renewed.lease_expires_at - now() <= HOUR
            assert await service.rescue() == 0
        held = await service.get_job(job.id)
        assert (held.status, held.version, held.lease_expires_at) == (
            "executing",
            job.version,
            renewed.lease_expires_at,
        )
        assert not (await service.mark_job_complete(job.id, fence=job.fence)).duplicate

    async def test_renewal_is_for_one_job_alone(self, service):
        await service.enqueue_many([new_job() for _ in range(3)])
        jobs = await service.claim_jobs("mail", limit=3)
        await service.renew_lease(jobs[1].id, fence=jobs[1].fence, lease=timedelta(days=2))
        with a_day_later():
            assert await service.rescue() == 2
        assert [(await service.get_job(job.id)).status for job in jobs] == ["retryable", "executing", "retryable"]

    async def test_lease_of_a_stream_is_not_shortened(self, service):
        async with subscribed(service, prefetch=1) as one:
            await service.enqueue(new_job())
            (job,) = await take(one, 1)
            renewed = await service.renew_lease(job.id, fence=job.fence, lease=timedelta(seconds=1))
            assert renewed.lease_expires_at == job.lease_expires_at
            assert (await service.get_job(job.id)).lease_expires_at == job.lease_expires_at

    async def test_default_is_the_lease_of_the_service(self, service):
        await service.enqueue(new_job())
        (job,) = await service.claim_jobs("mail", lease=timedelta(seconds=1))
        renewed = await service.renew_lease(job.id, fence=job.fence)
        assert 29 * SECOND < renewed.lease_expires_at - now() <= 30 * SECOND

    async def test_renewal_needs_the_fence(self, service):
        await service.enqueue(new_job())
        (job,) = await service.claim_jobs("mail")
        for fence in (0, job.fence + 1):
            with pytest.raises(StaleFence):
                await service.renew_lease(job.id, fence=fence)
        await service.mark_job_complete(job.id, fence=job.fence)
        with pytest.raises(StaleFence):
            await service.renew_lease(job.id, fence=job.fence)
        with pytest.raises(JobNotFound):
            await service.renew_lease(job.id + 1, fence=1)

    async def test_renewal_of_a_streamed_job_does_not_bind_its_neighbours_when_the_worker_is_gone(self, tmp_path):
        async with running_service(tmp_path, lease_seconds=SHORT) as service:
            async with subscribed(service, prefetch=2) as one:
                await service.enqueue_many([new_job(), new_job()])
                held, neighbour = await take(one, 2)
                await service.renew_lease(held.id, fence=held.fence, lease=timedelta(hours=1))
            async with asyncio.timeout(PATIENCE_SECONDS):
                (again,) = await service.claim_jobs("mail", wait=timedelta(seconds=30))
            assert again.id == neighbour.id


class TestWorkers:
    """The service by itself, with the shortest lease there is."""

    @pytest.fixture
    async def service(self, tmp_path):
        async with running_service(tmp_path, lease_seconds=SHORT) as service:
            yield service

    async def test_jobs_of_a_worker_that_left_are_delivered_to_another(self, service):
        async with subscribed(service, prefetch=1) as one:
            await service.enqueue(new_job())
            (job,) = await take(one, 1)
        (again,) = await self.next_claim(service)
        assert (again.id, again.attempt, again.errors[0].error_type) == (job.id, 2, "lost")

    async def test_silent_worker_loses_its_job_and_is_told(self, service):
        async with subscribed(service, prefetch=1) as one:
            await service.enqueue(new_job())
            (job,) = await take(one, 1)
            assert await take_events(one, 1) == [Revoke(job.id, job.fence, "lost")]
            with pytest.raises(StaleFence):
                await service.mark_job_complete(job.id, fence=job.fence)

    async def test_living_worker_keeps_its_job_however_long_it_runs(self, service):
        """Another worker's silence, for twice as long as a lease, shows that the time would have sufficed."""
        async with (
            subscribed(service, "living", prefetch=1) as living,
            subscribed(service, "silent", prefetch=1) as silent,
        ):
            await service.enqueue_many([new_job("living"), new_job("silent")])
            (kept,) = await take(living, 1)
            (lost,) = await take(silent, 1)
            heart = asyncio.create_task(beat(living))
            assert await take_events(silent, 1) == [Revoke(lost.id, lost.fence, "lost")]
            await asyncio.sleep(2 * SHORT)  # the time that must pass without an effect
            assert (await service.get_job(kept.id)).status is JobStatus.EXECUTING
            assert not (await service.mark_job_complete(kept.id, fence=kept.fence)).duplicate
            heart.cancel()

    async def test_heartbeats_do_not_shorten_the_longer_lease_of_one_job(self, service):
        async with subscribed(service, prefetch=2) as one:
            await service.enqueue_many([new_job(), new_job()])
            longer, neighbour = await take(one, 2)
            await service.renew_lease(longer.id, fence=longer.fence, lease=timedelta(hours=1))
            before = (await service.get_job(neighbour.id)).lease_expires_at
            heart = asyncio.create_task(beat(one))
            await eventually(lambda: is_leased_beyond(service, neighbour.id, before))
            heart.cancel()
            assert await is_leased_beyond(service, longer.id, now() + HOUR - 10 * SECOND)

    async def test_silent_worker_does_not_hold_up_the_others(self, service):
        """Its lease is gone while its credits stand: a claim that they get no jobs for has not emptied the store."""
        async with subscribed(service, prefetch=5) as silent, subscribed(service) as living:
            heart = asyncio.create_task(beat(living))
            await service.enqueue(new_job())
            (job,) = await take(silent, 1)
            await take_events(silent, 1)
            (again,) = await self.next_claim(service)
            assert again.id == job.id
            await service.enqueue_many([new_job() for _ in range(700)])
            living.request(700)
            await take(living, 700)
            heart.cancel()

    async def test_credits_of_a_silent_worker_keep_nobody_busy(self, service):
        async with subscribed(service, prefetch=5) as silent:
            await service.enqueue(new_job())
            await take(silent, 1)
            await take_events(silent, 1)
            statements: list[str] = []
            writer = service._dialect._writer._connection
            writer.set_trace_callback(statements.append)
            await asyncio.sleep(SHORT)  # the time in which little must happen
            writer.set_trace_callback(None)
            assert sum(each.startswith("BEGIN") for each in statements) < 20

    async def test_job_without_an_attempt_left_is_discarded(self, service):
        async with subscribed(service, prefetch=1) as one:
            enqueued = await service.enqueue(new_job(max_attempts=1))
            await take(one, 1)
        await eventually(lambda: has_status(service, enqueued.id, JobStatus.DISCARDED))
        with pytest.raises(InvalidTransition):
            await service.mark_job_complete(enqueued.id)

    async def test_jobs_left_by_the_last_process_come_back(self, tmp_path):
        async with running_service(tmp_path, lease_seconds=SHORT) as first, subscribed(first, prefetch=1) as one:
            await first.enqueue(new_job())
            (job,) = await take(one, 1)
        async with running_service(tmp_path, lease_seconds=SHORT) as second:
            (again,) = await self.next_claim(second)
            assert (again.id, again.attempt, again.errors[0].error_type) == (job.id, 2, "lost")

    async def test_new_process_lets_the_living_renew_first(self, tmp_path):
        async with running_service(tmp_path, lease_seconds=1) as first:
            await first.enqueue(new_job())
            (job,) = await first.claim_jobs("mail", lease=timedelta(milliseconds=1))
        started = now()
        async with running_service(tmp_path, lease_seconds=1) as second:
            (again,) = await self.next_claim(second)
            assert again.id == job.id
            assert again.scheduled_at - started >= SECOND

    async def next_claim(self, service: Service) -> list[Job]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await service.claim_jobs("mail", wait=timedelta(seconds=30))


async def beat(subscription) -> None:
    while True:
        subscription.alive()
        await asyncio.sleep(SHORT / 8)


async def is_leased_beyond(service: Service, job_id: int, instant: int) -> bool:
    expires_at = (await service.get_job(job_id)).lease_expires_at
    return expires_at is not None and expires_at > instant


async def has_status(service: Service, job_id: int, status: JobStatus) -> bool:
    return (await service.get_job(job_id)).status is status


async def test_heartbeats_of_a_claimed_job_leave_no_lease_behind(tmp_path):
    async with running_service(tmp_path) as service:
        job = await claimed(service)
        for _ in range(5):
            await service.renew_lease(job.id, fence=job.fence, lease=timedelta(hours=1))
        renewed = await service.renew_lease(job.id, fence=job.fence, lease=timedelta(minutes=1))
        assert (await service.get_job(job.id)).lease_expires_at == renewed.lease_expires_at
        connection = sqlite3.connect(tmp_path / "jobs.db")
        assert connection.execute("SELECT count(*) FROM leases").fetchone() == (1,)
        connection.close()


async def test_connection_that_ends_leaves_a_whole_lease_from_its_last_sign_of_life(service):
    """Renewals are written now and then: what came since the last one counts as well."""
    async with subscribed(service, prefetch=1) as one:
        await service.enqueue(new_job())
        (job,) = await take(one, 1)
        await asyncio.sleep(0.3)  # longer than any rounding, and too short for a renewal of its own
        one.alive()
    assert (await service.get_job(job.id)).lease_expires_at >= job.lease_expires_at + 250_000
