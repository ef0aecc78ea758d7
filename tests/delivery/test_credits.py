"""Demand decides what is delivered: never more jobs than credits, and who gives a credit back."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from random import Random

import pytest

from app.backend.contract import Subscription
from app.backend.extensions import Service
from app.domain.errors import BackendError
from app.domain.job import Job
from app.domain.lifecycle import Acknowledgement, Operation
from app.domain.status import JobStatus
from app.domain.stream import Revoke, Stopped
from tests.builders import DAY, FAILURE, new_job, now
from tests.delivery.streams import all_go_to, eventually, spin, subscribed, take, take_events, take_until_stopped


def complete(job: Job) -> Acknowledgement:
    return Acknowledgement(operation=Operation.COMPLETE, job_id=job.id, fence=job.fence)


async def enqueue(service: Service, count: int = 1) -> list[int]:
    return [enqueued.id for enqueued in await service.enqueue_many([new_job() for _ in range(count)])]


class TestRequest:
    async def test_no_job_comes_without_a_credit(self, service):
        async with subscribed(service), subscribed(service) as busy:
            ids = await enqueue(service, 3)
            assert [job.id for job in await all_go_to(busy, 3)] == ids

    async def test_as_many_jobs_come_as_there_are_credits(self, service):
        async with subscribed(service) as one, subscribed(service) as other:
            ids = await enqueue(service, 10)
            one.request(3)
            assert [job.id for job in await take(one, 3)] == ids[:3]
            assert [job.id for job in await all_go_to(other, 7)] == ids[3:]

    async def test_credits_add_up(self, service):
        async with subscribed(service) as one, subscribed(service) as other:
            one.request(2)
            one.request(0)
            one.request(3)
            await enqueue(service, 8)
            await take(one, 5)
            await all_go_to(other, 3)

    async def test_credits_beyond_ten_thousand_are_cut(self, service):
        async with subscribed(service) as one, subscribed(service) as other:
            await enqueue(service, 9_000)
            await enqueue(service, 3_000)
            one.request(9_999)
            one.request(10_000)
            await take(one, 10_000)
            await all_go_to(other, 2_000)

    async def test_without_prefetch_a_finished_job_gives_no_credit_back(self, service):
        async with subscribed(service) as one, subscribed(service) as other:
            one.request(1)
            await enqueue(service, 3)
            (job,) = await take(one, 1)
            await service.mark_job_complete(job.id, fence=job.fence)
            await all_go_to(other, 2)

    async def test_iterating_asks_for_one_job_at_a_time(self, service):
        async with subscribed(service) as one, subscribed(service) as other:
            ids = await enqueue(service, 5)
            jobs = aiter(one)
            assert [(await anext(jobs)).id for _ in range(2)] == ids[:2]
            await all_go_to(other, 3)


ROADS: dict[str, Callable[[Service, Job], Awaitable[object]]] = {
    "complete": lambda service, job: service.mark_job_complete(job.id, fence=job.fence),
    "retry": lambda service, job: service.mark_job_retryable(job.id, now() + DAY, FAILURE, fence=job.fence),
    "discard": lambda service, job: service.mark_job_discarded(job.id, FAILURE, fence=job.fence),
    "cancel": lambda service, job: service.mark_job_cancelled(job.id, FAILURE, fence=job.fence),
    "snooze": lambda service, job: service.mark_job_snoozed(job.id, now() + DAY, fence=job.fence),
    "release": lambda service, job: service.release_job(job.id, fence=job.fence),
    "acknowledge in a list": lambda service, job: service.acknowledge(
        [Acknowledgement(operation=Operation.COMPLETE, job_id=job.id, fence=job.fence)]
    ),
}
TAKING_AWAY: dict[str, Callable[[Service, Job], Awaitable[object]]] = {
    "acknowledged": lambda service, job: service.mark_job_complete(job.id),
    "cancelled": lambda service, job: service.mark_job_cancelled(job.id, FAILURE),
    "rerun": lambda service, job: service.rerun_job(job.id, force=True),
}


class TestPrefetch:
    async def test_connection_starts_with_its_prefetch(self, service):
        async with subscribed(service, prefetch=4) as one, subscribed(service) as other:
            assert one.hello.credits == 4
            await enqueue(service, 6)
            await take(one, 4)
            await all_go_to(other, 2)

    @pytest.mark.parametrize("road", ROADS)
    async def test_job_no_longer_held_gives_its_credit_back_by_every_road(self, service, road):
        async with subscribed(service, prefetch=1) as one, subscribed(service) as other:
            (job,) = await self.one_held_and_two_waiting(service, one)
            await ROADS[road](service, job)
            await take(one, 1)
            await all_go_to(other, 1 + (road == "release"))

    @pytest.mark.parametrize("reason", TAKING_AWAY)
    async def test_job_taken_away_gives_its_credit_back_with_a_revoke(self, service, reason):
        async with subscribed(service, prefetch=1) as one, subscribed(service) as other:
            (job,) = await self.one_held_and_two_waiting(service, one)
            await TAKING_AWAY[reason](service, job)
            revoke, following = await take_events(one, 2)
            assert revoke == Revoke(job.id, job.fence, reason)
            assert isinstance(following, Job)
            await all_go_to(other, 1 + (reason == "rerun"))

    async def test_job_whose_lease_was_renewed_by_rest_gives_its_credit_back_too(self, service):
        async with subscribed(service, prefetch=1) as one:
            (job,) = await self.one_held_and_two_waiting(service, one)
            await service.renew_lease(job.id, fence=job.fence, lease=timedelta(hours=1))
            await service.mark_job_complete(job.id, fence=job.fence)
            await take(one, 1)

    async def test_refused_and_duplicate_acknowledgements_give_none(self, service):
        async with subscribed(service, prefetch=1) as one, subscribed(service) as other:
            (first,) = await self.one_held_and_two_waiting(service, one)
            await service.mark_job_complete(first.id, fence=first.fence)
            (second,) = await take(one, 1)
            assert (await service.mark_job_complete(first.id, fence=first.fence)).duplicate
            refused = [
                Acknowledgement(operation=Operation.DISCARD, job_id=first.id, fence=first.fence, error=FAILURE),
                Acknowledgement(operation=Operation.COMPLETE, job_id=second.id, fence=second.fence + 1),
                Acknowledgement(operation=Operation.COMPLETE, job_id=second.id + 1_000, fence=1),
                Acknowledgement(operation=Operation.COMPLETE, job_id=first.id),
                Acknowledgement(operation=Operation.CANCEL, job_id=first.id, error=FAILURE),
            ]
            outcomes = await service.acknowledge(refused)
            assert all(isinstance(outcome, BackendError) or outcome.duplicate for outcome in outcomes)
            await all_go_to(other, 1)

    async def test_job_of_another_connection_gives_none(self, service):
        async with subscribed(service, prefetch=1) as one, subscribed(service) as other:
            await self.one_held_and_two_waiting(service, one)
            other.request(1)
            (job,) = await take(other, 1)
            await service.mark_job_complete(job.id, fence=job.fence)
            await all_go_to(other, 1)

    async def one_held_and_two_waiting(self, service, subscription) -> list[Job]:
        await enqueue(service, 3)
        return await take(subscription, 1)

    @pytest.mark.parametrize("tells", [False, True])
    async def test_no_more_jobs_are_held_than_the_prefetch_however_they_are_acknowledged(self, service, tells):
        """Lists, single calls and operators at once; with ``tells`` acknowledgements may share their claim's commit."""
        chance = Random(8)
        await enqueue(service, 1_000)
        held: dict[int, Job] = {}
        finished: set[int] = set()
        async with subscribed(service, prefetch=10) as one, subscribed(service) as other, asyncio.TaskGroup() as calls:
            async with asyncio.timeout(30):
                while len(finished) < 1_000:
                    for event in await one.next():
                        if isinstance(event, Job):
                            held[event.id] = event
                            assert len(held) <= 10
                    # At the end no event comes any more that would bring the rest here.
                    share = 0.7 if len(finished) < 900 else 1
                    parting = [held.pop(job_id) for job_id in list(held) if chance.random() < share or len(held) == 10]
                    finished.update(job.id for job in parting)
                    if tells:
                        one.acknowledging()
                    cut = chance.randrange(len(parting) + 1)
                    calls.create_task(service.acknowledge([complete(job) for job in parting[:cut]]))
                    for job in parting[cut:]:
                        by_operator = chance.random() < 0.3
                        calls.create_task(service.mark_job_complete(job.id, fence=None if by_operator else job.fence))
            await eventually(lambda: all_are_complete(service))
            await enqueue(service, 15)
            assert len(await take_jobs(one, 10)) == 10
            await all_go_to(other, 5)


