"""REXECUTOR_POOLER=transaction: two servers over a pooler that gives each transaction another connection."""

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy import text

from app.domain.idempotency import Idempotency
from app.domain.job import EnqueueOutcome
from app.domain.lifecycle import RevokeReason
from app.domain.pruning import MaxLength, PruneSpec
from app.domain.query import ExecutorEqual
from app.domain.status import JobStatus
from app.domain.stream import Revoke
from app.store import migrations
from app.store.dialects.base import DatabaseUnusable
from tests.builders import DAY, FAILURE, new_job, now, unique
from tests.delivery.streams import subscribed, take, take_events
from tests.pooler import pooled_url, running_pooler
from tests.postgres import run
from tests.services import running_service

POOLERS = ["pooler", "pgbouncer"]
CONNECTIONS = 25
"""More than two servers ever use at once."""
HOT = {"statement_timeout": "10s", "lock_timeout": "5s", "idle_in_transaction_session_timeout": "10s", "jit": "off",
       "enable_seqscan": "off"}  # fmt: skip
READING = HOT | {"enable_seqscan": "on", "transaction_isolation": "repeatable read", "transaction_read_only": "on"}

through_each_pooler = pytest.mark.parametrize("pooled_database", POOLERS, indirect=True)


@pytest.fixture
async def servers(pooled_database, tmp_path):
    of_both = {"database_url": pooled_database, "pooler": "transaction"}
    async with running_service(tmp_path, **of_both) as one, running_service(tmp_path, **of_both) as other:
        yield one, other


async def ask_each_connection(url: str, statement: str) -> list[object]:
    """What each connection of the pooler says."""
    clients = [await asyncpg.connect(url, statement_cache_size=0) for _ in range(CONNECTIONS)]
    try:
        for client in clients:
            await client.execute("BEGIN")
        assert len({await client.fetchval("SELECT pg_backend_pid()") for client in clients}) > 1
        return [await client.fetchval(statement) for client in clients]
    finally:
        for client in clients:
            await client.close()


async def left_behind(url: str) -> set[object]:
    """How many settings, statements and channels a connection still has that some server gave it."""
    return set(
        await ask_each_connection(
            url,
            f"""
            SELECT (SELECT count(*) FROM pg_settings WHERE name IN {tuple(HOT)} AND setting <> reset_val)
                   + (SELECT count(*) FROM pg_prepared_statements) + (SELECT count(*) FROM pg_listening_channels())
            """,
        )
    )


@through_each_pooler
async def test_what_is_done_at_one_server_is_known_at_the_other(servers):
    here, there = servers
    async with subscribed(there, prefetch=1) as worker:
        for number in range(6):
            enqueued = await here.enqueue(new_job())
            (job,) = await take(worker, 1)
            assert job.id == enqueued.id
            await servers[number % 2].mark_job_complete(job.id, fence=job.fence)
        await here.enqueue(new_job())
        (job,) = await take(worker, 1)
        await here.mark_job_cancelled(job.id, FAILURE)
        assert await take_events(worker, 1) == [Revoke(job.id, job.fence, RevokeReason.CANCELLED)]
    (summary,) = await here.list_executors()
    assert {status: count for status, count in summary.counts.items() if count} == {
        JobStatus.COMPLETE: 6,
        JobStatus.CANCELLED: 1,
    }


@through_each_pooler
async def test_all_kinds_of_calls_are_answered_at_once_and_many_times(servers, pooled_database):
    here, there = servers

    async def one_round(number: int) -> None:
        executor = f"e{number}"
        criteria = unique(executor=True, statuses=frozenset(JobStatus))
        call = Idempotency(scope="enqueue", key=executor, body_hash="h")
        results = await asyncio.gather(
            *(server.enqueue(new_job(executor, unique=criteria), idempotency=call) for server in servers * 2),
            *(server.enqueue(new_job(executor, unique=criteria)) for server in servers * 2),
        )
        assert len({result.id for result in results}) == 1
        assert Counter(result.outcome for result in results[4:]) <= Counter(
            {EnqueueOutcome.EXISTING: 4, EnqueueOutcome.INSERTED: 1}
        )
        (job,) = await there.claim_jobs(executor)
        await here.renew_lease(job.id, fence=job.fence, lease=timedelta(minutes=1))
        await here.mark_job_retryable(job.id, now() + DAY, FAILURE, fence=job.fence)
        await there.rerun_job(job.id)
        (job,) = await here.claim_jobs(executor)
        await there.mark_job_complete(job.id, fence=job.fence)
        (found,) = (await here.query(ExecutorEqual(executor))).jobs
        assert (found.status, found.error_count) == (JobStatus.COMPLETE, 1)

    await asyncio.gather(*(one_round(number) for number in range(8)))
    assert await here.prune_jobs(PruneSpec(JobStatus.COMPLETE, MaxLength(0))) == 8
    assert (await here.health()).dead_loops == (await there.health()).dead_loops == ()
    assert await left_behind(pooled_database) == {0}


@through_each_pooler
async def test_time_limits_hold_in_each_transaction_and_nothing_stays_behind(servers, pooled_database):
    dialect = servers[0]._dialect

    async def in_a_transaction(transaction, calls):
        return [{name: await transaction.connection.fetchval(f"SHOW {name}") for name in HOT} for _ in calls]

    async with dialect.reading() as connection:
        read = {name: await connection.scalar(text(f"SHOW {name}")) for name in READING}
    async with dialect.searching(seconds=3) as connection:
        searched = await connection.scalar(text("SHOW statement_timeout"))
    assert await dialect._rest.submit(in_a_transaction, [None]) == [HOT]
    assert read == READING
    assert searched == "3s"
    assert await left_behind(pooled_database) == {0}


@through_each_pooler
async def test_locks_end_with_their_transactions(servers, pooled_database):
    await servers[0].enqueue(new_job(unique=unique(executor=True)))
    held = "SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND state = 'idle'"
    assert await asyncio.to_thread(run, pooled_database, held) == []


@pytest.mark.parametrize("name", POOLERS)
def test_schema_is_made_through_a_pooler_by_several_at_once(request, postgres, name):
    with postgres.database(schema=False) as url, ThreadPoolExecutor(3) as threads:
        pooled = pooled_url(url, request.getfixturevalue(name))
        for made in [threads.submit(migrations.upgrade, pooled, behind_pooler=True) for _ in range(3)]:
            made.result()
        migrations.check(url)


@pytest.mark.parametrize(
    ("strict", "complaint"),
    [(True, "unsupported startup parameter"), (False, "prepared statement .* does not exist")],
    ids=["that is strict", "that is not"],
)
async def test_without_the_setting_no_server_begins_behind_a_pooler(
    postgres, postgres_database, tmp_path, strict, complaint
):
    with running_pooler(postgres.url, strict=strict) as (_, port):
        url = pooled_url(postgres_database, port)
        with pytest.RaisesGroup(pytest.RaisesExc(DatabaseUnusable, match=complaint)):
            async with running_service(tmp_path, database_url=url):
                pass


async def test_each_call_really_meets_other_connections(postgres, postgres_database, tmp_path):
    with running_pooler(postgres.url) as (pooler, port):
        url = pooled_url(postgres_database, port)
        async with running_service(tmp_path, database_url=url, pooler="transaction") as server:
            before = pooler.switches
            for _ in range(20):
                await server.enqueue(new_job())
            assert pooler.switches - before >= 20
