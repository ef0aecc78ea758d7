"""Enqueue on PostgreSQL: any number of plain jobs in one statement, which is their transaction."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from ....domain.errors import PayloadTooLarge
from ....domain.instant import MAX_INSTANT, MICROSECOND, Instant, resolve
from ....domain.job import EnqueuableJob, Enqueued, EnqueueOutcome
from ....observability.metrics import ENQUEUED
from .transaction import NOW, PostgresTransaction, columns

# The sequence is asked row by row, in the order in which they are given: sorted ids are those of the jobs in turn.
_INSERT = f"""
WITH inserted AS (
  INSERT INTO jobs (executor, status, priority, scheduled_at, max_attempts, data, data_canonical, metadata,
                    metadata_canonical, tags, inserted_at, uniqueness_key)
  SELECT executor, 'scheduled', priority, least(coalesce(at, {NOW} + delay), {MAX_INSTANT}), max_attempts, data,
         data_canonical, metadata, metadata_canonical, tags, {NOW}, uniqueness_key
  FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::int[], $6::text[], $7::text[], $8::text[],
              $9::text[], $10::text[], $11::text[]) WITH ORDINALITY
    AS given (executor, priority, at, delay, max_attempts, data, data_canonical, metadata, metadata_canonical, tags,
              uniqueness_key, number)
  ORDER BY number
  RETURNING id, executor
), counted AS (
  INSERT INTO executor_count_deltas (executor, status, count)
  SELECT executor, 'scheduled', count(*) FROM inserted GROUP BY executor
)
SELECT array_agg(id ORDER BY id), {NOW} FROM inserted
"""
_WIDTH = 11
_SELECT_PAYLOAD_BYTES = "SELECT octet_length(data) + octet_length(metadata) FROM jobs WHERE id = $1"


async def insert_jobs(transaction: PostgresTransaction, jobs: Sequence[EnqueuableJob]) -> list[Enqueued]:
    """Store jobs in order, none of which is unique."""
    return await insert_rows(transaction, jobs)


async def insert_rows(transaction: PostgresTransaction, jobs: Sequence[EnqueuableJob]) -> list[Enqueued]:
    """Store jobs in order, whatever else is stored."""
    if not jobs:
        return []
    ids, now = await transaction.row(_INSERT, *columns(map(_row, jobs), _WIDTH))
    counts: dict[str, int] = {}
    for job in jobs:
        counts[job.executor] = counts.get(job.executor, 0) + 1
        transaction.effects.add_ready(job.executor, scheduled_at(job, now))
    for executor, count in counts.items():
        transaction.effects.tally.count(ENQUEUED, executor, EnqueueOutcome.INSERTED, by=count)
    return [Enqueued(job_id, EnqueueOutcome.INSERTED) for job_id in ids]


def scheduled_at(job: EnqueuableJob, now: Instant) -> Instant:
    """Return when a job is to run."""
    return now if job.scheduled_at is None else resolve(job.scheduled_at, now)


def key_of(job: EnqueuableJob) -> str | None:
    """Return the text of a job's uniqueness key."""
    criteria = job.uniqueness_criteria
    return None if criteria is None or criteria.key is None else msgspec.json.encode(criteria.key).decode()


async def check_payload(transaction: PostgresTransaction, job_id: int) -> None:
    """Raise PayloadTooLarge when the stored data and metadata are together beyond the limit."""
    size = await transaction.connection.fetchval(_SELECT_PAYLOAD_BYTES, job_id)
    if size > transaction.rules.payload_bytes:
        raise PayloadTooLarge(transaction.rules.payload_bytes)


def _row(job: EnqueuableJob) -> tuple[Any, ...]:
    at = job.scheduled_at
    delay = at // MICROSECOND if isinstance(at, timedelta) else 0
    return (
        job.executor,
        job.priority,
        None if isinstance(at, timedelta) else at,
        delay,
        job.max_attempts,
        job.data.text,
        job.data.canonical,
        job.metadata.text,
        job.metadata.canonical,
        msgspec.json.encode(job.tags).decode() if job.tags else "[]",
        key_of(job),
    )
