"""Hot statements reach their rows by an index, and nothing that happens all the time reads the whole table."""

import re
import sqlite3
from collections.abc import Iterator
from datetime import timedelta

import pytest

from app.backend.extensions import Service
from app.domain.idempotency import Idempotency
from app.domain.job import EnqueuableJob, JobChanges
from app.domain.status import JobStatus
from app.domain.uniqueness import Replace, ReplaceField
from app.store import migrations
from app.store.dialects.sqlite import claim, gauges, idempotency, insert, leases, rows
from tests.builders import FAILURE, MINUTE, new_job, unique

STATEMENTS = {
    "levels of a claim": (claim.SELECT_LEVELS, "jobs_ready", "executor=? AND priority>?"),
    "due jobs of a claim": (claim.SELECT_DUE, "jobs_ready", "executor=? AND priority=? AND scheduled_at<?"),
    "next wake": (claim.SELECT_NEXT, "jobs_ready", "executor=? AND priority=? AND scheduled_at>?"),
    "oldest ready of all": (gauges.SELECT_OLDEST, "jobs_ready", "executor=? AND priority>?"),
    "next executor that waits": (gauges.SELECT_OLDEST, "jobs_ready", "executor>?"),
    "expired leases": (leases.SELECT_EXPIRED, "leases_expires_at", "expires_at<?"),
    "empty expired leases": (leases.FORGET_EMPTY, "leases_expires_at", "expires_at<?"),
    "jobs of a session": (leases.SELECT_HELD, "jobs_lease", "lease_id=?"),
    "jobs of a lease": (rows.SELECT_STATES_BY_LEASE, "jobs_lease", "lease_id=?"),
    "unique by key": (insert.NEAREST_BY_KEY, "jobs_unique", "uniqueness_key=? AND status=? AND scheduled_at"),
    "unique by key and executor": (insert.NEAREST_BY_KEY_AND_EXECUTOR, "jobs_unique", "uniqueness_key=? AND status=?"),
    "unique among scheduled": (insert.NEAREST_SCHEDULED, "jobs_ready", "executor=? AND priority=? AND scheduled_at"),
    "unique among finished": (insert.NEAREST_IN_HISTORY, "jobs_history", "executor=? AND status=? AND scheduled_at"),
    "unique among executing": (insert.NEAREST_EXECUTING, "jobs_lease", "lease_id=?"),
    "answers of repeatable calls": (idempotency.SELECT_KEPT, "idempotency_keys_key", "scope=? AND key=?"),
    "priorities of an executor": (insert.NEXT_PRIORITY, "jobs_ready", "executor=? AND priority>?"),
}
STATUS_LOOKED_FOR = {
    "unique by key": "scheduled",
    "unique by key and executor": "scheduled",
    "unique among scheduled": "scheduled",
    "unique among finished": "complete",
    "unique among executing": "executing",
}
FULL_SCAN = re.compile(r"SCAN (jobs|job_errors|idempotency_keys|kept)\b")


@pytest.fixture
def database(tmp_path) -> Iterator[sqlite3.Connection]:
    """An empty database with the schema."""
    migrations.upgrade(f"sqlite:///{tmp_path}/plans.db")
    connection = sqlite3.connect(tmp_path / "plans.db")
    yield connection
    connection.close()


def plan_of(database: sqlite3.Connection, statement: str) -> list[str]:
    """The steps of a statement's plan; what it is given does not matter for it."""
    named = dict.fromkeys(re.findall(r":([a-z]+)", statement))
    parameters = named or (None,) * statement.count("?")
    return [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]


@pytest.mark.parametrize("name", STATEMENTS)
def test_hot_statement_uses_its_index(database, name):
    statement, index, columns = STATEMENTS[name]
    plan = plan_of(database, statement)
    assert any(f"INDEX {index} ({columns}" in step for step in plan), plan
    assert not any(FULL_SCAN.match(step) for step in plan), plan


