"""Single enqueues that are collected: each has an outcome of its own, in the order in which they came."""

import asyncio
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from rexecutor_client import (
    AsyncClient,
    Client,
    EnqueuableJob,
    Enqueued,
    EnqueueOutcome,
    NotJson,
    Where,
    bulk,
    errors,
    sync_bulk,
)
from rexecutor_client.bulk import Bulk
from rexecutor_client.sync_bulk import SyncBulk

pytestmark = pytest.mark.timeout(60)


def job(n: int, *, pad: int = 0) -> EnqueuableJob:
    return EnqueuableJob(executor="mail", data={"n": n, "pad": "x" * pad})


class Service:
    """Stands for the service: answers each bulk once it may."""

    def __init__(self) -> None:
        self.bulks: list[list[int]] = []
        self.may_answer = asyncio.Event()
        self.refuse: Callable[[list[int]], Exception | None] = lambda _: None

    async def __call__(self, call: Any) -> list[Enqueued]:
        numbers = [each["data"]["n"] for each in msgspec.json.decode(call.body)["jobs"]]
        self.bulks.append(numbers)
        await self.may_answer.wait()
        if (refusal := self.refuse(numbers)) is not None:
            raise refusal
        return [Enqueued(n, EnqueueOutcome.INSERTED) for n in numbers]


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_while_one_bulk_is_on_its_way_the_next_collects():
    service = Service()
    async with Bulk(service, max_jobs=1_000) as collected:
        first = asyncio.create_task(collected.enqueue(job(0)))
        await turns()
        others = [asyncio.create_task(collected.enqueue(job(n))) for n in range(1, 6)]
        await turns()
        service.may_answer.set()
        assert [(await each).id for each in (first, *others)] == [0, 1, 2, 3, 4, 5]
    assert service.bulks == [[0], [1, 2, 3, 4, 5]]


async def test_bulk_of_long_jobs_is_cut(monkeypatch):
    monkeypatch.setattr(bulk, "MAX_BYTES", 10_000)
    service = Service()
    service.may_answer.set()
    async with Bulk(service, max_jobs=1_000) as collected:
        await asyncio.gather(*(collected.enqueue(job(n, pad=3_000)) for n in range(9)))
    assert max(map(len, service.bulks)) == 3


async def test_failure_of_a_bulk_is_told_to_each_of_its_callers_and_no_others():
    service = Service()
    service.may_answer.set()
    service.refuse = lambda numbers: errors.ServiceUnreachable("away") if 0 in numbers else None
    async with Bulk(service, max_jobs=2) as collected:
        ended = await asyncio.gather(*(collected.enqueue(job(n)) for n in range(4)), return_exceptions=True)
    assert [type(each) for each in ended] == [errors.ServiceUnreachable] * 2 + [Enqueued] * 2


async def test_whoever_gives_up_leaves_the_job_behind():
    service = Service()
    async with Bulk(service, max_jobs=2) as collected:
        enqueuing = [asyncio.create_task(collected.enqueue(job(n))) for n in range(4)]
        await turns()
        for each in enqueuing[1:3]:
            each.cancel()
        await turns()
        service.may_answer.set()
        ended = await asyncio.gather(*enqueuing, return_exceptions=True)
    assert [isinstance(each, asyncio.CancelledError) for each in ended] == [False, True, True, False]
    assert [n for each in service.bulks for n in each] == [0, 1, 2, 3]


async def test_sending_that_is_ended_ends_its_callers_and_begins_again():
    service = Service()
    async with Bulk(service, max_jobs=1) as collected:
        enqueuing = [asyncio.create_task(collected.enqueue(job(n))) for n in range(3)]
        await turns()
        assert collected._sender is not None
        collected._sender.cancel()
        ended = await asyncio.gather(*enqueuing, return_exceptions=True)
        assert [type(each) for each in ended] == [asyncio.CancelledError] * 3
        service.may_answer.set()
        again = await asyncio.wait_for(asyncio.gather(*(collected.enqueue(job(n)) for n in range(10, 14))), 10)
    assert [each.id for each in again] == [10, 11, 12, 13]


