"""A session goes on at a new connection with its jobs, and its old connection has no say in them any more."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from app.backend.contract import Subscription
from app.backend.extensions import Service
from app.domain.job import Job
from app.domain.lifecycle import RevokeReason
from app.domain.status import JobStatus
from app.domain.stream import Revoke, SubscriptionReplaced
from app.store.claim import ClaimCall, Demand
from tests.builders import FAILURE, new_job
from tests.delivery.streams import PATIENCE_SECONDS, a_day_later, all_go_to, eventually, subscribed, take, take_events
from tests.services import running_service

HALF_A_DAY = timedelta(hours=12)


async def enqueued(service: Service, count: int) -> list[int]:
    return [(await service.enqueue(new_job())).id for _ in range(count)]


async def resumed(service: Service, token: str, *, executor: str = "mail", prefetch: int = 0) -> Subscription:
    return await service.subscribe_ready_jobs(executor, prefetch=prefetch, resume=token)


async def holding(service: Service, count: int) -> tuple[Subscription, list[Job]]:
    """A connection that has taken so many jobs."""
    one = await service.subscribe_ready_jobs("mail", prefetch=count)
    await enqueued(service, count)
    return one, await take(one, count)


async def test_resumed_session_holds_its_jobs_under_their_fences(service):
    one, jobs = await holding(service, 3)
    await one.close()
    again = await resumed(service, one.hello.resume, prefetch=5)
    assert (again.hello.resumed, again.hello.session) == (True, one.hello.session)
    assert again.hello.held == [(job.id, job.fence) for job in jobs]
    assert again.hello.credits == 2
    assert again.hello.resume != one.hello.resume
    for job in jobs:
        assert not (await service.mark_job_complete(job.id, fence=job.fence)).duplicate
    await again.close()


async def test_credits_are_what_prefetch_leaves_beside_the_held_jobs_and_each_comes_back(service):
    one, jobs = await holding(service, 2)
    await one.close()
    again = await resumed(service, one.hello.resume, prefetch=2)
    assert again.hello.credits == 0
    (waiting,) = await enqueued(service, 1)
    await service.mark_job_complete(jobs[0].id, fence=jobs[0].fence)
    assert [job.id for job in await take(again, 1)] == [waiting]
    await again.close()


async def test_session_without_jobs_is_resumed_too(service):
    one = await service.subscribe_ready_jobs("mail", worker="anna")
    await one.close()
    again = await resumed(service, one.hello.resume, prefetch=1)
    assert (again.hello.resumed, again.hello.held, again.hello.credits) == (True, [], 1)
    (job_id,) = await enqueued(service, 1)
    (job,) = await take(again, 1)
    assert (job.id, job.attempted_by) == (job_id, '["anna"]')
    await again.close()


@pytest.mark.parametrize("spoil", [lambda token: "nonesuch", lambda token: token + "x", lambda token: token[:-1]])
async def test_unknown_token_starts_a_fresh_session(service, spoil):
    one, _ = await holding(service, 1)
    again = await resumed(service, spoil(one.hello.resume), prefetch=1)
    assert (again.hello.resumed, again.hello.held, again.hello.credits) == (False, [], 1)
    assert again.hello.session != one.hello.session
    await again.close()
    await one.close()


async def test_token_leads_nowhere_at_another_executor(service):
    one, _ = await holding(service, 1)
    again = await resumed(service, one.hello.resume, executor="post")
    assert not again.hello.resumed
    await again.close()
    await one.close()


async def test_old_connection_is_told_that_it_was_replaced_and_gets_no_job_more(service):
    one, (job,) = await holding(service, 1)
    again = await resumed(service, one.hello.resume)
    with pytest.raises(SubscriptionReplaced):
        await one.next()
    one.request(10)
    (other,) = await enqueued(service, 1)
    assert [each.id for each in await all_go_to(again, 1)] == [other]
    await one.close()
    assert (await service.get_job(job.id)).status is JobStatus.EXECUTING
    await again.close()


async def test_old_lease_can_neither_claim_nor_renew(service):
    """Another process, which has not heard of the resume yet, is stopped by the store alone."""
    one, _ = await holding(service, 1)
    old_lease = one.lease
    again = await resumed(service, one.hello.resume)
    await enqueued(service, 1)
    (claimed,) = await service._dialect.claim([ClaimCall("mail", [Demand(old_lease, "worker", 5)])])
    assert claimed.jobs == [[]]
    assert await service._dialect.renew_sessions([(old_lease, 30.0, 0.0)]) == [False]
    await again.close()


async def test_jobs_that_the_old_connection_was_never_sent_go_back(service):
    one = await service.subscribe_ready_jobs("mail", prefetch=3)
    ids = await enqueued(service, 3)
    await eventually(lambda: all_executing(service, ids))
    again = await resumed(service, one.hello.resume)
    got = await all_go_to(again, 3)
    assert [(job.id, job.attempt, job.fence) for job in got] == [(job_id, 1, 2) for job_id in ids]
    await again.close()


async def test_whenever_a_session_is_resumed_no_job_is_lost_and_none_is_held_twice(service):
    """The old connection's claims are anywhere on their way: under way, committed, handed over, taken."""
    for turns in range(40):
        one = await service.subscribe_ready_jobs("mail", prefetch=5)
        enqueuing = asyncio.create_task(enqueued(service, 5))
        for _ in range(turns):
            await asyncio.sleep(0)
        again = await resumed(service, one.hello.resume)
        ids = await enqueuing
        # What the new connection holds and never got goes back, as the contract tells clients to do.
        for job_id, fence in again.hello.held:
            await service.release_job(job_id, fence=fence)
        got = await all_go_to(again, 5)
        assert [(job.id, job.attempt) for job in got] == [(job_id, 1) for job_id in ids]
        for job in got:
            await service.mark_job_complete(job.id, fence=job.fence)
        await again.close()
        await one.close()


