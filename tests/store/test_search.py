"""Queries find what an oracle in memory finds, page by page."""

from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.backend.extensions import Service
from app.domain.job import Job
from app.domain.json_text import json_document
from app.domain.query import (
    And,
    DataEquals,
    ExecutorEqual,
    IdEquals,
    IdIn,
    MetadataEquals,
    Not,
    Or,
    Query,
    ScheduledAtAfter,
    ScheduledAtBefore,
    ScheduledAtEqual,
    StatusEqual,
    TagsAllOf,
    TagsOneOf,
)
from app.domain.status import JobStatus
from tests.builders import FAILURE, MINUTE, new_job, now
from tests.services import on_both_databases
from tests.store.query_oracle import found_by

pytestmark = on_both_databases

EVERYTHING = And(())
EXECUTORS = ["mail", "Mail", "mail:eu"]
DATA: list[Any] = [
    None,
    False,
    True,
    0,
    0.0,
    -0.0,
    1,
    1.0,
    1.5,
    "1",
    "",
    "ä",
    "100%",
    "it's",
    [],
    {},
    [1, 2],
    [1.0, 2.0],
    [2, 1],
    {"a": 1, "b": [None]},
    {"b": [None], "a": 1.0},
    {"a": 1},
    {"A": 1},
    2**64 - 1,
    -(2**63),
    2.0**53,
    2**53 + 1,
    1e22,
]
TAGS = ["a", "b", "A", "", '"', "a,b", "[]", "ä", "%"]
TIMES = [0, 1, 1_700_000_000_000_000, 1_700_000_000_000_001, 7_289_654_399_999_999]
COUNT = 90

leaves: st.SearchStrategy[Query] = st.one_of(
    st.sampled_from([*EXECUTORS, "", "nobody", "mail' OR 1=1 --"]).map(ExecutorEqual),
    st.sampled_from(DATA).map(lambda value: DataEquals(json_document(value).compared)),
    st.sampled_from(DATA).map(lambda value: MetadataEquals(json_document(value).compared)),
    st.integers(-1, COUNT + 1).map(IdEquals),
    st.sampled_from([2**63 - 1, -(2**63)]).map(IdEquals),
    st.lists(st.integers(0, COUNT + 1) | st.just(2**63 - 1), max_size=COUNT).map(lambda ids: IdIn(tuple(ids))),
    st.sampled_from(JobStatus).map(StatusEqual),
    st.lists(st.sampled_from(TAGS), max_size=3).map(lambda tags: TagsAllOf(tuple(tags))),
    st.lists(st.sampled_from(TAGS), max_size=3).map(lambda tags: TagsOneOf(tuple(tags))),
    st.sampled_from(TIMES).map(ScheduledAtBefore),
    st.sampled_from(TIMES).map(ScheduledAtAfter),
    st.sampled_from(TIMES).map(ScheduledAtEqual),
)
trees: st.SearchStrategy[Query] = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda each: And(tuple(each)))
        | st.lists(inner, max_size=4).map(lambda each: Or(tuple(each)))
        | inner.map(Not)
    ),
    max_leaves=12,
)


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """A tree; what it is drawn from is too long to be shown."""
    return draw(trees)


@pytest.fixture
async def jobs(service: Service) -> list[Job]:
    """Jobs of every status, with data, metadata, tags and times that queries could confuse."""
    chance = Random(2026)
    for number in range(COUNT):
        enqueued = await service.enqueue(
            new_job(
                chance.choice(EXECUTORS),
                data=DATA[number % len(DATA)],
                metadata=chance.choice(DATA),
                tags=tuple(chance.sample(TAGS, chance.randrange(4))),
                scheduled_at=chance.choice(TIMES),
            )
        )
        match chance.randrange(6):
            case 0:
                await service.mark_job_complete(enqueued.id)
            case 1:
                await service.mark_job_discarded(enqueued.id, FAILURE)
            case 2:
                await service.mark_job_cancelled(enqueued.id, FAILURE)
            case 3:
                await service.mark_job_retryable(enqueued.id, chance.choice(TIMES), FAILURE)
    for executor in EXECUTORS:
        await service.claim_jobs(executor, limit=4)
    stored = [await service.get_job(job_id) for job_id in range(1, COUNT + 1)]
    assert {job.status for job in stored} == set(JobStatus)
    return stored