class TestAgainstAService:
    async def test_one_wrong_job_keeps_no_other_out(self, url):
        wrong = EnqueuableJob(executor="mail", max_attempts=0)
        async with AsyncClient(url) as client, client.bulk() as collected:
            jobs = [job(n) if n % 7 else wrong for n in range(50)]
            ended = await asyncio.gather(*(collected.enqueue(each) for each in jobs), return_exceptions=True)
            assert [n for n, each in enumerate(ended) if isinstance(each, errors.ValidationError)] == [*range(0, 50, 7)]
            stored = [found.data["n"] async for found in client.jobs(Where.everything())]
            assert sorted(stored) == [n for n in range(50) if n % 7]

    async def test_what_is_no_json_is_refused_before_it_is_sent(self, url):
        async with AsyncClient(url) as client, client.bulk() as collected:
            with pytest.raises(NotJson):
                await collected.enqueue(EnqueuableJob(executor="mail", data=object()))
            assert (await collected.enqueue(job(1))).outcome == "inserted"

    async def test_all_is_stored_when_the_context_ends(self, url):
        async with AsyncClient(url) as client:
            async with client.bulk() as collected:
                enqueuing = [asyncio.create_task(collected.enqueue(job(n))) for n in range(2_500)]
            assert all(each.done() for each in enqueuing) or await asyncio.gather(*enqueuing)
            assert len([found async for found in client.jobs(Where.everything(), page_size=1_000)]) == 2_500


class TestWithoutAsyncio:
    """The same for programs without asyncio."""

    def test_bulk_is_sent_when_it_is_full_and_the_last_at_the_end(self, url):
        with Client(url) as client:
            with client.bulk(max_jobs=10) as collected:
                stored = [collected.enqueue(job(n)) for n in range(25)]
                assert [each.done() for each in stored] == [n < 20 for n in range(25)]
            ids = [each.result(0).id for each in stored]
            assert [found.id for found in client.jobs(Where.everything())] == sorted(ids, reverse=True)

    def test_one_wrong_job_keeps_no_other_out_and_is_raised_at_the_end(self, url):
        wrong = EnqueuableJob(executor="mail", max_attempts=0)
        with Client(url) as client:
            with pytest.raises(errors.ValidationError), client.bulk() as collected:
                stored = [collected.enqueue(job(n) if n % 7 else wrong) for n in range(50)]
            refused = [n for n, each in enumerate(stored) if isinstance(each.exception(0), errors.ValidationError)]
            assert refused == [*range(0, 50, 7)]
            assert len([*client.jobs(Where.everything())]) == 42

    def test_bulk_of_long_jobs_is_cut(self, monkeypatch):
        monkeypatch.setattr(sync_bulk, "MAX_BYTES", 10_000)
        sizes: list[int] = []

        def send(call: Any) -> list[Enqueued]:
            sizes.append(len(msgspec.json.decode(call.body)["jobs"]))
            return [Enqueued(n, EnqueueOutcome.INSERTED) for n in range(sizes[-1])]

        with SyncBulk(send, max_jobs=1_000) as collected:
            for n in range(9):
                collected.enqueue(job(n, pad=3_000))
        assert sizes == [3, 3, 3]

    def test_service_that_is_away_stops_whoever_goes_on_enqueuing(self):
        with Client("http://127.0.0.1:1", retry_seconds=0) as client, client.bulk(max_jobs=2) as collected:
            first = collected.enqueue(job(0))
            with pytest.raises(errors.ServiceUnreachable):
                collected.enqueue(job(1))
            assert isinstance(first.exception(0), errors.ServiceUnreachable)

    def test_interrupt_ends_it_at_once(self):
        collected = SyncBulk(lambda _: pytest.fail("sent"), max_jobs=10)
        waiting = collected.enqueue(job(0))
        collected.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        assert isinstance(waiting.exception(0), CancelledError)

    def test_callback_of_an_answer_may_enqueue(self, url):
        with Client(url) as client:
            with client.bulk(max_jobs=2) as collected:
                collected.enqueue(job(0)).add_done_callback(lambda _: collected.enqueue(job(2)))
                collected.enqueue(job(1))
            assert sorted(found.data["n"] for found in client.jobs(Where.everything())) == [0, 1, 2]

    def test_whoever_gives_up_leaves_the_job_behind(self, url):
        with Client(url) as client:
            with client.bulk() as collected:
                first, second = collected.enqueue(job(0)), collected.enqueue(job(1))
                assert not first.cancel()
            assert second.result(0).outcome == first.result(0).outcome == "inserted"

    def test_threads_share_one(self, url):
        with Client(url) as client, ThreadPoolExecutor(8) as threads:
            with client.bulk(max_jobs=7) as collected:
                stored = [*threads.map(lambda n: collected.enqueue(job(n)), range(200))]
            assert len({each.result(0).id for each in stored}) == 200