async def test_revoke_comes_to_the_new_connection(service):
    one, (job,) = await holding(service, 1)
    again = await resumed(service, one.hello.resume)
    await service.mark_job_cancelled(job.id, FAILURE)
    assert await take_events(again, 1) == [Revoke(job.id, job.fence, RevokeReason.CANCELLED)]
    await again.close()


async def test_old_token_is_good_until_the_client_has_spoken(service):
    one, (job,) = await holding(service, 1)
    lost_hello = await resumed(service, one.hello.resume)
    again = await resumed(service, one.hello.resume)
    assert again.hello.held == [(job.id, job.fence)]
    with pytest.raises(SubscriptionReplaced):
        await lost_hello.next()
    assert not (await resumed(service, lost_hello.hello.resume)).hello.resumed
    again.confirm()
    await service.enqueue(new_job())  # written after the confirmation
    assert not (await resumed(service, one.hello.resume)).hello.resumed
    last = await resumed(service, again.hello.resume)
    assert last.hello.held == [(job.id, job.fence)]
    await last.close()


async def test_twenty_resumes_at_once_leave_one_connection_with_the_jobs(service):
    one, jobs = await holding(service, 4)
    tries = await asyncio.gather(*(resumed(service, one.hello.resume) for _ in range(20)))
    ends = [await ended(each) for each in tries]
    assert ends.count(False) == 1
    winner = tries[ends.index(False)]
    assert winner.hello.held == [(job.id, job.fence) for job in jobs]
    await service.mark_job_cancelled(jobs[0].id, FAILURE)
    assert await take_events(winner, 1) == [Revoke(jobs[0].id, jobs[0].fence, RevokeReason.CANCELLED)]
    await winner.close()
    await eventually(nobody_in_line(service))