async def ids(service: Service, query: Query) -> list[int]:
    return [job.id for job in (await service.query(query, limit=1000)).jobs]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=queries())
async def test_query_finds_what_the_oracle_finds(service, jobs, query):
    assert await ids(service, query) == found_by(query, jobs)


@pytest.mark.parametrize("leaf", ["data", "metadata"])
async def test_every_value_is_found_by_every_equal_value_and_no_other(service, jobs, leaf):
    for value in DATA:
        canonical = json_document(value).compared
        query = DataEquals(canonical) if leaf == "data" else MetadataEquals(canonical)
        assert await ids(service, query) == found_by(query, jobs)


async def test_jobs_of_a_query_are_those_that_are_stored(service, jobs):
    page = await service.query(EVERYTHING, limit=1000)
    assert page.jobs == sorted(jobs, key=lambda job: job.id, reverse=True)
    assert page.next_before is None


async def test_empty_lists_are_true_false_and_none(service, jobs):
    assert len(await ids(service, And(()))) == COUNT
    assert await ids(service, Or(())) == []
    assert await ids(service, IdIn(())) == []
    assert await ids(service, TagsOneOf(())) == []
    assert len(await ids(service, TagsAllOf(()))) == COUNT


async def test_query_as_deep_and_as_wide_as_allowed_is_answered(service, jobs):
    deep: Query = ExecutorEqual("mail")
    for level in range(31):
        deep = And((deep,)) if level % 2 else Not(Or((deep,)))
    assert await ids(service, deep) == found_by(deep, jobs)
    wide = Or(tuple(Not(IdEquals(number)) for number in range(249)))
    assert await ids(service, wide) == found_by(wide, jobs)
    many = IdIn(tuple(range(2, 20_002, 2)))
    assert await ids(service, many) == found_by(many, jobs)


@pytest.mark.parametrize("limit", [1, 7, 89, 90, 91])
async def test_pages_joined_are_the_whole(service, jobs, limit):
    query = Not(ExecutorEqual("mail:eu"))
    found: list[int] = []
    before = None
    while True:
        page = await service.query(query, limit=limit, before=before)
        found += [job.id for job in page.jobs]
        assert len(page.jobs) <= limit
        if page.next_before is None:
            break
        before = page.next_before
    assert found == found_by(query, jobs)


async def test_page_ends_early_at_8_mib(service):
    for _ in range(20):
        await service.enqueue(new_job(data="x" * 500_000, metadata=None))
    page = await service.query(EVERYTHING, limit=100)
    assert 14 <= len(page.jobs) <= 16
    assert page.next_before == page.jobs[-1].id
    rest = await service.query(EVERYTHING, limit=100, before=page.next_before)
    assert [job.id for job in page.jobs + rest.jobs] == list(range(20, 0, -1))


async def test_page_counts_the_errors_of_jobs_too(service):
    """Each job has 50 errors of 64 KiB: three make more than 8 MiB."""
    long_winded = FAILURE.__class__("custom", "x" * 64 * 1024)
    for _ in range(3):
        enqueued = await service.enqueue(new_job())
        for _ in range(50):
            await service.mark_job_retryable(enqueued.id, now() + MINUTE, long_winded)
    page = await service.query(EVERYTHING, limit=100)
    assert [job.id for job in page.jobs] == [3, 2]
    assert page.next_before == 2


async def test_pages_see_changes_made_between_them(service):
    for _ in range(3):
        await service.enqueue(new_job())
    page = await service.query(StatusEqual(JobStatus.SCHEDULED), limit=1)
    await service.mark_job_complete(2)
    page = await service.query(StatusEqual(JobStatus.SCHEDULED), limit=1, before=page.next_before)
    assert [job.id for job in page.jobs] == [1]
