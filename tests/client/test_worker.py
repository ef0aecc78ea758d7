"""Executors run by a worker against a real server."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from rexecutor_client import (
    AsyncClient,
    Cancel,
    Discard,
    EnqueuableJob,
    Enqueued,
    ExecutionError,
    JobStatus,
    NotJson,
    Snooze,
    Where,
    Worker,
    executor,
)
from rexecutor_client.job import Job
from rexecutor_client.results import Result


class Email(msgspec.Struct):
    to: str


seen: list[str] = []


@executor("email")
async def email(job: Job[Email]) -> None:
    seen.append(job.data.to)


@executor("nap")
def nap(job: Job) -> Snooze:
    return Snooze(timedelta(hours=1))


@executor("exits", max_attempts=1)
async def exits(job: Job) -> None:
    raise SystemExit(3)


@executor("leaks", max_attempts=1)
async def leaks(job: Job) -> None:
    waiting = asyncio.create_task(asyncio.sleep(60))
    waiting.cancel()
    await waiting


async def finished(client: AsyncClient, executor_name: str, status: str, count: int) -> list[Job]:
    wanted = Where.executor_equals(executor_name) & Where.status_equals(status)
    async with asyncio.timeout(20):
        while len(jobs := [job async for job in client.jobs(wanted, page_size=1000)]) < count:
            await asyncio.sleep(0.02)
    return jobs


async def found(client: AsyncClient, stored: list[Enqueued]) -> list[Job]:
    return [await client.get_job(each.id) for each in stored]


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[None]:
    work = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await asyncio.wait_for(work, 10)


@pytest.fixture
async def client(served):
    async with AsyncClient(served.url) as client:
        yield client


async def test_worker_runs_each_job_with_its_data_decoded(served, client):
    seen.clear()
    async with client.bulk() as bulk:
        stored = await asyncio.gather(*(bulk.enqueue(email.job(Email(to=f"user {n}"))) for n in range(2_000)))
    assert len({each.id for each in stored}) == 2_000
    worker = Worker([email], url=served.url, concurrency=50)
    running = asyncio.create_task(worker.run())
    await finished(client, "email", "complete", 2_000)
    worker.stop()
    await asyncio.wait_for(running, 10)
    assert sorted(seen) == sorted(f"user {n}" for n in range(2_000))


async def test_result_and_failures_become_what_they_mean(served, client):
    asleep = await client.enqueue(nap.job())
    out = await client.enqueue(exits.job())
    leaked = await client.enqueue(leaks.job())
    wrong = await client.enqueue(email.job({"no": "address"}))  # type: ignore[arg-type]
    worker = Worker([nap, exits, leaks, email], url=served.url)
    running = asyncio.create_task(worker.run())
    await finished(client, "exits", "discarded", 1)
    await finished(client, "leaks", "discarded", 1)
    await finished(client, "email", "retryable", 1)
    worker.stop()
    await asyncio.wait_for(running, 10)
    assert (await client.get_job(asleep.id)).status is JobStatus.SCHEDULED
    assert (await client.get_job(asleep.id)).attempt == 0
    assert (await client.get_job(out.id)).errors[0].error_type == "panic"
    assert (await client.get_job(leaked.id)).errors[0].error_type == "CancelledError"
    assert (await client.get_job(wrong.id)).errors[0].error_type == "undecodable"


async def test_result_that_says_too_much_or_nothing_sensible_leaves_no_job_held(served, client):
    said = {
        "long": Discard("\x00" * 2_000_000),
        "error": Cancel(ValueError("an exception")),
        "never": Snooze(datetime.max.replace(tzinfo=UTC)),
        "text": Snooze("tomorrow"),  # type: ignore[arg-type]
        "past": Snooze(datetime(1969, 1, 1, tzinfo=UTC)),
    }

    @executor("odd")
    async def odd(job: Job[str]) -> Result:
        return said[job.data]

    stored = await client.enqueue_many([odd.job(what) for what in said])
    async with running(Worker([odd], url=served.url)):
        async with asyncio.timeout(20):
            while any(job.version == 1 or job.status == "executing" for job in await found(client, stored)):
                await asyncio.sleep(0.02)
    long, error, never, text, past = await found(client, stored)
    assert long.status == "discarded"
    assert 20_000 < len(long.errors[0].details) < 65_536
    assert (error.status, error.errors[0].error_type) == ("cancelled", "ValueError")
    assert (text.status, text.errors[0].error_type) == ("retryable", "TypeError")
    assert (past.status, past.errors[0].error_type) == ("retryable", "refused")
    assert (never.status, never.scheduled_at.year) == ("scheduled", 2200)


async def test_cancelled_job_is_stopped_at_its_worker(served, client):
    began, stopped = asyncio.Event(), asyncio.Event()

    @executor("long")
    async def long(job: Job) -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    job = await client.enqueue(long.job())
    worker = Worker([long], url=served.url)
    running = asyncio.create_task(worker.run())
    await asyncio.wait_for(began.wait(), 10)
    async with AsyncClient(served.url) as operator:
        await operator.mark_job_cancelled(job.id, ExecutionError("cancelled", "by hand"))
    await asyncio.wait_for(stopped.wait(), 10)
    worker.stop()
    await asyncio.wait_for(running, 10)
    assert worker.status.executors[0].revoked == 1


async def test_bulk_stores_what_was_begun_before_its_end_and_refuses_one_alone(client):
    async with client.bulk() as bulk:
        good = [asyncio.create_task(bulk.enqueue(EnqueuableJob(executor="mail", data=n))) for n in range(20)]
        bad = asyncio.create_task(bulk.enqueue(EnqueuableJob(executor="mail", priority=-1)))
    assert all(task.done() for task in good)
    assert bad.exception() is not None
    assert len(await finished(client, "mail", "scheduled", 20)) == 20


async def test_what_is_no_json_is_refused_before_it_is_sent(client):
    with pytest.raises(NotJson):
        await client.enqueue(EnqueuableJob(executor="mail", data={"n": float("nan")}))


async def test_job_that_comes_again_at_once_is_known_under_its_new_fence(client):
    """Its result may come after the job that the retry made: a fence is forgotten for its own job only."""
    job = await client.enqueue(EnqueuableJob(executor="mail"))
    subscription = await client.subscribe_ready_jobs("mail", prefetch=1)
    (first,) = await subscription.next()
    await subscription.retry(job.id, first.fence, timedelta(0), ExecutionError("x", "again"))
    (second,) = await asyncio.wait_for(subscription.next(), 5)
    assert second.fence > first.fence
    assert client._fences.of(job.id, None) == second.fence
    await client.mark_job_complete(job.id)
    assert client._fences.of(job.id, None) is None
    await subscription.close()


async def test_readme_runs_as_it_is_written(served, client, tmp_path):
    text = (Path(__file__).parents[2] / "client" / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "example.py").write_text(example.replace("seconds=2", "seconds=0"))
    environment = {**os.environ, "REXECUTOR_URL": served.url, "PYTHONUNBUFFERED": "1"}
    worker = await asyncio.create_subprocess_exec(
        sys.executable, str(tmp_path / "example.py"), env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert await asyncio.wait_for(worker.stdout.readline(), 20) == b"to ada@example.org\n"
        await finished(client, "email", "complete", 1)
        worker.terminate()
        assert await asyncio.wait_for(worker.wait(), 10) == 0
    finally:
        if worker.returncode is None:
            worker.kill()
