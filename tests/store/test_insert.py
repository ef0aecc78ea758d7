"""Enqueued jobs are stored as they were given; a bulk is stored as a whole or not at all."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.errors import BackendError
from app.domain.instant import MAX_INSTANT
from app.domain.job import EnqueueOutcome
from app.domain.json_text import json_value
from app.domain.query import And, ExecutorEqual
from app.domain.status import JobStatus
from app.domain.uniqueness import Replace, ReplaceField
from tests.builders import MINUTE, SECOND, new_job, now, unique
from tests.services import on_both_databases

pytestmark = on_both_databases

EXISTING, INSERTED, REPLACED = EnqueueOutcome.EXISTING, EnqueueOutcome.INSERTED, EnqueueOutcome.REPLACED

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


async def test_new_job_is_stored_with_the_defaults_of_the_contract(service):
    before = now()
    enqueued = await service.enqueue(new_job("mail", data={"to": "ä"}, metadata=None))
    job = await service.get_job(enqueued.id)
    assert (enqueued.outcome, job.id, job.executor, job.status) == (INSERTED, enqueued.id, "mail", JobStatus.SCHEDULED)
    assert (json_value(job.data), json_value(job.metadata), json_value(job.tags)) == ({"to": "ä"}, None, [])
    assert (job.attempt, job.max_attempts, job.priority, job.fence, job.version) == (0, 5, 0, 0, 1)
    assert (job.errors, job.error_count, json_value(job.attempted_by)) == ([], 0, [])
    assert (job.attempted_at, job.finished_at, job.lease_expires_at, job.uniqueness_key) == (None, None, None, None)
    assert before <= job.inserted_at == job.scheduled_at <= now()


async def test_given_members_are_stored(service):
    enqueued = await service.enqueue(
        new_job(
            "a:b.c-d_9",
            data=[1.0, 1],
            metadata={"b": 1, "a": 2},
            max_attempts=65_535,
            priority=65_535,
            scheduled_at=MAX_INSTANT,
            tags=("x", "x", "ä", ""),
        )
    )
    job = await service.get_job(enqueued.id)
    assert (job.executor, job.data, job.metadata) == ("a:b.c-d_9", "[1.0,1]", '{"a":2,"b":1}')
    assert (job.max_attempts, job.priority, job.scheduled_at) == (65_535, 65_535, MAX_INSTANT)
    assert json_value(job.tags) == ["x", "x", "ä", ""]


async def test_delay_counts_from_the_insertion(service):
    enqueued = await service.enqueue(new_job(scheduled_at=timedelta(seconds=90)))
    job = await service.get_job(enqueued.id)
    assert job.scheduled_at == job.inserted_at + 90 * SECOND


async def test_ids_begin_at_one_and_rise(service):
    ids = [(await service.enqueue(new_job())).id for _ in range(3)]
    ids += [enqueued.id for enqueued in await service.enqueue_many([new_job()] * 3)]
    assert ids[0] == 1
    assert ids == sorted(set(ids))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.recursive(texts, lambda inner: st.lists(inner, max_size=3)), tags=st.lists(texts, max_size=4).map(tuple))
async def test_any_text_comes_back_as_it_was_given(service, data, tags):
    enqueued = await service.enqueue(new_job(data=data, tags=tags))
    job = await service.get_job(enqueued.id)
    assert (json_value(job.data), tuple(json_value(job.tags))) == (data, tags)


class TestBulk:
    async def test_results_stand_in_order(self, service):
        jobs = [new_job(f"e{number}", priority=number) for number in range(50)]
        results = await service.enqueue_many(jobs)
        stored = [await service.get_job(result.id) for result in results]
        assert [job.executor for job in stored] == [job.executor for job in jobs]
        assert [job.priority for job in stored] == list(range(50))
        assert {result.outcome for result in results} == {INSERTED}

    async def test_empty_bulk_is_nothing(self, service):
        assert await service.enqueue_many([]) == []

    async def test_later_jobs_see_earlier_ones(self, service):
        replacing = unique(key="k", on_conflict=Replace(frozenset({ReplaceField.PRIORITY})))
        results = await service.enqueue_many(
            [
                new_job(unique=unique(key="k")),
                new_job("other"),
                new_job(unique=unique(key="k")),
                new_job(priority=9, unique=replacing),
                new_job(unique=unique(key="other")),
                new_job("other", unique=unique(executor=True)),
            ]
        )
        first = results[0].id
        assert [result.outcome for result in results] == [INSERTED, INSERTED, EXISTING, REPLACED, INSERTED, EXISTING]
        assert [result.id for result in results] == [first, first + 1, first, first, results[4].id, first + 1]
        assert (await service.get_job(first)).priority == 9

    async def test_criteria_without_executor_see_new_executors_of_the_same_bulk(self, service):
        at = now() + MINUTE
        results = await service.enqueue_many(
            [new_job("brand-new", scheduled_at=at), new_job("other", scheduled_at=at, unique=unique(within=0))]
        )
        assert [result.outcome for result in results] == [INSERTED, EXISTING]

    async def test_bulk_is_stored_as_a_whole_or_not_at_all(self, service):
        """The data of one and the metadata of the other are together beyond the limit, which only the store can see."""
        await service.enqueue(new_job(data="x" * 400_000, metadata=None, unique=unique(key="big")))
        too_much = unique(key="big", on_conflict=Replace(frozenset({ReplaceField.METADATA, ReplaceField.PRIORITY})))
        jobs = [new_job("a"), new_job(data=None, metadata="x" * 200_000, priority=3, unique=too_much), new_job("b")]
        before = (await service.query(And(()))).jobs
        with pytest.raises(BackendError):
            await service.enqueue_many(jobs)
        assert (await service.query(And(()))).jobs == before
        (only,) = await service.list_executors()
        assert (only.executor, only.counts[JobStatus.SCHEDULED]) == ("mail", 1)

    async def test_bulk_that_fails_spares_those_who_shared_its_commit(self, service):
        await service.enqueue(new_job(data="x" * 400_000, metadata=None, unique=unique(key="big")))
        too_much = unique(key="big", on_conflict=Replace(frozenset({ReplaceField.METADATA})))
        bad = [new_job("bad"), new_job(metadata="x" * 200_000, unique=too_much)]
        outcomes = await asyncio.gather(
            *(service.enqueue(new_job("good")) for _ in range(5)),
            service.enqueue_many(bad),
            *(service.enqueue_many([new_job("good")] * 2) for _ in range(5)),
            return_exceptions=True,
        )
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert len(failed) == 1
        assert isinstance(failed[0], BackendError)
        counts = {each.executor: each.counts[JobStatus.SCHEDULED] for each in await service.list_executors()}
        assert counts == {"mail": 1, "good": 15}
        assert (await service.query(ExecutorEqual("bad"))).jobs == []

    async def test_ten_thousand_jobs_go_in_at_once(self, service):
        results = await service.enqueue_many([new_job() for _ in range(10_000)])
        assert len({result.id for result in results}) == 10_000
        (mail,) = await service.list_executors()
        assert mail.counts[JobStatus.SCHEDULED] == 10_000