@pytest.mark.parametrize("name", ["due jobs of a claim", "next wake", "jobs of a lease", "expired leases"])
def test_hot_statement_sorts_nothing(database, name):
    """What stands in the index's order need not be sorted: a claim of one reads one row, whatever the backlog."""
    assert not any("TEMP B-TREE" in step for step in plan_of(database, STATEMENTS[name][0]))


def test_full_scan_would_be_noticed(database):
    plan = plan_of(database, "SELECT id FROM jobs WHERE executor = ? AND status = 'scheduled' AND data = ?")
    assert any(FULL_SCAN.match(step) for step in plan)


@pytest.mark.parametrize("name", [name for name in STATEMENTS if name.startswith("unique")])
def test_unique_lookup_returns_few_rows_however_many_share_an_instant(database, name):
    database.execute("INSERT INTO leases VALUES (1, 's', 'mail', 'w', 'o', 1, NULL, 1, NULL)")
    database.executemany(
        "INSERT INTO jobs (id, executor, status, priority, scheduled_at, max_attempts, data, metadata, tags,"
        " inserted_at, uniqueness_key, lease_id) VALUES (?, 'mail', ?, 0, 5, 5, '1', '1', '[]', 1, 'k', ?)",
        [(number, STATUS_LOOKED_FOR[name], 1 if "executing" in name else None) for number in range(1, 101)],
    )
    given = {"key": "k", "executor": "mail", "priority": 0, "status": STATUS_LOOKED_FOR[name]}
    for at in (4, 5, 6):
        found = database.execute(STATEMENTS[name][0], {**given, "at": at, "earliest": 0, "latest": 10}).fetchall()
        assert 1 in {row[0] for row in found}, "the lowest id"
        assert len(found) <= 2


async def test_no_write_of_daily_life_reads_the_whole_table(service: Service, tmp_path):
    executed: set[str] = set()
    writer = service._dialect._writer._connection  # type: ignore[attr-defined]
    writer.set_trace_callback(executed.add)
    await daily_life(service)
    writer.set_trace_callback(None)
    changes = [each for each in executed if re.match(r"\s*(WITH|SELECT|UPDATE|DELETE|INSERT)\b", each)]
    assert sum("UPDATE jobs" in each for each in changes) > 5, "the trace has seen the service at work"
    reader = sqlite3.connect(tmp_path / "jobs.db")
    scans = {
        each: step
        for each in changes
        for _, _, _, step in reader.execute(f"EXPLAIN QUERY PLAN {each}")
        if FULL_SCAN.match(step)
    }
    reader.close()
    assert scans == {}


async def daily_life(service: Service) -> None:
    """All that producers, workers and operators do, some of it more than once."""
    every_status = tuple(JobStatus)
    replace = Replace(frozenset(ReplaceField), frozenset(JobStatus))
    jobs: list[EnqueuableJob] = [new_job(f"e{number % 3}", priority=number % 2, max_attempts=1) for number in range(30)]
    await service.enqueue_many(jobs)
    for criteria in (
        unique(key="k"),
        unique(key="k", executor=True, within=MINUTE),
        unique(executor=True, statuses=every_status, on_conflict=replace),
        unique(within=MINUTE, statuses=every_status),
    ):
        await service.enqueue(new_job("e0", unique=criteria))
    for _ in range(2):
        again = Idempotency(scope="enqueue", key="k", body_hash="")
        await service.enqueue(new_job("e0"), idempotency=again)
    subscription = await service.subscribe_ready_jobs("e0", prefetch=3)
    for _ in range(3):
        await anext(aiter(subscription))
    await subscription.close()
    held = await service.claim_jobs("e1", limit=6)
    await service.renew_lease(held[0].id, fence=held[0].fence, lease=timedelta(hours=1))
    await service.mark_job_complete(held[0].id, fence=held[0].fence)
    await service.mark_job_retryable(held[1].id, 0, FAILURE, fence=held[1].fence)
    await service.mark_job_cancelled(held[2].id, FAILURE)
    await service.mark_job_snoozed(held[3].id, 0, fence=held[3].fence)
    await service.release_job(held[4].id, fence=held[4].fence)
    await service.rerun_job(held[0].id)
    await service.update_job(held[0].id, JobChanges(priority=7))
    await service.rescue()
