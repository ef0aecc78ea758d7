"""Every operation of both clients against a service, and what they do alike."""

import asyncio
import inspect
import math
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any

import pytest

from app.api.problems import PROBLEMS
from rexecutor_client import (
    AsyncClient,
    Client,
    EnqueuableJob,
    Except,
    ExecutionError,
    Job,
    JobChanges,
    MaxAge,
    MaxLength,
    NotJson,
    Only,
    Problem,
    PruneSpec,
    Where,
    Worker,
    errors,
    executor,
)

pytestmark = pytest.mark.timeout(60)

FAILURE = ExecutionError("panic", "it did not work")
HOUR = timedelta(hours=1)
ASYNC_ONLY = {"subscribe_ready_jobs"}


class Moment(datetime):
    """As libraries derive it."""


class Span(timedelta):
    """As libraries derive it."""


class Day(date):
    """As libraries derive it."""


class Hour(time):
    """As libraries derive it."""


class InAThread:
    """The sync client, to be awaited as the other."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*args: Any, **options: Any) -> Any:
            return await asyncio.to_thread(method, *args, **options)

        return call

    async def jobs(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        for job in await asyncio.to_thread(lambda: [*self._client.jobs(*args, **options)]):
            yield job


@pytest.fixture(params=["async", "sync"])
async def client(request, url) -> AsyncIterator[Any]:
    if request.param == "async":
        async with AsyncClient(url) as client:
            yield client
    else:
        with Client(url) as client:
            yield InAThread(client)


def operations(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(method)
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") and name not in ASYNC_ONLY
    }


def test_both_clients_have_the_same_methods_with_the_same_parameters():
    awaited, plain = operations(AsyncClient), operations(Client)
    assert awaited.keys() == plain.keys()
    for name, signature in awaited.items():
        assert signature.parameters == plain[name].parameters, name
        assert signature.return_annotation == plain[name].return_annotation or name in ("jobs", "bulk"), name


def test_every_problem_of_the_service_is_an_exception_of_its_own():
    assert {*errors._BY_SLUG} == {*PROBLEMS}
    for slug, kind in errors._BY_SLUG.items():
        raised = errors.problem_of(PROBLEMS[slug].status, {"type": f"/problems/{slug}", "detail": "so it is"})
        assert type(raised) is kind
        assert str(raised) == "so it is"
    assert type(errors.problem_of(418, {"type": "/problems/of-a-later-version"})) is Problem


def test_import_costs_next_to_nothing():
    heavy = "{'httpx2', 'websockets', 'stamina', 'cyclopts', 'rich', 'pydantic', 'app', 'rexecutor_server'}"
    code = f"import sys, rexecutor_client; print({heavy} & {{*sys.modules}}); rexecutor_client.AsyncClient"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "set()"


class TestOperations:
    async def test_enqueue_and_get(self, client):
        at = datetime(2030, 1, 1, 8, tzinfo=UTC)
        enqueued = await client.enqueue(
            EnqueuableJob(executor="mail", data={"a": [1, "ü", None]}, metadata=2.5, scheduled_at=at, tags=["t"])
        )
        assert enqueued.outcome == "inserted"
        job = await client.get_job(enqueued.id)
        assert (job.data, job.metadata, job.scheduled_at, job.tags) == ({"a": [1, "ü", None]}, 2.5, at, ["t"])

    async def test_key_of_the_callers_makes_two_enqueues_one(self, client):
        job = EnqueuableJob(executor="mail")
        ids = {(await client.enqueue(job, idempotency_key="k")).id for _ in range(2)}
        assert len(ids) == 1
        assert (await client.enqueue(job)).id not in ids

    async def test_many(self, client):
        results = await client.enqueue_many([EnqueuableJob(executor="mail", data=n) for n in range(3)])
        assert [(await client.get_job(each.id)).data for each in results] == [0, 1, 2]

    async def test_one_wrong_job_keeps_all_out_and_is_named(self, client):
        with pytest.raises(errors.ValidationError) as refusal:
            await client.enqueue_many([EnqueuableJob(executor="mail"), EnqueuableJob(executor="")])
        assert refusal.value.errors[0]["pointer"] == "/jobs/1/executor"
        assert [job async for job in client.jobs(Where.everything())] == []

    async def test_claim_and_each_acknowledgement(self, client):
        await client.enqueue_many([EnqueuableJob(executor="mail") for _ in range(6)])
        jobs = await client.claim_jobs("mail", limit=10, worker="w", lease=HOUR)
        one, two, three, four, five, six = jobs
        renewed = await client.renew_lease(one.id, fence=one.fence, lease=2 * HOUR)
        assert renewed.lease_expires_at > one.lease_expires_at
        assert (await client.mark_job_complete(one.id)).status == "complete"
        assert (await client.mark_job_retryable(two.id, HOUR, FAILURE)).status == "retryable"
        assert (await client.mark_job_snoozed(three.id, datetime.now(UTC) + HOUR)).status == "scheduled"
        assert (await client.mark_job_discarded(four.id, FAILURE)).status == "discarded"
        assert (await client.mark_job_cancelled(five.id, FAILURE)).status == "cancelled"
        assert (await client.release_job(six.id, fence=six.fence)).status == "scheduled"
        assert (await client.get_job(two.id)).errors[0].details == FAILURE.message

    async def test_rerun_with_force(self, client):
        enqueued = await client.enqueue(EnqueuableJob(executor="mail"))
        await client.claim_jobs("mail")
        with pytest.raises(errors.JobExecuting) as refusal:
            await client.rerun_job(enqueued.id)
        assert (refusal.value.job_id, refusal.value.current_status) == (enqueued.id, "executing")
        assert (await client.rerun_job(enqueued.id, force=True)).status == "scheduled"

    async def test_update_at_a_version(self, client):
        enqueued = await client.enqueue(EnqueuableJob(executor="mail", data=1))
        changed = await client.update_job(enqueued.id, JobChanges(data=None, priority=3), if_match=1)
        assert (changed.data, changed.priority, changed.version) == (None, 3, 2)
        with pytest.raises(errors.VersionMismatch):
            await client.update_job(enqueued.id, JobChanges(data=2), if_match=1)

    async def test_pages_bring_all_jobs_latest_first(self, client):
        results = await client.enqueue_many([EnqueuableJob(executor="mail", data=n) for n in range(25)])
        found = [job.id async for job in client.jobs(Where.executor_equals("mail"), page_size=10)]
        assert found == [each.id for each in results][::-1]
        page = await client.query(Where.data_equals(7) | Where.id_in(results[0].id))
        assert [job.data for job in page.jobs] == [7, 0]

    async def test_prune(self, client):
        results = await client.enqueue_many([EnqueuableJob(executor="mail") for _ in range(3)])
        for each in results:
            await client.mark_job_complete(each.id)
        keep_one = PruneSpec("complete", MaxLength(1), Only(("mail",)))
        assert await client.prune_jobs(keep_one, dry_run=True) == 2
        assert await client.prune_jobs(PruneSpec("complete", MaxAge(HOUR))) == 0
        assert await client.prune_jobs(PruneSpec("complete", MaxLength(0), Except(("mail",)))) == 0
        assert await client.prune_jobs(keep_one) == 2

    async def test_executors_and_service(self, client):
        await client.enqueue(EnqueuableJob(executor="mail"))
        (summary,) = await client.list_executors()
        assert (summary.executor, summary.counts["scheduled"], summary.connections) == ("mail", 1, 0)
        assert (await client.service_info())["protocol"] == 1
        assert await client.is_ready()


class TestRefusals:
    async def test_unknown_job(self, client):
        with pytest.raises(errors.JobNotFound) as refusal:
            await client.get_job(42)
        assert refusal.value.job_id == 42
        assert str(refusal.value.instance).startswith("urn:uuid:")

    @pytest.mark.parametrize(
        "data",
        [math.nan, {"a": [math.inf]}, object(), {"a": {1, 2}.__iter__()}, "\ud800", 1j],
        ids=["NaN", "infinity", "object", "iterator", "half a character", "complex number"],
    )
    async def test_what_is_no_json_is_not_sent(self, client, data):
        with pytest.raises(NotJson):
            await client.enqueue(EnqueuableJob(executor="mail", data=data))
        assert [job async for job in client.jobs(Where.everything())] == []

    async def test_times_of_derived_classes_are_sent_as_plain_ones(self, client):
        """As pandas and pendulum have them."""
        at = Moment(2040, 1, 1, tzinfo=UTC)
        data = [Span(hours=1), Day(2040, 1, 1), Hour(12, 30)]
        there = await client.enqueue(EnqueuableJob(executor="mail", scheduled_at=at, data=data))
        [job] = [job async for job in client.jobs(Where.scheduled_at_equals(at))]
        assert (job.id, job.data) == (there.id, ["PT3600S", "2040-01-01", "12:30:00"])
        later = await client.enqueue(EnqueuableJob(executor="mail", delay=Span(hours=1)))
        assert abs((await client.get_job(later.id)).scheduled_at - datetime.now(UTC) - HOUR) < timedelta(minutes=1)

    async def test_integer_beyond_64_bits_is_refused_by_one_of_the_two(self, client):
        with pytest.raises((NotJson, errors.ValidationError)):
            await client.enqueue(EnqueuableJob(executor="mail", data=2**64))


@executor("nothing")
def nothing(_: Job) -> None:
    """Do nothing."""


class TestNobodyThere:
    async def test_is_told_in_time(self):
        async with AsyncClient("http://127.0.0.1:1", retry_seconds=0.3) as client:
            with pytest.raises(errors.ServiceUnreachable):
                await client.enqueue(EnqueuableJob(executor="mail"))
            assert not await client.is_ready()

    @pytest.mark.parametrize(
        "url",
        [
            "localhost:8000",
            "gopher://127.0.0.1",
            "http://",
            "http://[::1",
            "http://a:b",
            "http://a?b=c",
            "http://a\n",
            "http://é..x",
            "http://a..b",
        ],
    )
    @pytest.mark.parametrize("kind", [AsyncClient, Client, partial(Worker, [nothing])], ids=["async", "sync", "worker"])
    def test_address_that_is_none(self, kind, url, monkeypatch):
        with pytest.raises(errors.InvalidUrl, match="is no address of a service"):
            kind(url=url)
        monkeypatch.setenv("REXECUTOR_URL", url)
        with pytest.raises(errors.InvalidUrl):
            kind()
