"""What PostgreSQL does without the service: the same schema, indexes and row, over one asyncpg connection.

Durable one-row commits, inserts by ``unnest``, and claim with acknowledgement in batches of a hundred.
"""

import time
from typing import Any

import asyncpg

from ..load.child import run
from ..load.payload import BULK_JOBS, EXECUTOR, data_of, priority_of
from .raw_order import Kind, Order, Outcome

_CLAIM_JOBS = 100

_COLUMNS = "executor, status, priority, scheduled_at, max_attempts, data, metadata, tags, inserted_at"
_INSERT = f"""
INSERT INTO jobs ({_COLUMNS}) VALUES ('{EXECUTOR}', 'scheduled', $1, $2, 5, $3, 'null', '[]', $2)
"""
_INSERT_MANY = f"""
INSERT INTO jobs ({_COLUMNS})
SELECT '{EXECUTOR}', 'scheduled', priority, at, 5, data, 'null', '[]', at
FROM unnest($1::int[], $2::bigint[], $3::text[]) AS given (priority, at, data)
"""
_CLAIM = f"""
WITH due AS (
  SELECT id FROM jobs
  WHERE executor = '{EXECUTOR}' AND status IN ('scheduled', 'retryable') AND scheduled_at <= $1
  ORDER BY priority, scheduled_at, id LIMIT {_CLAIM_JOBS} FOR UPDATE SKIP LOCKED
)
UPDATE jobs SET status = 'executing', attempt = attempt + 1, fence = fence + 1, version = version + 1,
                attempted_at = $1, lease_id = 1, refunded = 0, attempted_by = '["bench"]'
FROM due WHERE jobs.id = due.id
RETURNING jobs.id, jobs.fence, data, metadata
"""
_COMPLETE = """
UPDATE jobs SET status = 'complete', finished_at = $1, lease_id = NULL, version = version + 1,
                acknowledged_fence = fence, acknowledged_operation = 'complete'
WHERE id = ANY($2::bigint[]) AND status = 'executing'
"""


async def measure(order: Order) -> Outcome:
    """Follow an order."""
    connection = await asyncpg.connect(order.database)
    # As the service has it: what was planned over an empty table would read the full one from end to end.
    await connection.execute("SET enable_seqscan = off")
    await connection.execute("SET enable_bitmapscan = off")
    try:
        match order.kind:
            case Kind.COMMITS:
                return await _commit_one_by_one(connection, order.jobs)
            case Kind.BULKS:
                return await _insert_in_bulks(connection, order.jobs)
            case Kind.DRAIN:
                return await _drain(connection, order.jobs)
    finally:
        await connection.close()


async def _commit_one_by_one(connection: asyncpg.Connection, jobs: int) -> Outcome:
    took: list[float] = []
    insert = await connection.prepare(_INSERT)
    for row in _rows(jobs):
        began_at = time.perf_counter()
        await insert.fetch(*row)
        took.append(time.perf_counter() - began_at)
    return Outcome(jobs=jobs, seconds=sum(took), commit_seconds=took)


async def _insert_in_bulks(connection: asyncpg.Connection, jobs: int) -> Outcome:
    rows = _rows(jobs)
    insert = await connection.prepare(_INSERT_MANY)
    began_at = time.perf_counter()
    for start in range(0, jobs, BULK_JOBS):
        await insert.fetch(*map(list, zip(*rows[start : start + BULK_JOBS], strict=True)))
    return Outcome(jobs=jobs, seconds=time.perf_counter() - began_at)


async def _drain(connection: asyncpg.Connection, jobs: int) -> Outcome:
    await _insert_in_bulks(connection, jobs)
    claim, complete = await connection.prepare(_CLAIM), await connection.prepare(_COMPLETE)
    drained = 0
    began_at = time.perf_counter()
    while claimed := await claim.fetch(_now()):
        await complete.fetch(_now(), [row["id"] for row in claimed])
        drained += len(claimed)
    seconds = time.perf_counter() - began_at
    if drained != jobs:
        raise RuntimeError(f"drained {drained} of {jobs} jobs")
    return Outcome(jobs=drained, seconds=seconds)


def _rows(jobs: int) -> list[tuple[Any, ...]]:
    now = _now()
    return [(priority_of(n), now, data_of(n)) for n in range(jobs)]


def _now() -> int:
    return time.time_ns() // 1_000


if __name__ == "__main__":
    run(Order, measure)
