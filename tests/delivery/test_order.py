"""Which job comes first, to whom it goes, and that none comes early."""

import asyncio
from collections import Counter
from datetime import timedelta
from random import Random
from statistics import median

import pytest
from msgspec.structs import asdict

from app.backend.contract import Subscription
from app.backend.extensions import Service
from app.domain.errors import BackendError
from app.domain.job import Job, JobChanges
from app.domain.lifecycle import Acknowledgement, Operation
from app.domain.uniqueness import Replace, ReplaceField
from tests.builders import DAY, FAILURE, SECOND, new_job, now, unique
from tests.delivery.streams import all_go_to, spin, subscribed, take, take_events


class TestOrder:
    async def test_jobs_come_by_priority_then_time_then_id(self, service):
        chance = Random(3)
        start = now() - DAY
        jobs = [
            new_job(priority=chance.choice([0, 1, 2, 65_535]), scheduled_at=start + chance.randrange(4))
            for _ in range(120)
        ]
        ids = [enqueued.id for enqueued in await service.enqueue_many(jobs)]
        expected = sorted(
            range(120), key=lambda number: (jobs[number].priority, jobs[number].scheduled_at, ids[number])
        )
        async with subscribed(service) as one:
            delivered: list[Job] = []
            for count in (1, 1, 2, 5, 11, 100):
                one.request(count)
                delivered += await take(one, count)
        assert [job.id for job in delivered] == [ids[number] for number in expected]

    async def test_retried_jobs_stand_in_the_same_order(self, service):
        start = now() - DAY
        first, second, third = [
            (await service.enqueue(new_job(scheduled_at=start + offset))).id for offset in (0, 5, 10)
        ]
        await service.mark_job_retryable(first, start + 7, FAILURE)
        async with subscribed(service) as one:
            assert [job.id for job in await all_go_to(one, 3)] == [second, first, third]

    async def test_best_job_is_chosen_when_the_credit_comes(self, service):
        async with subscribed(service) as one:
            await service.enqueue(new_job(priority=5))
            better = await service.enqueue(new_job(priority=1))
            one.request(1)
            assert [job.id for job in await take(one, 1)] == [better.id]

    async def test_job_of_the_future_does_not_block_worse_ones_that_are_due(self, service):
        await service.enqueue(new_job(priority=0, scheduled_at=now() + DAY))
        due = await service.enqueue(new_job(priority=9))
        async with subscribed(service) as one:
            one.request(2)
            assert [job.id for job in await take(one, 1)] == [due.id]

    async def test_executors_do_not_see_each_others_jobs(self, service):
        async with subscribed(service, "mail", prefetch=10) as mail, subscribed(service, "Mail", prefetch=10) as other:
            a = await service.enqueue(new_job("mail"))
            b = await service.enqueue(new_job("Mail"))
            assert [job.id for job in await take(mail, 1)] == [a.id]
            assert [job.id for job in await take(other, 1)] == [b.id]

    async def test_delivered_job_is_executing_under_its_new_attempt_and_fence(self, service):
        async with subscribed(service, prefetch=1, worker="w 1") as one:
            before = now()
            await service.enqueue(new_job(data={"a": 1.0}, tags=("t",)))
            (job,) = await take(one, 1)
            assert (job.status, job.attempt, job.fence, job.version) == ("executing", 1, 1, 2)
            assert (job.data, job.tags, job.attempted_by) == ('{"a":1.0}', '["t"]', '["w 1"]')
            assert before <= job.attempted_at <= now()
            assert asdict(await service.get_job(job.id)) == asdict(job)
            assert job.lease_expires_at > job.attempted_at

    async def test_worker_without_a_name_is_its_session(self, service):
        async with subscribed(service, prefetch=1) as one:
            await service.enqueue(new_job())
            (job,) = await take(one, 1)
            assert job.attempted_by == f'["{one.hello.session}"]'


WAKING = {
    "enqueue": lambda service, job_id, at: service.enqueue(new_job(scheduled_at=at)),
    "bulk": lambda service, job_id, at: service.enqueue_many([new_job(scheduled_at=at)]),
    "update": lambda service, job_id, at: service.update_job(job_id, JobChanges(scheduled_at=at)),
    "retry": lambda service, job_id, at: service.mark_job_retryable(job_id, at, FAILURE),
    "snooze": lambda service, job_id, at: service.mark_job_snoozed(job_id, at),
    "rerun": lambda service, job_id, at: service.rerun_job(job_id),
    "replace": lambda service, job_id, at: service.enqueue(
        new_job(
            scheduled_at=at,
            unique=unique(executor=True, on_conflict=Replace(frozenset({ReplaceField.SCHEDULED_AT}))),
        )
    ),
}