class TestStop:
    async def test_stop_takes_the_credits_of_acknowledgements_that_are_on_their_way(self, service):
        async with subscribed(service, prefetch=1) as one:
            await enqueue(service, 1)
            await take(one, 1)
            one._acknowledging = True
            assert one.returns
            one.stop()
            assert not one.returns

    async def test_stop_takes_all_open_credits(self, service):
        async with subscribed(service, prefetch=5) as one, subscribed(service) as other:
            one.request(7)
            one.stop("s")
            await enqueue(service, 3)
            assert await take_until_stopped(one, "s") == []
            await all_go_to(other, 3)

    async def test_request_resumes(self, service):
        async with subscribed(service, prefetch=5) as one, subscribed(service) as other:
            one.stop("s")
            await take_until_stopped(one, "s")
            one.request(2)
            await enqueue(service, 3)
            await take(one, 2)
            await all_go_to(other, 1)

    async def test_stop_takes_the_return_of_credits_and_request_resumes_it(self, service):
        async with subscribed(service, prefetch=2) as one, subscribed(service) as other:
            await enqueue(service, 2)
            first, second = await take(one, 2)
            one.stop("s")
            assert await take_until_stopped(one, "s") == []
            await service.mark_job_complete(first.id, fence=first.fence)
            await enqueue(service, 2)
            await all_go_to(other, 2)
            other.stop("s")
            await take_until_stopped(other, "s")
            one.request(0)
            await service.mark_job_complete(second.id, fence=second.fence)
            await enqueue(service, 2)
            await take(one, 1)
            await all_go_to(other, 1)

    async def test_each_stop_with_a_reference_is_answered_in_order(self, service):
        async with subscribed(service) as one:
            one.stop("a")
            one.stop(None)
            one.stop("b")
            one.request(1)
            await enqueue(service)
            events = await take_events(one, 3)
            assert events[:2] == [Stopped("a"), Stopped("b")]
            assert isinstance(events[2], Job)

    async def test_stop_costs_the_same_however_many_have_not_been_answered(self, service):
        async with subscribed(service) as one:
            began_at = time.thread_time()
            for _ in range(10_000):
                one.stop("s")
            assert time.thread_time() < began_at + 1, "seven times as much if each looks at all before it"
            assert len(await take_events(one, 10_000)) == 10_000

    async def test_whenever_a_stop_comes_no_job_follows_it_and_none_is_lost(self, service):
        for number in range(60):
            async with subscribed(service) as one, subscribed(service) as other:
                one.request(10)
                enqueuing = asyncio.create_task(enqueue(service, 10))
                await spin(number * 25)
                one.stop("s")
                received = await take_until_stopped(one, "s")
                ids = await enqueuing
                rest = await all_go_to(other, 10 - len(received))
                assert sorted(job.id for job in received + rest) == ids
                assert {job.attempt for job in received + rest} == {1}, "what came back was refunded"
                one.stop("after")
                assert await take_until_stopped(one, "after") == []
                await service.acknowledge([complete(job) for job in received + rest])

    async def test_stop_that_meets_a_claim_under_way_gives_its_jobs_back(self, service):
        async with subscribed(service) as one, subscribed(service) as other:
            ids = await enqueue(service, 10)
            one.request(10)
            await claiming(one)
            one.stop("s")
            assert await take_until_stopped(one, "s") == []
            again = await all_go_to(other, 10)
            assert sorted((job.id, job.attempt, job.fence) for job in again) == [(job_id, 1, 2) for job_id in ids]

    async def test_credits_asked_for_after_a_stop_are_kept_while_its_claim_comes_back(self, service):
        async with subscribed(service) as one, subscribed(service) as other:
            await enqueue(service, 10)
            one.request(10)
            await claiming(one)
            one.stop("s")
            one.request(3)
            events = await take_events(one, 4)
            assert events[0] == Stopped("s")
            assert {event.attempt for event in events[1:] if isinstance(event, Job)} == {1}
            await all_go_to(other, 7)

    async def test_jobs_that_were_not_taken_yet_go_back_refunded(self, service):
        async with subscribed(service, prefetch=3) as one, subscribed(service) as other:
            ids = await enqueue(service, 3)
            await eventually(lambda: executing(service, ids))
            one.stop("s")
            assert await take_until_stopped(one, "s") == []
            again = await all_go_to(other, 3)
            assert [(job.id, job.attempt, job.fence) for job in again] == [(job_id, 1, 2) for job_id in ids]


