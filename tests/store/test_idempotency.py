"""Repeatable calls: the answer is kept with the change, for a day, and given again instead of a second change."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import time_machine

from app.backend.extensions import Service
from app.domain.errors import (
    DatabaseUnavailable,
    IdempotencyMismatch,
    JobExecuting,
    JobNotFound,
    PayloadTooLarge,
)
from app.domain.idempotency import Idempotency
from app.domain.job import Enqueued, EnqueueOutcome
from app.domain.query import And
from app.domain.status import JobStatus
from app.domain.uniqueness import Replace, ReplaceField
from app.maintenance.leadership import Leadership
from app.maintenance.sweeper import Sweeper
from app.store.idempotency import FORGET_BATCH
from tests.builders import new_job, unique
from tests.held_writer import until_waiting, writer_held
from tests.services import running_service

DAY_SECONDS = 24 * 60 * 60
INSERTED = EnqueueOutcome.INSERTED


def repeatable(key: str = "k", *, scope: str = "enqueue", body: str = "body") -> Idempotency:
    return Idempotency(scope=scope, key=key, body_hash=body)


async def number_of_jobs(service: Service) -> int:
    return len((await service.query(And(()), limit=1000)).jobs)


@contextmanager
def later(seconds: float) -> Iterator[None]:
    with time_machine.travel(time.time() + seconds, tick=True):
        yield


@contextmanager
def database(folder: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(folder / "jobs.db", isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def kept_keys(folder: Path) -> set[str]:
    with database(folder) as connection:
        return {key for (key,) in connection.execute("SELECT key FROM idempotency_keys")}


async def test_repeat_gets_the_first_result_and_changes_nothing(service):
    first, repeat = repeatable(), repeatable()
    enqueued = await service.enqueue(new_job(), idempotency=first)
    assert await service.enqueue(new_job(), idempotency=repeat) == enqueued
    assert (first.is_replay, repeat.is_replay) == (False, True)
    assert await number_of_jobs(service) == 1
    (mail,) = await service.list_executors()
    assert mail.counts[JobStatus.SCHEDULED] == 1


async def test_same_key_in_another_scope_is_another_key(service):
    await service.enqueue(new_job(), idempotency=repeatable(scope="a"))
    other = repeatable(scope="b", body="other")
    await service.enqueue(new_job(), idempotency=other)
    assert not other.is_replay
    assert await number_of_jobs(service) == 2


async def test_same_key_for_something_else_is_a_mismatch(service):
    await service.enqueue(new_job(), idempotency=repeatable())
    with pytest.raises(IdempotencyMismatch):
        await service.enqueue(new_job(), idempotency=repeatable(body="other"))
    assert await number_of_jobs(service) == 1


async def test_repeat_of_a_bulk_gets_all_of_its_results(service):
    jobs = [new_job(unique=unique(key=1)), new_job(), new_job(unique=unique(key=1))]
    results = await service.enqueue_many(jobs, idempotency=repeatable())
    assert [each.outcome for each in results] == [INSERTED, INSERTED, EnqueueOutcome.EXISTING]
    assert await service.enqueue_many(jobs, idempotency=repeatable()) == results
    assert await number_of_jobs(service) == 2


async def test_empty_bulk_keeps_its_key_too(service):
    assert await service.enqueue_many([], idempotency=repeatable()) == []
    repeat = repeatable()
    assert await service.enqueue_many([], idempotency=repeat) == []
    assert repeat.is_replay
    with pytest.raises(IdempotencyMismatch):
        await service.enqueue_many([new_job()], idempotency=repeatable(body="other"))


async def test_repeat_of_a_rerun_gives_no_second_attempt(service):
    job_id = (await service.enqueue(new_job(max_attempts=1))).id
    ack = await service.rerun_job(job_id, idempotency=repeatable())
    assert await service.rerun_job(job_id, idempotency=repeatable()) == ack
    assert (await service.get_job(job_id)).max_attempts == 2
    with pytest.raises(IdempotencyMismatch):
        await service.rerun_job(job_id, force=True, idempotency=repeatable(body="other"))


async def test_refused_rerun_is_not_kept(service):
    with pytest.raises(JobNotFound):
        await service.rerun_job(1, idempotency=repeatable())
    await service.enqueue(new_job())
    (job,) = await service.claim_jobs("mail")
    with pytest.raises(JobExecuting):
        await service.rerun_job(1, idempotency=repeatable())
    await service.mark_job_complete(1, fence=job.fence)
    call = repeatable()
    await service.rerun_job(1, idempotency=call)
    assert not call.is_replay


async def test_refused_enqueue_is_not_kept(tmp_path):
    async with running_service(tmp_path, max_payload_bytes=1024) as service:
        await service.enqueue(new_job(metadata="x" * 900, unique=unique(key=1)))
        replacing = unique(key=1, on_conflict=Replace(frozenset({ReplaceField.DATA})))
        with pytest.raises(PayloadTooLarge):
            await service.enqueue(new_job(data="x" * 900, unique=replacing), idempotency=repeatable())
        call = repeatable(body="shorter")
        await service.enqueue(new_job(data="x", unique=replacing), idempotency=call)
        assert not call.is_replay


async def test_repeats_in_one_transaction_are_one_change_whatever_their_order(service):
    calls = [repeatable() for _ in range(20)]
    async with writer_held(service):
        enqueuing = [asyncio.create_task(service.enqueue(new_job(), idempotency=call)) for call in calls]
        await until_waiting(service, 20)
    assert {(await each) for each in enqueuing} == {Enqueued(1, INSERTED)}
    assert sum(not call.is_replay for call in calls) == 1
    assert await number_of_jobs(service) == 1


async def test_in_one_transaction_keys_do_not_touch_one_another(service):
    bodies = [("a", "1"), ("b", "1"), ("a", "2"), ("b", "1"), ("c", "1"), ("a", "1")]
    async with writer_held(service):
        enqueuing = [
            asyncio.create_task(service.enqueue(new_job(data=key), idempotency=repeatable(key, body=body)))
            for key, body in bodies
        ]
        enqueuing.append(asyncio.create_task(service.enqueue(new_job(data="none"))))
        await until_waiting(service, 7)
    results = await asyncio.gather(*enqueuing, return_exceptions=True)
    assert isinstance(results[2], IdempotencyMismatch)
    assert results[0] == results[5]
    assert results[1] == results[3]
    assert len({each.id for each in results if isinstance(each, Enqueued)}) == 4
    assert await number_of_jobs(service) == 4


async def test_repeats_beside_one_that_fails_are_still_one_change(tmp_path):
    async with running_service(tmp_path, max_payload_bytes=1024) as service:
        await service.enqueue(new_job(metadata="x" * 900, unique=unique(key=1)))
        replacing = unique(key=1, on_conflict=Replace(frozenset({ReplaceField.DATA})))
        async with writer_held(service):
            failing = asyncio.create_task(
                service.enqueue(new_job(data="x" * 900, unique=replacing), idempotency=repeatable("failing"))
            )
            enqueuing = [
                asyncio.create_task(service.enqueue_many([new_job(), new_job()], idempotency=repeatable()))
                for _ in range(3)
            ]
            await until_waiting(service, 4)
        with pytest.raises(PayloadTooLarge):
            await failing
        one, *others = await asyncio.gather(*enqueuing)
        assert others == [one, one]
        assert await number_of_jobs(service) == 3
    assert kept_keys(tmp_path) == {"k"}


async def test_repeats_of_a_rerun_in_one_transaction_are_one_change(service):
    job_id = (await service.enqueue(new_job(max_attempts=1))).id
    async with writer_held(service):
        reruns = [asyncio.create_task(service.rerun_job(job_id, idempotency=repeatable())) for _ in range(5)]
        await until_waiting(service, 5)
    assert len(set(await asyncio.gather(*reruns))) == 1
    assert (await service.get_job(job_id)).max_attempts == 2


async def test_caller_that_left_finds_its_answer_when_it_repeats(service):
    async with writer_held(service):
        left = asyncio.create_task(service.enqueue(new_job(), idempotency=repeatable()))
        await until_waiting(service, 1)
        left.cancel()
    async with asyncio.timeout(20):
        while not await number_of_jobs(service):
            await asyncio.sleep(0.001)  # its write goes on
    repeat = repeatable()
    assert await service.enqueue(new_job(), idempotency=repeat) == Enqueued(1, INSERTED)
    assert repeat.is_replay
    assert await number_of_jobs(service) == 1


async def test_job_is_not_stored_where_its_answer_cannot_be(tmp_path):
    async with running_service(tmp_path) as service:
        with database(tmp_path) as connection:
            connection.execute("ALTER TABLE idempotency_keys RENAME COLUMN answer TO no_answer")
        with pytest.raises(DatabaseUnavailable):
            await service.enqueue(new_job(), idempotency=repeatable())
        assert await number_of_jobs(service) == 0
        await service.enqueue(new_job())


async def test_answer_is_kept_over_a_restart(tmp_path):
    async with running_service(tmp_path) as service:
        enqueued = await service.enqueue(new_job(), idempotency=repeatable())
    async with running_service(tmp_path) as service:
        repeat = repeatable()
        assert await service.enqueue(new_job(), idempotency=repeat) == enqueued
        assert repeat.is_replay


@pytest.mark.parametrize(("seconds", "is_replay"), [(DAY_SECONDS - 60, True), (DAY_SECONDS + 1, False)])
async def test_answer_is_kept_for_a_day(service, seconds, is_replay):
    await service.enqueue(new_job(), idempotency=repeatable(body="first"))
    with later(seconds):
        call = repeatable(body="first" if is_replay else "another day, another body")
        await service.enqueue(new_job(), idempotency=call)
        assert call.is_replay is is_replay
        assert await number_of_jobs(service) == (1 if is_replay else 2)
        again = repeatable(body=call.body_hash)
        await service.enqueue(new_job(), idempotency=again)
        assert again.is_replay


async def test_expired_answers_are_forgotten_in_bounded_batches(service, tmp_path):
    def enqueue(key: Any) -> Any:
        return service.enqueue(new_job(), idempotency=repeatable(str(key)))

    await asyncio.gather(*map(enqueue, range(FORGET_BATCH + 10)))
    assert await service.sweep(1) == 0
    with later(DAY_SECONDS + 1):
        await enqueue("new")
        assert await service.sweep(1) == FORGET_BATCH
        assert await service.sweep(1) == 10
        assert await service.sweep(1) == 0
        assert kept_keys(tmp_path) == {"new"}


async def test_sweeper_forgets_what_has_expired(service, tmp_path):
    await service.enqueue(new_job(), idempotency=repeatable("old"))
    with later(DAY_SECONDS + 1):
        await service.enqueue(new_job(), idempotency=repeatable("new"))
        leadership = Leadership(service)
        leading = asyncio.create_task(leadership.loop.run())
        sweeping = asyncio.create_task(Sweeper(service, leadership, pause_seconds=0.01).loop.run())
        async with asyncio.timeout(20):
            while kept_keys(tmp_path) != {"new"}:
                await asyncio.sleep(0.01)  # until the sweeper's next round
        leading.cancel()
        sweeping.cancel()