async def test_confirmation_that_failed_is_made_by_the_next_message(service, tmp_path):
    one, _ = await holding(service, 1)
    await one.close()
    again = await resumed(service, one.hello.resume)
    execute_in(tmp_path, "CREATE TRIGGER no BEFORE UPDATE ON leases BEGIN SELECT RAISE(ABORT, 'not now'); END")
    again.confirm()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while again._is_confirmed:
            await asyncio.sleep(0)
    execute_in(tmp_path, "DROP TRIGGER no")
    again.confirm()
    await service.enqueue(new_job())
    assert not (await resumed(service, one.hello.resume)).hello.resumed
    await again.close()


async def test_session_that_was_rescued_starts_afresh(service):
    one, (job,) = await holding(service, 1)
    await one.close()
    with a_day_later():
        assert await service.rescue() == 1
        again = await resumed(service, one.hello.resume)
        assert not again.hello.resumed
        assert (await service.get_job(job.id)).status is JobStatus.RETRYABLE
        await again.close()


async def test_job_with_a_lease_of_its_own_keeps_it_through_a_resume(service):
    one, (job, other) = await holding(service, 2)
    await service.renew_lease(job.id, fence=job.fence, lease=HALF_A_DAY)
    before = (await service.get_job(job.id)).lease_expires_at
    await one.close()
    again = await resumed(service, one.hello.resume, prefetch=2)
    assert again.hello.held == [(job.id, job.fence), (other.id, other.fence)]
    assert (await service.get_job(job.id)).lease_expires_at == before
    (waiting,) = await enqueued(service, 1)
    await service.mark_job_complete(job.id, fence=job.fence)
    assert [each.id for each in await take(again, 1)] == [waiting]
    await again.close()


async def test_credit_of_a_job_that_got_its_own_lease_in_the_transaction_of_the_resume_comes_back(service):
    one, (job, other) = await holding(service, 2)
    again, *_ = await asyncio.gather(
        resumed(service, one.hello.resume, prefetch=2),
        service.enqueue_many([new_job("other")] * 1_000),  # keeps the writer busy: the two around it share a commit
        service.renew_lease(job.id, fence=job.fence, lease=HALF_A_DAY),
    )
    assert again.hello.held == [(job.id, job.fence), (other.id, other.fence)]
    (waiting,) = await enqueued(service, 1)
    await service.mark_job_complete(job.id, fence=job.fence)
    assert [each.id for each in await take(again, 1)] == [waiting]
    await again.close()


async def test_leases_of_sessions_that_came_and_went_are_forgotten(tmp_path):
    async with running_service(tmp_path) as service:
        for _ in range(30):
            async with subscribed(service):
                pass
        assert leases_in(tmp_path) == 30
        with a_day_later():
            assert await service.rescue() == 0
        assert leases_in(tmp_path) == 0


async def test_session_is_resumed_after_a_restart_of_the_server(tmp_path):
    async with running_service(tmp_path) as service:
        one, jobs = await holding(service, 2)
        token = one.hello.resume
    async with running_service(tmp_path) as service:
        again = await resumed(service, token, prefetch=2)
        assert again.hello.held == [(job.id, job.fence) for job in jobs]
        assert (await service.list_executors())[0].connections == 1
        await service.mark_job_complete(jobs[0].id, fence=jobs[0].fence)
        await again.close()


async def all_executing(service: Service, ids: list[int]) -> bool:
    return all([(await service.get_job(job_id)).status is JobStatus.EXECUTING for job_id in ids])


async def ended(subscription: Subscription) -> bool:
    """Whether the session went on elsewhere."""
    try:
        async with asyncio.timeout(0.05):
            await subscription.next()
    except SubscriptionReplaced:
        return True
    except TimeoutError:
        return False
    raise AssertionError("an event came")


def nobody_in_line(service: Service) -> Callable[[], Awaitable[bool]]:
    """Whether each executor's loop has ended, which it does after the last place has left."""

    async def is_so() -> bool:
        return not service._registry._lines._dispatchers

    return is_so


def leases_in(folder: Path) -> int:
    return execute_in(folder, "SELECT count(*) FROM leases")[0][0]


def execute_in(folder: Path, statement: str) -> list[tuple[int]]:
    connection = sqlite3.connect(folder / "jobs.db", isolation_level=None, timeout=30)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()
