"""On PostgreSQL too each statement reaches its rows by the index meant for it, whatever else the tables hold."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event

from app.backend.extensions import Service
from app.domain.pruning import MaxAge, Only, PruneSpec
from app.domain.query import And, ExecutorEqual, IdEquals, IdIn, StatusEqual
from app.domain.status import JobStatus
from app.store.dialects.postgres.acknowledge import COMPLETE_HELD
from app.store.dialects.postgres.claim_statement import CLAIM, CLAIM_OPENING_LEASES
from app.store.dialects.postgres.connection import Road
from app.store.dialects.postgres.duplicates import select_duplicate
from app.store.dialects.postgres.leases import RENEW_SESSIONS
from app.store.dialects.postgres.notices import SELECT_OWN
from app.store.dialects.postgres.rows import SELECT_STATES_BY_ID, SELECT_STATES_BY_LEASES
from app.store.dialects.postgres.sessions import LOCK_EMPTY, LOCK_EXPIRED
from app.store.dialects.postgres.transaction import FORGET_LEASES
from app.store.tables import metadata
from tests.builders import DAY, now
from tests.postgres import run
from tests.services import running_service
from tests.store.test_query_plans import daily_life

pytestmark = pytest.mark.timeout(120)

LARGE = {"jobs", "job_errors", "leases", "idempotency_keys"}
FINISHED, FUTURE, EXECUTING, LEASES = 30_000, 30_000, 1_000, 10_000
_COLUMNS = "executor, status, priority, scheduled_at, max_attempts, inserted_at, tags, data, metadata"
FILL = f"""
INSERT INTO leases (session, executor, worker, owner, connected, expires_at)
SELECT 's' || n, 'e' || n % 5, 'w', 'o', 0, {now() + DAY} + n FROM generate_series(1, {LEASES}) AS n;
INSERT INTO jobs ({_COLUMNS}, error_count)
SELECT 'e' || n % 5, (ARRAY['complete', 'complete', 'cancelled', 'discarded'])[1 + n % 4], n % 3,
       {now() - 30 * DAY} + n, 5, 1, '[]', '1', '1', 1
