"""Counts on PostgreSQL: what was added up, and what was appended since."""

import asyncio
from collections.abc import Sequence

from sqlalchemy import BigInteger, FromClause, cast, func, select, union_all

from ....observability.loops import GuardedLoop
from ...tables import executor_count_deltas, metadata
from .lane import Lane
from .locks import COUNTS, TRY_LOCK
from .transaction import PostgresTransaction

_PAUSE_SECONDS = 1.0
FOLD_BATCH = 10_000
"""How many rows one transaction adds up at most."""

_counts = metadata.tables["executor_counts"].c
_deltas = executor_count_deltas.c

# Nobody else deletes rows here, under the lock. Those that come to nothing leave no row behind.
_FOLD = f"""
WITH folded AS (
  DELETE FROM executor_count_deltas
  WHERE ctid = ANY(ARRAY(SELECT ctid FROM executor_count_deltas LIMIT {FOLD_BATCH}))
  RETURNING executor, status, count
), added AS (
  INSERT INTO executor_counts (executor, status, count)
  SELECT executor, status, sum(count) FROM folded GROUP BY executor, status
  ON CONFLICT (executor, status) DO UPDATE SET count = executor_counts.count + excluded.count
)
SELECT count(*) FROM folded
"""


def current_counts() -> FromClause:
    """Return what to select executor, status and count from."""
    parts = union_all(
        select(_counts.executor, _counts.status, _counts.count), select(_deltas.executor, _deltas.status, _deltas.count)
    ).subquery("parts")
    return (
        # A sum is a numeric there, and would go over the wire as text.
        select(parts.c.executor, parts.c.status, cast(func.sum(parts.c.count), BigInteger).label("count"))
        .group_by(parts.c.executor, parts.c.status)
        .subquery("counts")
    )


def folding(lane: Lane) -> GuardedLoop:
    """Return the loop that adds up what was appended; harmless in many processes at once."""

    async def fold() -> None:
        await asyncio.sleep(_PAUSE_SECONDS)
        while (await lane.submit(fold_counts, [None]))[0] == FOLD_BATCH:
            pass

    return GuardedLoop("count_folding", fold)


async def fold_counts(transaction: PostgresTransaction, calls: Sequence[None]) -> list[int]:
    """Add up what was appended, a bounded number of rows; return how many, none while another process does it."""
    await transaction.begin()
    connection = transaction.connection
    if not await connection.fetchval(TRY_LOCK, COUNTS, 0):
        return [0] * len(calls)
    return [await connection.fetchval(_FOLD) for _ in calls]
