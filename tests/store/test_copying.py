"""`rexecutor copy` moves all there is, or nothing."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import timedelta

import pytest
from sqlalchemy import Connection, select

from app.commands.copy import copy
from app.domain.errors import StaleFence
from app.domain.idempotency import Idempotency
from app.domain.job import EnqueueOutcome
from app.domain.pruning import MaxLength, Only, PruneSpec
from app.domain.status import JobStatus
from app.store import migrations
from app.store.database import migrate
from app.store.tables import metadata
from tests.builders import DAY, FAILURE, new_job, now, unique
from tests.delivery.streams import take
from tests.postgres import empty, run
from tests.services import running_service

TABLES = ["jobs", "job_errors", "idempotency_keys", "leases", "executor_counts"]
KEPT = Idempotency(scope="enqueue", key="k", body_hash="h")
MANY = 100_000
MIB = 1024 * 1024


@pytest.fixture
def source(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
def target(postgres):
    with postgres.database(schema=False) as url:
        yield url


@pytest.fixture
async def moved(source, tmp_path):
    """A file with jobs in every state; what its clients know of it."""
    async with running_service(tmp_path, database_url=source) as server:
        await server.enqueue_many(
            [
                new_job(
                    "mail", data={"né": [1.0, 2**63, "\U0001f600", 1e300]}, metadata=None, priority=7, tags=["a", "b"]
                ),
                new_job("mail", scheduled_at=now() + DAY, max_attempts=3, unique=unique(key=7, executor=True)),
                new_job("cards.x", data=0.1, unique=unique(key="7")),
            ]
        )
        await server.enqueue(new_job("kept"), idempotency=KEPT)
        stream = await server.subscribe_ready_jobs("work", prefetch=3)
        await server.enqueue_many([new_job("work", data=number) for number in range(6)])
        streamed = await take(stream, 3)
        (polled, done, failing) = await server.claim_jobs("work", limit=3, worker="w", lease=timedelta(hours=1))
        await server.mark_job_complete(done.id, fence=done.fence)
        for _ in range(60):
            await server.mark_job_retryable(failing.id, now() + DAY, FAILURE)
        await server.mark_job_retryable(streamed[0].id, now() + DAY, FAILURE, fence=streamed[0].fence)
        for mark in (server.mark_job_cancelled, server.mark_job_discarded):
            ended = await server.enqueue(new_job("ended"))
            await mark(ended.id, FAILURE)
        last = await server.enqueue(new_job("pruned"))
        await server.mark_job_complete(last.id)
        assert await server.prune_jobs(PruneSpec(JobStatus.COMPLETE, MaxLength(0), Only(("pruned",)))) == 1
    return {"stream": stream, "streamed": streamed, "polled": polled, "done": done, "last": last.id}


def rows_of(url: str) -> dict[str, list[dict[str, object]]]:
    def read(connection: Connection) -> dict[str, list[dict[str, object]]]:
        return {
            name: [dict(row._mapping) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for name in TABLES
            for table in [metadata.tables[name]]
        }

    return migrate(url, read)


def without_ends(rows: dict[str, list[dict[str, object]]]) -> dict[str, list[dict[str, object]]]:
    """Sessions run on; counts are stored also where they are 0."""
    leases = [
        {name: value for name, value in lease.items() if name not in {"connected", "expires_at"}}
        for lease in rows["leases"]
    ]
    return rows | {"leases": leases, "executor_counts": [row for row in rows["executor_counts"] if row["count"]]}


async def copied(source: str, target: str) -> int:
    """What the command says, in a thread: it has an event loop of its own."""
    return await asyncio.to_thread(copy, source, target)


def many_jobs(url: str, count: int) -> None:
    migrations.upgrade(url)
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute(
            f"""
            WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})
            INSERT INTO jobs (executor, status, priority, scheduled_at, max_attempts, inserted_at, tags, data, metadata)
            SELECT 'e' || (n % 7), CASE n % 3 WHEN 0 THEN 'complete' ELSE 'scheduled' END, 0, n, 5, n, '[]',
                   '"' || hex(zeroblob(400)) || '"', 'null' FROM numbers
            """
        )
    connection.close()


async def test_there_and_back_each_row_is_what_it_was(source, target, tmp_path, moved, capsys):
    back = f"sqlite:///{tmp_path}/back.db"
    before = rows_of(source)
    assert await copied(source, target) == 0
    assert "copied 12 jobs, 53 errors, 2 sessions and 1 kept answers" in capsys.readouterr().out
    there = await asyncio.to_thread(rows_of, target)
    assert without_ends(there) == without_ends(before)
    assert await copied(target, back) == 0
    assert without_ends(rows_of(back)) == without_ends(before)
    for url in (source, target, back):
        async with running_service(tmp_path, database_url=url) as server:
            assert (await server.enqueue(new_job())).id == moved["last"] + 1, url


async def test_what_clients_know_is_good_at_the_target(source, target, tmp_path, moved):
    migrate(source, lambda connection: connection.exec_driver_sql("UPDATE leases SET expires_at = 1"))
    began = now()
    await copied(source, target)
    leases = (await asyncio.to_thread(rows_of, target))["leases"]
    assert {(lease["connected"], lease["expires_at"] > began + 29_000_000) for lease in leases} == {(0, True)}
    async with running_service(tmp_path, database_url=target) as server:
        held = moved["streamed"][1:]
        stream = await server.subscribe_ready_jobs("work", prefetch=3, resume=moved["stream"].hello.resume)
        assert stream.hello.resumed
        assert stream.hello.held == [(job.id, job.fence) for job in held]
        await server.mark_job_complete(held[0].id, fence=held[0].fence)
        await server.mark_job_complete(moved["polled"].id, fence=moved["polled"].fence)
        assert (await server.mark_job_complete(moved["done"].id, fence=moved["done"].fence)).duplicate
        with pytest.raises(StaleFence):
            await server.mark_job_complete(moved["streamed"][0].id, fence=moved["streamed"][0].fence - 1)
        again = Idempotency(scope="enqueue", key="k", body_hash="h")
        await server.enqueue(new_job("kept"), idempotency=again)
        assert again.is_replay
        twice = await server.enqueue(new_job("mail", unique=unique(key=7, executor=True)))
        assert twice.outcome is EnqueueOutcome.EXISTING
        await stream.close()


class TestRefusal:
    async def test_source_that_a_server_holds(self, source, target, tmp_path, capsys):
        async with running_service(tmp_path, database_url=source):
            assert await copied(source, target) == 1
        assert "another rexecutor server holds" in capsys.readouterr().err

    @pytest.mark.parametrize("left", ["a job", "a kept answer"])
    async def test_target_with_rows(self, source, postgres_database, tmp_path, capsys, left):
        many_jobs(source, 3)
        empty(postgres_database)
        async with running_service(tmp_path, database_url=postgres_database) as server:
            job = await server.enqueue(new_job(), idempotency=KEPT if left == "a kept answer" else None)
            if left == "a kept answer":
                await server.mark_job_complete(job.id)
                await server.prune_jobs(PruneSpec(JobStatus.COMPLETE, MaxLength(0)))
            before = await asyncio.to_thread(rows_of, postgres_database)
            assert await copied(source, postgres_database) == 1
        assert "rexecutor: the target is not empty" in capsys.readouterr().err
        after = await asyncio.to_thread(rows_of, postgres_database)
        assert (after["jobs"], after["idempotency_keys"]) == (before["jobs"], before["idempotency_keys"])

    async def test_source_that_is_not_there(self, source, target, tmp_path, capsys):
        assert await copied(source, target) == 1
        assert "there is no database at" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    async def test_source_of_an_earlier_revision(self, source, target, capsys):
        migrations.upgrade(source, "0003")
        assert await copied(source, target) == 1
        assert "is at revision 0003" in capsys.readouterr().err

    async def test_two_of_postgresql(self, target, capsys):
        assert await copied(target, target) == 1
        assert "pg_dump" in capsys.readouterr().err

    async def test_copy_that_lacks_a_row_is_undone(self, source, target, capsys):
        many_jobs(source, 10)
        await asyncio.to_thread(migrations.upgrade, target)
        lose = "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
        run(target, lose)
        run(target, "CREATE TRIGGER lose BEFORE INSERT ON jobs FOR EACH ROW WHEN (NEW.id = 5) EXECUTE FUNCTION lose()")
        assert await copied(source, target) == 1
        assert "of 1 scheduled jobs of e5 0 arrived" in capsys.readouterr().err
        assert run(target, "SELECT FROM jobs") == []


async def test_target_whose_jobs_are_gone_counts_from_the_start(source, postgres_database, tmp_path):
    many_jobs(source, 10)
    empty(postgres_database)
    async with running_service(tmp_path, database_url=postgres_database) as server:
        await server.mark_job_complete((await server.enqueue(new_job("e5"))).id)
        await server.prune_jobs(PruneSpec(JobStatus.COMPLETE, MaxLength(0)))
        assert await copied(source, postgres_database) == 0
        counts = {each.executor: sum(each.counts.values()) for each in await server.list_executors()}
        assert counts == {"e0": 1, "e1": 2, "e2": 2, "e3": 2, "e4": 1, "e5": 1, "e6": 1}


async def test_ids_go_on_above_those_of_32_bits(source, postgres_database, tmp_path):
    last = 2**40
    many_jobs(source, 1)
    with closing(sqlite3.connect(source.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'jobs'", (last,))
    empty(postgres_database)
    assert await copied(source, postgres_database) == 0
    async with running_service(tmp_path, database_url=postgres_database) as server:
        assert (await server.enqueue(new_job())).id == last + 1


def test_killed_copy_leaves_nothing_and_can_be_repeated(source, target):
    many_jobs(source, 8_000)
    migrations.upgrade(target)
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "copy", "--from", source, "--to", target],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "REXECUTOR_LOG_LEVEL": "ERROR"},
    )
    while run(target, "SELECT pg_relation_size('jobs')")[0][0] < MIB:
        assert process.poll() is None
        time.sleep(0.01)  # what a transaction has written shows only in the size of the file
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    while run(target, "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"):
        time.sleep(0.01)  # until the server has noticed
    assert run(target, "SELECT FROM jobs") == []
    assert copy(source, target) == 0
    assert run(target, "SELECT count(*) FROM jobs")[0][0] == 8_000


@pytest.mark.chaos
@pytest.mark.timeout(120)
def test_hundred_thousand_jobs_need_no_more_memory_than_some(tmp_path, target):
    program = (
        "import resource, sys; from app.commands.copy import copy; status = copy(sys.argv[1], sys.argv[2]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024); sys.exit(status)"
    )
    peaks = {}
    for count in (2_000, MANY):
        source = f"sqlite:///{tmp_path}/{count}.db"
        many_jobs(source, count)
        done = subprocess.run(
            [sys.executable, "-c", program, source, target], check=True, capture_output=True, text=True, timeout=100
        )
        peaks[count] = int(done.stdout.split()[-1])
        assert run(target, "SELECT count(*) FROM jobs")[0][0] == count
        empty(target)
    assert peaks[MANY] < peaks[2_000] + 30
