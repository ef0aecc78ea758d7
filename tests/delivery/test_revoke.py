"""A worker is told when a job is taken from it, never before it got the job, and never for what it never got."""

import asyncio

import pytest

from app.delivery.subscription import Subscription
from app.domain.job import Job
from app.domain.lifecycle import RevokeReason, Settlement
from app.domain.status import JobStatus
from app.domain.stream import Event, Hello, Revoke, Stopped
from tests.builders import DAY, FAILURE, new_job, now
from tests.delivery.streams import PATIENCE_SECONDS, all_go_to, eventually, spin, subscribed, take, take_events
from tests.held_writer import until_waiting, writer_held

TAKING_AWAY = {
    "cancelled": lambda service, job_id: service.mark_job_cancelled(job_id, FAILURE),
    "acknowledged": lambda service, job_id: service.mark_job_discarded(job_id, FAILURE),
    "rerun": lambda service, job_id: service.rerun_job(job_id, force=True),
}
UNDER_THE_FENCE = {
    "complete": lambda service, job: service.mark_job_complete(job.id, fence=job.fence),
    "retry": lambda service, job: service.mark_job_retryable(job.id, 0, FAILURE, fence=job.fence),
    "discard": lambda service, job: service.mark_job_discarded(job.id, FAILURE, fence=job.fence),
    "cancel": lambda service, job: service.mark_job_cancelled(job.id, FAILURE, fence=job.fence),
    "snooze": lambda service, job: service.mark_job_snoozed(job.id, 0, fence=job.fence),
    "release": lambda service, job: service.release_job(job.id, fence=job.fence),
}


@pytest.mark.parametrize("reason", TAKING_AWAY)
async def test_revoke_names_the_fence_that_the_worker_holds_and_the_reason(service, reason):
    async with subscribed(service) as one:
        await service.enqueue(new_job())
        one.request(1)
        (job,) = await take(one, 1)
        await TAKING_AWAY[reason](service, job.id)
        assert await take_events(one, 1) == [Revoke(job.id, job.fence, reason)]


@pytest.mark.parametrize("operation", UNDER_THE_FENCE)
async def test_acknowledgement_under_the_fence_revokes_nothing(service, operation):
    async with subscribed(service) as one:
        await service.enqueue(new_job())
        one.request(1)
        (job,) = await take(one, 1)
        await UNDER_THE_FENCE[operation](service, job)
        one.stop("s")
        assert await take_events(one, 1) == [Stopped("s")]


@pytest.mark.parametrize("reason", TAKING_AWAY)
async def test_job_taken_away_before_it_was_sent_is_neither_sent_nor_revoked(service, reason):
    async with subscribed(service, prefetch=2) as one, subscribed(service) as other:
        for_nobody = await service.enqueue(new_job())
        await eventually(lambda: is_executing(service, for_nobody.id))
        await TAKING_AWAY[reason](service, for_nobody.id)
        if reason == "rerun":
            (again,) = await take(one, 1)
            assert (again.id, again.fence) == (for_nobody.id, 3)
        following = await service.enqueue(new_job())
        assert [job.id for job in await take(one, 1)] == [following.id]
        await service.enqueue_many([new_job() for _ in range(3)])
        if reason != "rerun":
            assert len(await take(one, 1)) == 1, "its credit was kept"
        await all_go_to(other, 3 - (reason != "rerun"))


async def test_stream_whose_unsent_jobs_were_all_taken_away_goes_on(service):
    """So much waits to be sent that no more is claimed; then nothing of it does."""
    big = "x" * 500_000
    async with subscribed(service, prefetch=30) as one:
        enqueued = await service.enqueue_many([new_job(data=big) for _ in range(12)])
        for each in enqueued:
            await eventually(lambda job_id=each.id: is_executing(service, job_id))
        for each in enqueued:
            await service.mark_job_cancelled(each.id, FAILURE)
        following = await service.enqueue(new_job())
        assert [job.id for job in await take(one, 1)] == [following.id]