class TestClose:
    async def test_jobs_that_were_not_taken_go_back_refunded(self, service):
        async with subscribed(service) as other:
            async with subscribed(service, prefetch=3):
                ids = await enqueue(service, 3)
                await eventually(lambda: executing(service, ids))
            again = await all_go_to(other, 3)
            assert [(job.id, job.attempt, job.fence) for job in again] == [(job_id, 1, 2) for job_id in ids]

    async def test_jobs_that_were_taken_stay_leased_and_can_be_acknowledged(self, service):
        async with subscribed(service, prefetch=1) as one:
            await enqueue(service)
            (job,) = await take(one, 1)
        assert (await service.get_job(job.id)).status is JobStatus.EXECUTING
        assert not (await service.mark_job_complete(job.id, fence=job.fence)).duplicate

    async def test_whenever_a_subscriber_leaves_no_job_is_lost(self, service):
        for number in range(60):
            async with subscribed(service) as other:
                one = await service.subscribe_ready_jobs("mail", prefetch=10)
                enqueuing = asyncio.create_task(enqueue(service, 10))
                await spin(number * 25)
                await one.close()
                ids = await enqueuing
                again = await all_go_to(other, 10)
                assert sorted(job.id for job in again) == ids
                assert {job.attempt for job in again} == {1}
                await service.acknowledge([complete(job) for job in again])

    async def test_subscriber_that_leaves_while_a_claim_is_under_way_gives_its_jobs_back(self, service):
        async with subscribed(service) as other:
            ids = await enqueue(service, 10)
            one = await service.subscribe_ready_jobs("mail", prefetch=10)
            await claiming(one)
            await one.close()
            again = await all_go_to(other, 10)
            assert sorted((job.id, job.attempt, job.fence) for job in again) == [(job_id, 1, 2) for job_id in ids]