FROM generate_series(1, {FINISHED}) AS n;
INSERT INTO jobs ({_COLUMNS})
SELECT 'e' || n % 5, 'scheduled', n % 3, {now() + 30 * DAY} + n, 5, 1, '[]', '1', '1'
FROM generate_series(1, {FUTURE}) AS n;
INSERT INTO jobs ({_COLUMNS}, lease_id)
SELECT 'e' || n % 5, 'executing', n % 3, {now() - DAY} + n, 5, 1, '[]', '1', '1', n
FROM generate_series(1, {EXECUTING}) AS n;
INSERT INTO job_errors (job_id, number, attempt, error_type, details, recorded_at)
SELECT id, 1, 1, 'panic', 'x', 1 FROM jobs WHERE error_count = 1;
INSERT INTO idempotency_keys (scope, key, body_hash, expires_at, answer)
SELECT 'enqueue', 'k' || n, 'h', {now() + DAY}, '[]' FROM generate_series(1, 20000) AS n;
"""
FIRST_COLUMNS = {
    **{
        f"{name}_pkey": table.primary_key.columns[0].name
        for name, table in metadata.tables.items()
        if table.primary_key
    },
    **{str(index.name): index.columns[0].name for table in metadata.tables.values() for index in table.indexes},
}
"""Of each index: what is not asked for by that is read from end to end."""
ANALYZE = "".join(f"ANALYZE {table};" for table in metadata.tables)
SCHEDULED, COMPLETE = (JobStatus.SCHEDULED,), (JobStatus.COMPLETE,)
STATEMENTS = {
    "levels of a claim": (CLAIM, "jobs_ready", "(executor = $1) AND (priority > levels.priority)"),
    "due jobs of a claim": (CLAIM, "jobs_ready", "(priority = levels_1.priority) AND (scheduled_at <= "),
    "next wake": (CLAIM_OPENING_LEASES, "jobs_ready", "(priority = levels_2.priority) AND (scheduled_at > "),
    "claimed jobs": (CLAIM, "jobs_pkey", "id = due"),
    "completed jobs": (COMPLETE_HELD, "jobs_pkey", "id = given.id"),
    "a lease's other jobs": (COMPLETE_HELD, "jobs_lease", "lease_id = leases"),
    "leases without jobs": (FORGET_LEASES, "jobs_lease", "lease_id = leases"),
    "acknowledged jobs": (SELECT_STATES_BY_ID, "jobs_pkey", "id = ANY ($1)"),
    "expired leases": (LOCK_EXPIRED, "leases_expires_at", "expires_at <= $1"),
    "empty expired leases": (LOCK_EMPTY, "leases_expires_at", "expires_at <= $1"),
    "jobs of leases": (SELECT_STATES_BY_LEASES, "jobs_lease", "lease_id = ANY ($1)"),
    "leases of a session": (RENEW_SESSIONS, "leases_session", "session = alive.session"),
    "notices of a server": (SELECT_OWN, "notices_owner", "owner = $1"),
    "unique by key": (
        select_duplicate(SCHEDULED, by_key=True, by_executor=False),
        "jobs_unique",
        "(uniqueness_key = $4) AND (status = 'scheduled'::text) AND (scheduled_at >= ",
    ),
    "unique by key and executor": (
        select_duplicate(COMPLETE, by_key=True, by_executor=True),
        "jobs_unique",
        "(uniqueness_key = $4) AND (status = 'complete'::text) AND (scheduled_at >= ",
    ),
    "unique among scheduled": (
        select_duplicate(SCHEDULED, by_key=False, by_executor=True),
        "jobs_ready",
        "(executor = levels.executor) AND (priority = levels.priority) AND (scheduled_at >= ",
    ),
    "unique among finished": (
        select_duplicate(COMPLETE, by_key=False, by_executor=True),
        "jobs_history",
        "(executor = $4) AND (status = 'complete'::text) AND (scheduled_at >= ",
    ),
    "unique among finished of all": (
        select_duplicate(COMPLETE, by_key=False, by_executor=False),
        "jobs_history",
        "(status = 'complete'::text) AND (scheduled_at >= ",
    ),
}
LOOKS_FOR_EXECUTING = "lease_id IS NOT NULL AND status = 'executing'"
"""Of the executing jobs any may be the nearest: these are read whole, as many as workers hold."""


@pytest.fixture(scope="module")
def url(postgres) -> Iterator[str]:
    """A database with many finished and future jobs."""
    with postgres.database() as url:
        run(url, f"DO $$ BEGIN {FILL} {ANALYZE} END $$")
        yield url


@pytest.fixture
async def hot(url) -> AsyncIterator[asyncpg.Connection]:
    """A connection as those of the lanes are."""
    connection = await Road(url).connect(hot=True)
    yield connection
    await connection.close()


async def plan_of(hot: asyncpg.Connection, statement: str) -> list[Any]:
    """The plan that the lanes use: made without a look at what is given."""
    count = max(map(int, re.findall(r"\$(\d+)", statement)), default=0)
    await hot.execute(f"PREPARE explained AS {statement}")
    given = f"({', '.join(['NULL'] * count)})" if count else ""
    plan = await hot.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE explained{given}")
    await hot.execute("DEALLOCATE explained")
    nodes: list[Any] = json.loads(plan)
    return nodes


def scans(node: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """The steps of a plan that read a table, each with the kinds of steps above it, the nearest first."""
    plan = node.get("Plan", node)
    if "Scan" in plan["Node Type"] and ("Relation Name" in plan or "Index Name" in plan):
        yield plan, above
    for inner in plan.get("Plans", ()):
        yield from scans(inner, (plan["Node Type"], *above))


def faults(plan: list[Any], large: set[str], *, may_read_executing: bool = False) -> list[str]:
    """What reads a large table, or an index of it, from end to end."""
    found = []
    for scan, above in scans(plan[0]):
        condition = scan.get("Index Cond", "")
        first = FIRST_COLUMNS.get(scan.get("Index Name"))
        reads_few = first is not None and re.search(rf"\b{first}\b(?! IS NOT NULL)", condition)
        # In the index's order, and only as far as there is not enough.
        stops = next((kind for kind in above if kind != "LockRows"), "") == "Limit" and "Index" in scan["Node Type"]
        is_executing = may_read_executing and scan.get("Index Name") == "jobs_lease"
        # What is below a bitmap's reading of the table has the condition.
        is_bitmap = scan["Node Type"] == "Bitmap Heap Scan"
        if scan.get("Relation Name") in large and not (reads_few or stops or is_executing or is_bitmap):
            found.append(f"{scan['Node Type']} {scan.get('Index Name', '')} on {scan['Relation Name']}")
    return found


@pytest.mark.parametrize("name", STATEMENTS)
async def test_hot_statement_uses_its_index(hot, name):
    statement, index, columns = STATEMENTS[name]
    plan = await plan_of(hot, statement)
    used = [(scan.get("Index Name"), scan.get("Index Cond", "")) for scan, _ in scans(plan[0])]
    assert any(each == index and columns in condition for each, condition in used), used
    assert faults(plan, LARGE) == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id FROM jobs WHERE status = 'scheduled' AND data = $1",
        "DELETE FROM leases WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.lease_id = leases.id) AND id = ANY($1)",
        "SELECT id FROM jobs WHERE lease_id IS NOT NULL ORDER BY scheduled_at LIMIT 1",
        "SELECT job_id FROM job_errors WHERE number = $1",
    ],
)
async def test_full_scan_would_be_noticed(hot, statement):
    assert faults(await plan_of(hot, statement), LARGE)


async def test_no_write_of_daily_life_reads_a_whole_table(url, hot, tmp_path):
    executed: set[str] = set()
    async with running_service(tmp_path, database_url=url) as service:
        # The first time opens the connections.
        await daily_life(service)
        listen_to_lanes(service, executed)
        await daily_life(service)
        await service.sweep((await service.lead(30)).term)
        await service.prune_jobs(PruneSpec(JobStatus.COMPLETE, MaxAge(timedelta(0)), Only(("e0",))))
    changes = [each for each in executed if re.match(r"\s*(WITH|SELECT|UPDATE|DELETE|INSERT)\b", each)]
    assert any("UPDATE jobs" in each for each in changes), "the service was heard at work"
    assert len(changes) > 20
    found = {
        each: faults(await plan_of(hot, each), LARGE, may_read_executing=LOOKS_FOR_EXECUTING in each)
        for each in changes
    }
    assert {each: reads for each, reads in found.items() if reads} == {}


async def test_no_usual_read_scans_the_jobs(url, tmp_path):
    """But what asks for few of all jobs by what no index has: such a query and such a prune pass over them."""
    executed: dict[str, Any] = {}
    few = now() - DAY
    async with running_service(tmp_path, database_url=url) as service:
        listen_to_readers(service, executed)
        await service.get_job(FINISHED + FUTURE + 1)
        for query in (
            And(()),
            IdEquals(7),
            IdIn((7, 8, 9)),
            ExecutorEqual("e1"),
            StatusEqual(JobStatus.EXECUTING),
            And((ExecutorEqual("e1"), StatusEqual(JobStatus.COMPLETE))),
            And((ExecutorEqual("e1"), StatusEqual(JobStatus.SCHEDULED))),
        ):
            await service.query(query)
        age = timedelta(microseconds=now() - few)
        await service.prune_jobs(PruneSpec(JobStatus.DISCARDED, MaxAge(age), Only(("e1",))))
        await service.list_executors()
        await service.metrics()
    assert len(executed) > 10
    reader = await Road(url).connect()
    found = {
        statement: faults(
            json.loads(await reader.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *given)), LARGE - {"leases"}
        )
        for statement, given in executed.items()
    }
    await reader.close()
    assert {each: reads for each, reads in found.items() if reads} == {}


def listen_to_lanes(service: Service, executed: set[str]) -> None:
    dialect: Any = service._dialect  # type: ignore[attr-defined]
    lanes = (
        dialect._inserts,
        dialect._unique_inserts,
        dialect._claims,
        dialect._settlements,
        dialect._leases,
        dialect._rest,
    )
    for lane in lanes:
        for connection in lane._idle:
            if connection is not None:
                connection.add_query_logger(lambda query: executed.add(query.query))


def listen_to_readers(service: Service, executed: dict[str, Any]) -> None:
    dialect: Any = service._dialect  # type: ignore[attr-defined]

    def note(_connection, _cursor, statement, parameters, _context, _many) -> None:
        if "jobs" in statement or "leases" in statement:
            executed[statement] = parameters

    for engine in (dialect._lookups, dialect._searches):
        event.listen(engine.sync_engine, "before_cursor_execute", note)