async def test_revoke_never_comes_before_its_job(service):
    """An operator takes jobs away at every turn of the event loop around their claim."""
    seen: list[Event] = []
    ids: list[int] = []
    async with subscribed(service) as one:
        watching = asyncio.create_task(watch(one, seen))
        for number in range(200):
            ids.append((await service.enqueue(new_job())).id)
            one.request(1)
            for _ in range(number % 20):
                await asyncio.sleep(0)
            await TAKING_AWAY["cancelled" if number % 2 else "acknowledged"](service, ids[-1])
            one.stop()
        await end_of(one, watching)
    assert_each_sent_job_is_revoked_once(seen)
    sent = {event.id for event in seen if isinstance(event, Job)}
    # Claimed once, and taken away once; a claim that met the stop was given back before.
    claimed = {job_id for job_id in ids if (await service.get_job(job_id)).fence >= 2}
    assert sent <= claimed
    assert sent, "some were sent before they were taken away"


async def test_job_taken_away_in_the_transaction_of_its_claim_is_not_claimed(service):
    async with subscribed(service) as one:
        job = await service.enqueue(new_job(scheduled_at=now() + DAY))
        async with writer_held(service):
            rerun = asyncio.create_task(service.rerun_job(job.id))
            await until_waiting(service, 1)
            one.request(1)
            await until_waiting(service, 2)
            cancel = asyncio.create_task(service.mark_job_cancelled(job.id, FAILURE))
            await until_waiting(service, 3)
        await asyncio.gather(rerun, cancel)
        stored = await service.get_job(job.id)
        assert (stored.status, stored.attempt, stored.fence) == (JobStatus.CANCELLED, 0, 0)
        await service.enqueue(new_job())
        await take(one, 1)


async def test_job_whose_claim_is_heard_of_after_its_end_is_neither_sent_nor_revoked():
    """As over PostgreSQL, where each connection tells of its own transactions."""
    job = Job(**dict.fromkeys(Job.__struct_fields__, 0) | {"id": 5, "fence": 3, "data": "1", "metadata": "1"})
    subscription = Subscription(
        hello=Hello(session="s", resume="r", resumed=False, held=[], credits=2, lease_seconds=30),
        executor="mail",
        leases=[1],
        worker="worker",
        prefetch=2,
        claims_along=False,
        expect_credits=lambda: None,
        demand_changed=lambda: None,
        give_back=lambda _: None,
        left=lambda *_: None,
        confirm=lambda _: None,
    )
    token = subscription.reserve(2)
    subscription.settled(Settlement(1, 5, 3, RevokeReason.CANCELLED))
    assert subscription.give([job], reserved=2, token=token) == []
    subscription.stop("s")
    assert await subscription.next() == [Stopped("s")]


async def test_revokes_and_jobs_of_a_busy_stream_keep_their_order(service):
    seen: list[Event] = []
    async with subscribed(service, prefetch=10) as one:
        watching = asyncio.create_task(watch(one, seen))
        for number in range(200):
            job_id = (await service.enqueue(new_job())).id
            await spin(number % 40 * 20)
            await TAKING_AWAY["cancelled"](service, job_id)
        await end_of(one, watching)
    assert_each_sent_job_is_revoked_once(seen)


async def watch(subscription: Subscription, seen: list[Event]) -> None:
    while Stopped("end") not in seen:
        seen.extend(await subscription.next())


async def end_of(subscription: Subscription, watching: asyncio.Task[None]) -> None:
    subscription.stop("end")
    async with asyncio.timeout(PATIENCE_SECONDS):
        await watching


def assert_each_sent_job_is_revoked_once(seen: list[Event]) -> None:
    sent: set[tuple[int, int]] = set()
    revoked: list[tuple[int, int]] = []
    for event in seen:
        if isinstance(event, Job):
            sent.add((event.id, event.fence))
        elif isinstance(event, Revoke):
            assert (event.job_id, event.fence) in sent, "a revoke before its job, or without one"
            revoked.append((event.job_id, event.fence))
    assert sorted(revoked) == sorted(sent)


async def test_finished_job_is_not_revoked_by_a_later_rerun(service):
    async with subscribed(service) as one:
        await service.enqueue(new_job())
        one.request(1)
        (job,) = await take(one, 1)
        await service.mark_job_complete(job.id, fence=job.fence)
        await service.rerun_job(job.id)
        one.stop("s")
        assert await take_events(one, 1) == [Stopped("s")]


async def is_executing(service, job_id) -> bool:
    return (await service.get_job(job_id)).status == "executing"