async def test_job_that_was_revoked_unsent_costs_no_credit(service):
    """Without prefetch nothing else would ever bring that credit back."""
    async with subscribed(service) as one:
        ids = await enqueue(service, 1)
        one.request(1)
        await eventually(lambda: executing(service, ids))
        await service.mark_job_cancelled(ids[0], FAILURE)
        (other,) = await enqueue(service, 1)
        assert [job.id for job in await take(one, 1)] == [other]


async def executing(service: Service, ids: list[int]) -> bool:
    return all([(await service.get_job(job_id)).status is JobStatus.EXECUTING for job_id in ids])


async def claiming(subscription: Subscription) -> None:
    """Wait until jobs are being claimed for a subscription: they cannot be there before the next turn of the loop."""
    while not subscription._claims:
        await asyncio.sleep(0)


async def take_jobs(subscription: Subscription, count: int) -> list[Job]:
    """Take so many jobs, the revokes between them left out."""
    jobs: list[Job] = []
    while len(jobs) < count:
        jobs += [event for event in await take_events(subscription, 1) if isinstance(event, Job)]
    return jobs


async def all_are_complete(service: Service) -> bool:
    (mail,) = await service.list_executors()
    return mail.counts[JobStatus.COMPLETE] == sum(mail.counts.values())