class TestTime:
    async def test_no_job_comes_early_and_none_very_late(self, service):
        """Jobs fall due over a second and a half, at any microsecond; deliveries are watched as they come."""
        chance = Random(5)
        start = now() + SECOND // 4
        jobs = [
            new_job(scheduled_at=start + chance.randrange(1_500_000), priority=chance.randrange(3)) for _ in range(300)
        ]
        async with subscribed(service, prefetch=300) as one:
            await service.enqueue_many(jobs)
            lateness: list[int] = []
            async with asyncio.timeout(20):
                while len(lateness) < 300:
                    for job in await one.next():
                        assert isinstance(job, Job)
                        arrived = now()
                        assert job.attempted_at >= job.scheduled_at, "claimed early"
                        assert arrived >= job.scheduled_at, "delivered early"
                        lateness.append(arrived - job.scheduled_at)
        assert median(lateness) < SECOND / 2
        assert max(lateness) < 5 * SECOND

    async def test_jobs_enqueued_while_others_are_delivered_are_not_late(self, service):
        """Hints of new jobs meet the dispatcher in every state: asleep, claiming, handing out."""
        chance = Random(11)

        async def produce() -> None:
            for _ in range(300):
                await service.enqueue(new_job(scheduled_at=timedelta(microseconds=chance.randrange(200_000))))
                await spin(chance.randrange(2_000))

        async with subscribed(service, prefetch=1_000) as one:
            producing = asyncio.create_task(produce())
            jobs = await take_events(one, 300)
            await producing
        assert all(0 <= job.attempted_at - job.scheduled_at < 5 * SECOND for job in jobs)

    async def test_delay_is_waited_for_from_the_insertion_on(self, service):
        async with subscribed(service, prefetch=1) as one:
            await service.enqueue(new_job(scheduled_at=timedelta(milliseconds=200)))
            (job,) = await take(one, 1)
            assert job.scheduled_at == job.inserted_at + 200_000
            assert job.attempted_at >= job.scheduled_at

    @pytest.mark.parametrize("wait", [0, 150_000])
    @pytest.mark.parametrize("road", WAKING)
    async def test_whatever_makes_a_job_due_sooner_wakes_the_sleeper(self, service, road, wait):
        tomorrow = await service.enqueue(new_job(scheduled_at=now() + DAY))
        async with subscribed(service, prefetch=1) as one:
            delivery = asyncio.create_task(take(one, 1))
            await sleeping(service)
            at = now() + wait
            await WAKING[road](service, tomorrow.id, at)
            (job,) = await delivery
            assert (job.id == tomorrow.id) == (road not in {"enqueue", "bulk"})
            assert job.attempted_at >= job.scheduled_at
            if road != "rerun":
                assert job.scheduled_at == at


class TestSharing:
    async def test_two_workers_share_5000_jobs_and_none_is_delivered_twice(self, service):
        deliveries: Counter[int] = Counter()
        done = asyncio.Event()

        async def work(subscription: Subscription) -> int:
            mine = 0
            while True:
                jobs = [job for job in await subscription.next() if isinstance(job, Job)]
                deliveries.update(job.id for job in jobs)
                mine += len(jobs)
                outcomes = await service.acknowledge([complete(job) for job in jobs])
                assert not any(isinstance(each, BackendError) or each.duplicate for each in outcomes)
                if len(deliveries) == 5_000:
                    done.set()

        async with subscribed(service, prefetch=100) as one, subscribed(service, prefetch=100) as other:
            workers = [asyncio.create_task(work(one)), asyncio.create_task(work(other))]
            results = [await service.enqueue_many([new_job() for _ in range(500)]) for _ in range(10)]
            async with asyncio.timeout(30):
                await asyncio.wait({*workers, asyncio.create_task(done.wait())}, return_when=asyncio.FIRST_COMPLETED)
            for worker in workers:
                worker.cancel()
            ended = await asyncio.gather(*workers, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended
        assert set(deliveries) == {result.id for bulk in results for result in bulk}
        assert set(deliveries.values()) == {1}
        (mail,) = await service.list_executors()
        assert mail.counts["complete"] == 5_000

    async def test_second_delivery_would_be_counted(self, service):
        """The control: a job that is retried at once does come twice."""
        await service.enqueue(new_job())
        async with subscribed(service) as one:
            (first,) = await all_go_to(one, 1)
            await service.mark_job_retryable(first.id, 0, FAILURE, fence=first.fence)
            (second,) = await take(one, 1)
        assert Counter([first.id, second.id]) == {first.id: 2}

    async def test_each_job_goes_to_who_has_gone_longest_without_one(self, service):
        async with (
            subscribed(service, prefetch=4) as first,
            subscribed(service, prefetch=4) as second,
            subscribed(service, prefetch=4) as third,
        ):
            for _ in range(3):
                for expected in (first, second, third):
                    enqueued = await service.enqueue(new_job())
                    assert [job.id for job in await take(expected, 1)] == [enqueued.id]

    async def test_jobs_that_come_together_are_dealt_in_turn(self, service):
        async with subscribed(service) as first, subscribed(service) as second:
            ids = [enqueued.id for enqueued in await service.enqueue_many([new_job() for _ in range(6)])]
            first.request(3)
            second.request(3)
            received = [[job.id for job in await take(each, 3)] for each in (first, second)]
            assert sorted(received[0] + received[1]) == ids
            assert all(hand == sorted(hand) for hand in received)

    async def test_whoever_got_fewer_of_the_last_jobs_gets_the_next(self, service):
        async with subscribed(service, prefetch=5) as first, subscribed(service, prefetch=5) as second:
            await sleeping(service)
            await service.enqueue_many([new_job() for _ in range(3)])
            assert len(await take(first, 2)) == 2
            assert len(await take(second, 1)) == 1
            enqueued = await service.enqueue(new_job())
            assert [job.id for job in await take(second, 1)] == [enqueued.id]

    async def test_many_executors_are_served_side_by_side(self, service):
        names = [f"e{number}" for number in range(50)]
        subscriptions = [await service.subscribe_ready_jobs(name, prefetch=1) for name in names]
        await service.enqueue_many([new_job(name) for name in reversed(names)])
        jobs = [await take(each, 1) for each in subscriptions]
        assert [job.executor for (job,) in jobs] == names
        for each in subscriptions:
            await each.close()
        assert (await service.health()).dead_loops == ()


def complete(job: Job) -> Acknowledgement:
    return Acknowledgement(operation=Operation.COMPLETE, job_id=job.id, fence=job.fence)


async def sleeping(service: Service) -> None:
    """Let the dispatcher claim in vain and fall asleep: its claim is committed before this later write is."""
    await service.enqueue(new_job("somebody-else"))
    await asyncio.sleep(0)
