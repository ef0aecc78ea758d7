"""Two equal servers over one PostgreSQL: what one of them does, the other knows, and nothing is done twice."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from datetime import timedelta
from typing import Any, TypeVar

import asyncpg
import pytest

from app.backend.contract import Subscription
from app.backend.extensions import Service
from app.domain.errors import StaleFence
from app.domain.idempotency import Idempotency
from app.domain.job import Enqueued, EnqueueOutcome, Job
from app.domain.lifecycle import Acknowledgement, Operation, RevokeReason
from app.domain.query import ExecutorEqual
from app.domain.status import JobStatus
from app.domain.stream import Revoke, SubscriptionReplaced
from app.domain.uniqueness import Replace, ReplaceField
from app.store.claim import ClaimCall, Demand
from app.store.dialects.postgres.locks import LOCK_IN_MODES, keys_of
from app.store.dialects.postgres.transaction import columns
from app.store.dialects.postgres.unique import _locks
from tests.builders import DAY, FAILURE, MINUTE, new_job, now, unique
from tests.delivery.streams import eventually, spin, subscribed, take, take_events
from tests.postgres import empty, run
from tests.services import running_service

Value = TypeVar("Value")

EXISTING, INSERTED, REPLACED = EnqueueOutcome.EXISTING, EnqueueOutcome.INSERTED, EnqueueOutcome.REPLACED
ROUNDS = 5
MOVE = Replace(frozenset({ReplaceField.SCHEDULED_AT}))

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=["straight", "behind a pooler"])
def road(request) -> dict[str, str]:
    """How both servers reach their empty database."""
    if request.param == "straight":
        url = request.getfixturevalue("postgres_database")
        empty(url)
        return {"database_url": url}
    return {"database_url": request.getfixturevalue("pooled_database"), "pooler": "transaction"}


# For what needs hints, and for what the conformance suite sees behind a pooler.
only_straight = pytest.mark.parametrize("road", ["straight"], indirect=True)


@pytest.fixture
async def servers(request, road, tmp_path) -> AsyncIterator[tuple[Service, Service]]:
    of_both = {**road, "lease_seconds": getattr(request, "param", 30)}
    async with running_service(tmp_path, **of_both) as one, running_service(tmp_path, **of_both) as other:
        yield one, other


async def enqueue_in_turn(servers: tuple[Service, Service], jobs) -> list[Enqueued]:
    """Enqueue at once, every other job at the other server."""
    return await asyncio.gather(*(servers[number % 2].enqueue(job) for number, job in enumerate(jobs)))


async def later(microseconds: int, call: Coroutine[Any, Any, Value]) -> Value:
    """Call after some turns of the event loop."""
    await spin(microseconds)
    return await call


def test_locks_are_taken_in_one_order_whatever_the_order_of_the_jobs():
    """Two who took them in two orders would wait in a circle."""
    names = [f"e{number}" for number in range(100)]
    keys = keys_of(names)
    assert keys == keys_of(names[::-1])
    assert all(-(2**31) <= key < 2**31 for key in keys)
    assert len(set(keys)) == len(names)


@only_straight
class TestUnique:
    @pytest.mark.parametrize(
        "criteria",
        [{"key": "k"}, {"key": 7, "executor": True}, {"executor": True}, {"within": MINUTE}],
        ids=str,
    )
    async def test_of_many_identical_jobs_one_stands(self, servers, criteria):
        for number in range(ROUNDS):
            executor, at = f"mail{number}", now() + DAY + number * 2 * MINUTE
            own = {**criteria, "key": f"k{number}"} if criteria.get("key") == "k" else criteria
            if own == {"key": 7, "executor": True}:
                own = {"key": number, "executor": True}
            results = await enqueue_in_turn(
                servers, [new_job(executor, scheduled_at=at, unique=unique(**own)) for _ in range(20)]
            )
            assert Counter(result.outcome for result in results) == {INSERTED: 1, EXISTING: 19}
            assert len({result.id for result in results}) == 1

    async def test_criteria_that_overlap_agree_on_an_order(self, servers):
        """A job unique by executor goes in only as the very first; one unique by key goes in once in any case."""
        for number in range(ROUNDS):
            executor = f"mail{number}"
            by_executor = [new_job(executor, unique=unique(executor=True)) for _ in range(10)]
            by_key = [new_job(executor, unique=unique(key=f"k{number}")) for _ in range(10)]
            mixed = [job for pair in zip(by_executor, by_key[::-1], strict=True) for job in pair]
            results = await enqueue_in_turn(servers, mixed[1:] + mixed[:1])
            kinds = [
                ("key" if result[0] in by_key else "executor", result[1].id)
                for result in zip(mixed[1:] + mixed[:1], results, strict=True)
                if result[1].outcome is INSERTED
            ]
            inserted = [kind for kind, _ in sorted(kinds, key=lambda each: each[1])]
            assert inserted in (["key"], ["executor", "key"])

    async def test_each_replace_replaces_what_the_one_before_left(self, servers):
        first = await servers[0].enqueue(new_job(data=-1, priority=99, scheduled_at=now() + DAY))
        criteria = unique(executor=True, on_conflict=Replace(frozenset(ReplaceField)))
        results = await enqueue_in_turn(
            servers,
            [new_job(data=each, priority=each, scheduled_at=now() + DAY, unique=criteria) for each in range(40)],
        )
        assert {(result.id, result.outcome) for result in results} == {(first.id, REPLACED)}
        job = await servers[1].get_job(first.id)
        assert job.version == 41
        assert job.data == str(job.priority)

    async def test_bulks_that_want_the_same_locks_wait_and_none_fails(self, servers):
        names = [f"e{number}" for number in range(8)]
        bulks = [names[turn:] + names[:turn] for turn in range(8)] * 2
        results = await asyncio.gather(
            *(
                servers[number % 2].enqueue_many([new_job(name, unique=unique(executor=True)) for name in bulk])
                for number, bulk in enumerate(bulks)
            )
        )
        assert Counter(each.outcome for result in results for each in result)[INSERTED] == len(names)

    async def test_bulks_with_plain_and_unique_jobs_have_an_order(self, servers):
        """Each bulk's plain job is a duplicate of the other's unique one: whichever comes second finds it."""
        for number in range(20):
            names = [f"a{number}", f"b{number}"]
            bulks = [
                [new_job(plain), *(new_job(f"filler{number}") for _ in range(50)), new_job(own, unique=by_executor)]
                for plain, own in (names, names[::-1])
                for by_executor in (unique(executor=True),)
            ]
            both = await asyncio.gather(
                *(server.enqueue_many(bulk) for server, bulk in zip(servers, bulks, strict=True))
            )
            assert Counter(results[-1].outcome for results in both) == {INSERTED: 1, EXISTING: 1}

    @pytest.mark.parametrize(
        ("first", "second", "waits"),
        [
            (new_job(unique=unique(key="k")), new_job(unique=unique(key="k")), True),
            (new_job(unique=unique(key="k")), new_job(unique=unique(key="another")), False),
            (new_job(unique=unique(key="k")), new_job("post", unique=unique(key="k", executor=True)), True),
            (new_job(unique=unique(key="k")), new_job(unique=unique(executor=True)), True),
            (new_job(unique=unique(key="k")), new_job("post", unique=unique(executor=True)), False),
            (new_job(unique=unique(key="k")), new_job("post", unique=unique(executor=True, on_conflict=MOVE)), True),
            (new_job(unique=unique(key="k", on_conflict=MOVE)), new_job("post", unique=unique(executor=True)), True),
            (new_job(unique=unique(executor=True)), new_job(unique=unique(executor=True)), True),
            (new_job(unique=unique(executor=True)), new_job("post", unique=unique(executor=True)), False),
            (new_job(unique=unique(within=MINUTE)), new_job("post", unique=unique(key="k")), True),
        ],
    )
    async def test_of_two_that_might_miss_each_other_one_waits(self, servers, postgres_database, first, second, waits):
        held = await asyncpg.connect(postgres_database)
        try:
            async with held.transaction():
                await held.execute(LOCK_IN_MODES, *columns(_locks([first]), 3))
                enqueuing = asyncio.create_task(servers[0].enqueue(second))
                waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                async with asyncio.timeout(30):
                    while not enqueuing.done() and not await held.fetch(waiting):
                        pass
                assert enqueuing.done() is not waits
            assert (await enqueuing).outcome is INSERTED
        finally:
            await held.close()

    async def test_bulk_of_very_many_keys_goes_in(self, servers):
        jobs = [new_job(unique=unique(key=number)) for number in range(5_000)]
        assert {result.outcome for result in await servers[0].enqueue_many(jobs)} == {INSERTED}

    async def test_job_that_is_claimed_meanwhile_is_not_replaced(self, servers):
        criteria = unique(executor=True, on_conflict=Replace(frozenset({ReplaceField.DATA})))
        outcomes = Counter[EnqueueOutcome]()
        for number in range(60):
            executor = f"mail{number}"
            first = await servers[0].enqueue(new_job(executor, data="old"))
            enqueued, claimed = await asyncio.gather(
                servers[0].enqueue(new_job(executor, data="new", unique=criteria)),
                later(number % 20 * 100, servers[1].claim_jobs(executor)),
            )
            outcomes[enqueued.outcome] += 1
            if enqueued.outcome is REPLACED and claimed:
                assert [(job.id, job.data) for job in claimed] == [(first.id, '"new"')]
            if enqueued.outcome is INSERTED:
                assert [(job.id, job.data) for job in claimed] == [(first.id, '"old"')]
                assert (await servers[0].get_job(first.id)).data == '"old"'
        assert set(outcomes) == {INSERTED, REPLACED}


class TestClaim:
    async def test_each_job_is_claimed_once(self, servers):
        count = 400
        await servers[0].enqueue_many([new_job(priority=number % 3) for number in range(count)])

        async def drain(server: Service) -> list[Job]:
            claimed: list[Job] = []
            while jobs := await server.claim_jobs("mail", limit=7):
                claimed += jobs
            return claimed

        hands = await asyncio.gather(*(drain(server) for server in servers * 3))
        ids = [job.id for hand in hands for job in hand]
        assert len(ids) == len(set(ids)) == count
        assert {job.fence for hand in hands for job in hand} == {1}

    async def test_job_enqueued_here_reaches_a_worker_there(self, servers):
        async with subscribed(servers[1], prefetch=1) as worker:
            enqueued = await servers[0].enqueue(new_job())
            assert [job.id for job in await take(worker, 1)] == [enqueued.id]

    async def test_counts_are_those_of_both(self, servers):
        await asyncio.gather(*(server.enqueue_many([new_job()] * 10) for server in servers * 3))
        claimed = await servers[0].claim_jobs("mail", limit=8)
        for job in claimed[:5]:
            await servers[1].mark_job_complete(job.id, fence=job.fence)
        expected = {JobStatus.SCHEDULED: 52, JobStatus.EXECUTING: 3, JobStatus.COMPLETE: 5}

        async def counted(server: Service) -> dict[JobStatus, int]:
            (summary,) = await server.list_executors()
            return {status: count for status, count in summary.counts.items() if count}

        assert await counted(servers[0]) == await counted(servers[1]) == expected
        # Until the loop of one of them has added all up; and they are still the same.
        await eventually(lambda: no_rows(servers[0], "SELECT FROM executor_count_deltas"))
        assert await counted(servers[0]) == expected


@only_straight
class TestAcknowledge:
    async def test_of_acknowledgements_to_both_servers_one_counts(self, servers):
        for _ in range(ROUNDS):
            await servers[0].enqueue(new_job())
            (job,) = await servers[0].claim_jobs("mail")
            acks = await asyncio.gather(
                *(servers[number % 2].mark_job_complete(job.id, fence=job.fence) for number in range(10))
            )
            assert Counter(ack.duplicate for ack in acks) == {False: 1, True: 9}

    async def test_lists_in_opposite_orders_wait_for_each_other_and_none_fails(self, servers):
        for _ in range(ROUNDS):
            await servers[0].enqueue_many([new_job() for _ in range(500)])
            calls = [
                Acknowledgement(operation=Operation.COMPLETE, job_id=job.id, fence=job.fence)
                for job in await servers[0].claim_jobs("mail", limit=500)
            ]
            outcomes = await asyncio.gather(servers[0].acknowledge(calls), servers[1].acknowledge(calls[::-1]))
            assert Counter(ack.duplicate for acks in outcomes for ack in acks) == {False: 500, True: 500}

    async def test_repeat_of_a_keyed_enqueue_at_the_other_server_finds_the_answer(self, servers):
        for number in range(ROUNDS):
            calls = [Idempotency(scope="enqueue", key=f"k{number}", body_hash="h") for _ in range(6)]
            results = await asyncio.gather(
                *(servers[each % 2].enqueue(new_job(), idempotency=call) for each, call in enumerate(calls))
            )
            assert len({result.id for result in results}) == 1
            assert Counter(call.is_replay for call in calls) == {False: 1, True: 5}
        assert len((await servers[0].query(ExecutorEqual("mail"))).jobs) == ROUNDS


class TestSessions:
    async def test_session_goes_on_at_the_other_server(self, servers):
        one = await servers[0].subscribe_ready_jobs("mail", prefetch=2)
        await servers[0].enqueue_many([new_job(), new_job()])
        jobs = await take(one, 2)
        await one.close()
        again = await servers[1].subscribe_ready_jobs("mail", prefetch=3, resume=one.hello.resume)
        assert again.hello.session == one.hello.session
        assert again.hello.held == [(job.id, job.fence) for job in jobs]
        await servers[1].mark_job_complete(jobs[0].id, fence=jobs[0].fence)
        assert (await servers[0].get_job(jobs[0].id)).status is JobStatus.COMPLETE
        await again.close()

    async def test_resume_sees_each_job_that_was_claimed_for_the_old_lease(self, servers):
        """Claims of the old connection race with its resume elsewhere: no job is left with a lease that is gone."""
        for _ in range(ROUNDS * 4):
            one = await servers[0].subscribe_ready_jobs("mail")
            await servers[0].enqueue_many([new_job() for _ in range(20)])
            claims = [servers[0]._dialect.claim([ClaimCall("mail", [Demand(one.lease, "w", 10)])]) for _ in range(2)]
            await asyncio.sleep(0.001)  # about when their statements are under way
            again = await servers[1].subscribe_ready_jobs("mail", resume=one.hello.resume)
            claimed = {(job.id, job.fence) for claim in claims for job in (await claim)[0].jobs[0]}
            assert claimed == set(again.hello.held)
            await again.close()
            await one.close()
        leftover = "SELECT FROM jobs WHERE lease_id IS NOT NULL AND lease_id NOT IN (SELECT id FROM leases)"
        assert await no_rows(servers[0], leftover)

    @pytest.mark.parametrize("servers", [1], indirect=True, ids=["lease of 1 s"])
    async def test_jobs_of_a_dead_server_come_back_once(self, servers):
        await servers[0].enqueue_many([new_job() for _ in range(50)])
        claimed = await servers[0].claim_jobs("mail", limit=50, lease=timedelta(seconds=1))
        again: dict[int, Job] = {}
        while len(again) < len(claimed):
            again |= {job.id: job for job in await servers[1].claim_jobs("mail", limit=50, wait=timedelta(seconds=20))}
        assert {job.attempt for job in again.values()} == {2}
        assert {job.error_count for job in again.values()} == {1}
        with pytest.raises(StaleFence):
            await servers[0].mark_job_complete(claimed[0].id, fence=claimed[0].fence)


class TestNews:
    """What happens at one server to jobs of workers that are connected to the other."""

    async def test_acknowledgement_here_frees_a_credit_there(self, servers):
        async with subscribed(servers[1], prefetch=1) as worker:
            await servers[0].enqueue_many([new_job() for _ in range(2 * ROUNDS)])
            for number in range(2 * ROUNDS):
                (job,) = await take(worker, 1)
                if number % 2:
                    await servers[0].mark_job_complete(job.id, fence=job.fence)
                else:
                    await servers[0].mark_job_discarded(job.id, FAILURE, fence=job.fence)

    @pytest.mark.parametrize("reason", ["cancelled", "acknowledged", "rerun"])
    async def test_job_that_is_taken_away_here_is_revoked_there(self, servers, reason):
        async with subscribed(servers[1], prefetch=1) as worker:
            await servers[0].enqueue(new_job())
            (job,) = await take(worker, 1)
            match reason:
                case "cancelled":
                    await servers[0].mark_job_cancelled(job.id, FAILURE)
                case "acknowledged":
                    await servers[0].mark_job_complete(job.id)
                case _:
                    await servers[0].rerun_job(job.id, force=True)
            events = await take_events(worker, 1)
            assert events[0] == Revoke(job.id, job.fence, RevokeReason(reason))

    async def test_job_that_got_a_lease_of_its_own_here_frees_its_credit_there(self, servers):
        async with subscribed(servers[1], prefetch=1) as worker:
            await servers[0].enqueue_many([new_job(), new_job()])
            (job,) = await take(worker, 1)
            await servers[0].renew_lease(job.id, fence=job.fence, lease=timedelta(hours=1))
            await servers[0].mark_job_complete(job.id, fence=job.fence)
            await take(worker, 1)

    async def test_resume_here_ends_the_connection_there(self, servers):
        async with subscribed(servers[1], prefetch=1) as worker:
            await servers[0].enqueue(new_job())
            (job,) = await take(worker, 1)
            again = await servers[0].subscribe_ready_jobs("mail", prefetch=1, resume=worker.hello.resume)
            assert again.hello.held == [(job.id, job.fence)]
            with pytest.raises(SubscriptionReplaced):
                await take(worker, 1)
            await again.close()

    async def test_news_are_told_once_and_forgotten(self, servers):
        async with subscribed(servers[1], prefetch=1) as worker:
            await servers[0].enqueue(new_job())
            (job,) = await take(worker, 1)
            await servers[0].mark_job_complete(job.id, fence=job.fence)
            await eventually(lambda: no_rows(servers[1], "SELECT FROM notices"))
            assert worker.held_jobs == 0

    @only_straight
    async def test_hints_reach_the_other_server_at_once(self, servers):
        """Without them each job would wait for a poll, half a second on average."""
        rounds = 20
        async with subscribed(servers[1], prefetch=1) as worker:
            await take_one(servers, worker)
            began = time.monotonic()
            for _ in range(rounds):
                await asyncio.sleep(0.03)  # the claim that the last acknowledgement made room for is made in vain
                await take_one(servers, worker)
            assert time.monotonic() - began < rounds * 0.25

    @only_straight
    async def test_lost_listener_comes_back_and_nothing_waits_for_it(self, servers):
        listeners = "FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        async with subscribed(servers[1], prefetch=1) as worker:
            await take_one(servers, worker)
            before = await rows(servers[0], f"SELECT pid {listeners}")
            assert len(before) == 2
            await rows(servers[0], f"SELECT pg_terminate_backend(pid) {listeners}")
            await take_one(servers, worker)

            async def are_back() -> bool:
                now_there = await rows(servers[0], f"SELECT pid {listeners}")
                return len(now_there) == 2 and not set(now_there) & set(before)

            await eventually(are_back)
            await take_one(servers, worker)
            assert (await servers[1].health()).dead_loops == ()


async def take_one(servers: tuple[Service, Service], worker: Subscription) -> None:
    """Enqueue at the one, take and acknowledge at the other."""
    enqueued = await servers[0].enqueue(new_job())
    (job,) = await take(worker, 1)
    assert job.id == enqueued.id
    await servers[1].mark_job_complete(job.id, fence=job.fence)


async def rows(server: Service, statement: str) -> list[Any]:
    return await asyncio.to_thread(run, server._dialect._road.url, statement)


async def no_rows(server: Service, statement: str) -> bool:
    return not await rows(server, statement)
