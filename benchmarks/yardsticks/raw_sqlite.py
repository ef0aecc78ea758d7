"""What SQLite does without the service: the same schema, indexes and row, from one loop in one process.

Durable one-row commits, inserts by ``executemany``, and claim with acknowledgement in batches. The latter two run with
``synchronous = OFF``: they show what the statements cost, without waiting for the disk.
"""

import json
import sqlite3
import time
from typing import Any

from ..load.child import order_of, tell
from ..load.payload import BULK_JOBS, EXECUTOR, data_of, priority_of
from .raw_order import Kind, Order, Outcome

Row = tuple[Any, ...]

_INSERT = """
INSERT INTO jobs (id, executor, status, priority, scheduled_at, max_attempts, data, data_canonical,
                  metadata, metadata_canonical, tags, inserted_at, uniqueness_key)
VALUES (?, ?, 'scheduled', ?, ?, 5, ?, NULL, 'null', NULL, '[]', ?, NULL)
"""
# Covered by the index jobs_ready, and in its order: without jobs in the future nothing is faster.
_SELECT_DUE = """
SELECT id FROM jobs INDEXED BY jobs_ready
WHERE executor = ? AND status IN ('scheduled', 'retryable') AND scheduled_at <= ?
ORDER BY priority, scheduled_at, id LIMIT ?
"""
_CLAIM = """
UPDATE jobs SET status = 'executing', attempt = attempt + 1, fence = fence + 1, version = version + 1,
                attempted_at = ?, lease_id = 1, refunded = 0, attempted_by = '["bench"]'
WHERE id IN (SELECT value FROM json_each(?))
"""
_COMPLETE = """
UPDATE jobs SET status = 'complete', finished_at = ?, lease_id = NULL, version = version + 1,
                acknowledged_fence = fence, acknowledged_operation = 'complete'
WHERE id IN (SELECT value FROM json_each(?)) AND status = 'executing'
"""


def measure(order: Order) -> Outcome:
    """Follow an order."""
    match order.kind:
        case Kind.COMMITS:
            return _commit_one_by_one(_open(order.database, synchronous="FULL"), order.jobs)
        case Kind.BULKS:
            return _insert_in_bulks(_open(order.database, synchronous="OFF"), order.jobs)
        case Kind.DRAIN:
            return _drain(_open(order.database, synchronous="OFF"), order.jobs)


def _commit_one_by_one(connection: sqlite3.Connection, jobs: int) -> Outcome:
    took: list[float] = []
    for row in _rows(jobs):
        began_at = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_INSERT, row)
        connection.execute("COMMIT")
        took.append(time.perf_counter() - began_at)
    return Outcome(jobs=jobs, seconds=sum(took), commit_seconds=took)


def _insert_in_bulks(connection: sqlite3.Connection, jobs: int) -> Outcome:
    rows = _rows(jobs)
    began_at = time.perf_counter()
    for start in range(0, jobs, BULK_JOBS):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(_INSERT, rows[start : start + BULK_JOBS])
        connection.execute("COMMIT")
    return Outcome(jobs=jobs, seconds=time.perf_counter() - began_at)


def _drain(connection: sqlite3.Connection, jobs: int) -> Outcome:
    _insert_in_bulks(connection, jobs)
    drained = 0
    began_at = time.perf_counter()
    while ids := _claim(connection):
        connection.execute("BEGIN IMMEDIATE")
        drained += connection.execute(_COMPLETE, (_now(), ids)).rowcount
        connection.execute("COMMIT")
    seconds = time.perf_counter() - began_at
    if drained != jobs:
        raise RuntimeError(f"drained {drained} of {jobs} jobs")
    return Outcome(jobs=drained, seconds=seconds)


def _claim(connection: sqlite3.Connection) -> str:
    """Claim a batch; return its ids as a JSON list, empty when nothing is due."""
    now = _now()
    connection.execute("BEGIN IMMEDIATE")
    ids = [row[0] for row in connection.execute(_SELECT_DUE, (EXECUTOR, now, BULK_JOBS))]
    text = json.dumps(ids) if ids else ""
    connection.execute(_CLAIM, (now, text or "[]"))
    connection.execute("COMMIT")
    return text


def _open(database: str, *, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(database.removeprefix("sqlite:///"), isolation_level=None)
    for pragma in ("journal_mode = WAL", f"synchronous = {synchronous}", "temp_store = MEMORY", "cache_size = -16384"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _rows(jobs: int) -> list[Row]:
    now = _now()
    return [(n + 1, EXECUTOR, priority_of(n), now, data_of(n), now) for n in range(jobs)]


def _now() -> int:
    return time.time_ns() // 1_000


if __name__ == "__main__":
    tell(measure(order_of(Order)))
