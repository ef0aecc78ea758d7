"""Each condition finds what it says, alone and joined with others."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from rexecutor_client import AsyncClient, EnqueuableJob, Where

pytestmark = pytest.mark.timeout(60)

NOON = datetime(2040, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
JOBS = {
    "a": EnqueuableJob(executor="mail", data={"to": "ada", "n": 1}, tags=["x"], scheduled_at=NOON - HOUR),
    "b": EnqueuableJob(executor="mail", data={"n": 1.0, "to": "ada"}, tags=["x", "y"], scheduled_at=NOON),
    "c": EnqueuableJob(executor="report", data=[1, 2], metadata={"by": "grace"}, scheduled_at=NOON + HOUR),
    "d": EnqueuableJob(executor="report", data=None, tags=["y"], scheduled_at=NOON + 2 * HOUR),
}


class Stored:
    """The jobs by name, and what a condition finds of them."""

    def __init__(self, client: AsyncClient, ids: dict[str, int]) -> None:
        self.ids = ids
        self._client = client

    async def found(self, where: Where) -> str:
        names = {job_id: name for name, job_id in self.ids.items()}
        return "".join(sorted([names[job.id] async for job in self._client.jobs(where)]))


@pytest.fixture
async def stored(url) -> AsyncIterator[Stored]:
    async with AsyncClient(url) as client:
        enqueued = await client.enqueue_many([*JOBS.values()])
        ids = {name: each.id for name, each in zip(JOBS, enqueued, strict=True)}
        await client.mark_job_complete(ids["d"])
        yield Stored(client, ids)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Where.everything(), "abcd"),
        (Where.executor_equals("mail"), "ab"),
        (Where.data_equals({"to": "ada", "n": 1}), "ab"),
        (Where.data_equals(None), "d"),
        (Where.metadata_equals({"by": "grace"}), "c"),
        (Where.metadata_equals(None), "abd"),
        (Where.status_equals("scheduled"), "abc"),
        (Where.status_equals("complete"), "d"),
        (Where.tagged_by_all_of("x", "y"), "b"),
        (Where.tagged_by_all_of(), "abcd"),
        (Where.tagged_by_one_of("x", "y"), "abd"),
        (Where.tagged_by_one_of(), ""),
        (Where.scheduled_at_before(NOON), "a"),
        (Where.scheduled_at_equals(NOON), "b"),
        (Where.scheduled_at_after(NOON), "cd"),
        (~Where.everything(), ""),
        (~Where.tagged_by_one_of("x"), "cd"),
        (Where.executor_equals("mail") & Where.tagged_by_one_of("y"), "b"),
        (Where.executor_equals("mail") | Where.status_equals("complete"), "abd"),
        (Where.everything() & Where.executor_equals("report"), "cd"),
        (~(Where.executor_equals("mail") | Where.tagged_by_one_of("y")) & Where.status_equals("scheduled"), "c"),
    ],
    ids=repr,
)
async def test_condition_finds_what_it_says(stored, where, expected):
    assert await stored.found(where) == expected


async def test_ids_are_found_alone_and_among_others(stored):
    ids = stored.ids
    assert await stored.found(Where.id_equals(ids["b"])) == "b"
    assert await stored.found(Where.id_in(ids["a"], ids["c"])) == "ac"
    assert await stored.found(Where.id_in()) == ""


def test_chains_stay_flat():
    chain = Where.id_equals(1) & Where.id_equals(2) & Where.id_equals(3)
    assert chain.query == {"and": [{"id_equals": 1}, {"id_equals": 2}, {"id_equals": 3}]}
