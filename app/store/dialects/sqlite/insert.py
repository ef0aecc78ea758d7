"""Enqueue on SQLite: plain jobs many at a time, unique ones one by one, all in the order given."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec

from ....domain.errors import PayloadTooLarge
from ....domain.instant import MICROSECOND, Instant, resolve
from ....domain.job import EnqueuableJob, Enqueued, EnqueueOutcome
from ....domain.status import READY, JobStatus
from ....domain.uniqueness import Replace, ReplaceField, UniquenessCriteria
from ....observability.metrics import ENQUEUED
from .transaction import SqliteTransaction

_INSERT = """
INSERT INTO jobs (id, executor, status, priority, scheduled_at, max_attempts, data, data_canonical,
                  metadata, metadata_canonical, tags, inserted_at, uniqueness_key)
VALUES """
_VALUES = "(?, ?, 'scheduled', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# Each step of a statement lets go of the interpreter's lock, and while the event loop is busy waits to get it back:
# many rows in one step, not one each. In powers of two, so that a few statements stay prepared.
_INSERTS = {1 << power: _INSERT + ", ".join([_VALUES] * (1 << power)) for power in range(9, -1, -1)}

# Each of the lookups below returns the nearest scheduled_at at or after the new job's, or before it, with the lowest
# id. The literal predicates are those of the partial indexes: without them SQLite would not use the index.
_BY_KEY = "jobs INDEXED BY jobs_unique WHERE uniqueness_key = :key AND status = :status"
_BY_KEY_AND_EXECUTOR = _BY_KEY + " AND executor = :executor"
_SCHEDULED = (
    "jobs INDEXED BY jobs_ready WHERE executor = :executor AND priority = :priority"
    " AND status IN ('scheduled', 'retryable') AND status = 'scheduled'"
)
_HISTORY = (
    "jobs INDEXED BY jobs_history WHERE executor = :executor AND status = :status"
    " AND status IN ('retryable', 'complete', 'cancelled', 'discarded')"
)
_NEAREST = """
SELECT (SELECT id FROM {source} AND scheduled_at = nearest.at ORDER BY id LIMIT 1), nearest.at
FROM (SELECT (SELECT scheduled_at FROM {source} AND scheduled_at BETWEEN :at AND :latest
              ORDER BY scheduled_at LIMIT 1) AS at
      UNION ALL
      SELECT (SELECT scheduled_at FROM {source} AND scheduled_at >= :earliest AND scheduled_at < :at
              ORDER BY scheduled_at DESC LIMIT 1)) AS nearest
WHERE nearest.at IS NOT NULL
"""
NEAREST_BY_KEY = _NEAREST.format(source=_BY_KEY)
NEAREST_BY_KEY_AND_EXECUTOR = _NEAREST.format(source=_BY_KEY_AND_EXECUTOR)
NEAREST_SCHEDULED = _NEAREST.format(source=_SCHEDULED)
NEAREST_IN_HISTORY = _NEAREST.format(source=_HISTORY)
# Executing jobs are as many as workers hold: their leases lead to them.
NEAREST_EXECUTING = """
SELECT jobs.id, jobs.scheduled_at FROM leases CROSS JOIN jobs INDEXED BY jobs_lease ON jobs.lease_id = leases.id
WHERE jobs.executor = :executor AND leases.executor = :executor AND jobs.status = 'executing'
  AND jobs.scheduled_at BETWEEN :earliest AND :latest
ORDER BY abs(jobs.scheduled_at - :at), jobs.id LIMIT 1
"""
NEXT_PRIORITY = """
SELECT priority FROM jobs INDEXED BY jobs_ready
WHERE executor = :executor AND priority > :priority AND status IN ('scheduled', 'retryable')
ORDER BY priority LIMIT 1
"""
_EXECUTORS = "SELECT executor FROM executor_counts WHERE status = :status AND count > 0"
_EVER = 2**62
_ROW_BYTES = 512
"""What a row and its indexes take at least; texts are stored twice, as they came and canonical."""
_EXECUTOR = 1
"""Where a row has its executor."""


def insert_jobs(transaction: SqliteTransaction, jobs: Sequence[EnqueuableJob]) -> list[Enqueued]:
    """Store jobs in order; a unique one sees those before it.

    Raises PayloadTooLarge when a replace would leave a job beyond the limit.
    """
    now = transaction.now
    take_id = transaction.sequence.take
    results: list[Enqueued] = []
    rows: list[tuple[Any, ...]] = []
    for index, job in enumerate(jobs):
        at = now if job.scheduled_at is None else resolve(job.scheduled_at, now)
        criteria = job.uniqueness_criteria
        if criteria is not None:
            _flush(transaction, rows)
            duplicate = _find_duplicate(transaction, criteria, job.executor, at)
            if duplicate is not None:
                try:
                    met = _meet_duplicate(transaction, duplicate, job, at)
                except PayloadTooLarge as error:
                    error.index = index
                    raise
                transaction.effects.tally.count(ENQUEUED, job.executor, met.outcome)
                results.append(met)
                continue
        job_id = take_id()
        rows.append(_row(job_id, job, at, now))
        transaction.added_bytes += _ROW_BYTES + 2 * (len(job.data.text) + len(job.metadata.text))
        results.append(Enqueued(job_id, EnqueueOutcome.INSERTED))
        transaction.effects.add_ready(job.executor, at)
    _flush(transaction, rows)
    return results


def _row(job_id: int, job: EnqueuableJob, at: Instant, now: Instant) -> tuple[Any, ...]:
    criteria = job.uniqueness_criteria
    key = None if criteria is None or criteria.key is None else msgspec.json.encode(criteria.key).decode()
    data, metadata = job.data, job.metadata
    tags = msgspec.json.encode(job.tags).decode() if job.tags else "[]"
    return (
        job_id,
        job.executor,
        job.priority,
        at,
        job.max_attempts,
        data.text,
        data.canonical,
        metadata.text,
        metadata.canonical,
        tags,
        now,
        key,
    )


def _flush(transaction: SqliteTransaction, rows: list[tuple[Any, ...]]) -> None:
    """Insert rows and count them."""
    if not rows:
        return
    counts: dict[str, int] = {}
    for row in rows:
        counts[row[_EXECUTOR]] = counts.get(row[_EXECUTOR], 0) + 1
    for executor, count in counts.items():
        transaction.counts[executor, JobStatus.SCHEDULED] += count
        transaction.effects.tally.count(ENQUEUED, executor, EnqueueOutcome.INSERTED, by=count)
    start = 0
    for size, statement in _INSERTS.items():
        while len(rows) - start >= size:
            values = list(chain.from_iterable(rows[start : start + size]))
            transaction.connection.execute(statement, values)
            start += size
    rows.clear()


def _find_duplicate(
    transaction: SqliteTransaction, criteria: UniquenessCriteria, executor: str, at: Instant
) -> int | None:
    """Return the id of the duplicate with the nearest ``scheduled_at``, then the lowest id."""
    window = _EVER if criteria.duration is None else criteria.duration // MICROSECOND
    found: list[tuple[int, int]] = []
    for status in dict.fromkeys(criteria.compared_statuses):
        parameters = {"at": at, "earliest": at - window, "latest": at + window, "status": status, "executor": executor}
        if criteria.key is not None:
            parameters["key"] = msgspec.json.encode(criteria.key).decode()
            statement = NEAREST_BY_KEY_AND_EXECUTOR if criteria.executor else NEAREST_BY_KEY
            found += transaction.connection.execute(statement, parameters)
            continue
        executors = [executor]
        if not criteria.executor:
            transaction.write_counts()
            executors = [row[0] for row in transaction.connection.execute(_EXECUTORS, {"status": status})]
        for name in executors:
            found += _nearest_of_executor(transaction, {**parameters, "executor": name})
    if not found:
        return None
    return min((abs(scheduled_at - at), job_id) for job_id, scheduled_at in found)[1]


def _nearest_of_executor(transaction: SqliteTransaction, parameters: dict[str, Any]) -> list[tuple[int, int]]:
    connection = transaction.connection
    match parameters["status"]:
        case JobStatus.SCHEDULED:
            found: list[tuple[int, int]] = []
            priority = -1
            while row := connection.execute(NEXT_PRIORITY, {**parameters, "priority": priority}).fetchone():
                priority = row[0]
                found += connection.execute(NEAREST_SCHEDULED, {**parameters, "priority": priority})
            return found
        case JobStatus.EXECUTING:
            return connection.execute(NEAREST_EXECUTING, parameters).fetchall()
        case _:
            return connection.execute(NEAREST_IN_HISTORY, parameters).fetchall()


def _meet_duplicate(transaction: SqliteTransaction, job_id: int, job: EnqueuableJob, at: Instant) -> Enqueued:
    """Replace what the criteria say, if the duplicate's status is one of theirs."""
    replace = job.uniqueness_criteria.on_conflict if job.uniqueness_criteria is not None else None
    connection = transaction.connection
    status, executor, attempt = connection.execute(
        "SELECT status, executor, attempt FROM jobs WHERE id = ?", (job_id,)
    ).fetchone()
    if replace is None or status not in replace.for_statuses:
        return Enqueued(job_id, EnqueueOutcome.EXISTING)
    values = _replaced_values(replace, job, at, attempt)
    # The names come from ReplaceField, never from input.
    assignments = ", ".join(f"{name} = :{name}" for name in values)
    connection.execute(
        f"UPDATE jobs SET {assignments}, version = version + 1 WHERE id = :id",
        {**values, "id": job_id},
    )
    check_payload(transaction, job_id)
    if status in READY:
        scheduled_at = connection.execute("SELECT scheduled_at FROM jobs WHERE id = ?", (job_id,)).fetchone()[0]
        transaction.effects.add_ready(executor, scheduled_at)
    return Enqueued(job_id, EnqueueOutcome.REPLACED)


def _replaced_values(replace: Replace, job: EnqueuableJob, at: Instant, attempt: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in replace.fields:
        match field:
            case ReplaceField.SCHEDULED_AT:
                values["scheduled_at"] = at
            case ReplaceField.PRIORITY:
                values["priority"] = job.priority
            case ReplaceField.MAX_ATTEMPTS:
                values["max_attempts"] = max(job.max_attempts, attempt)
            case ReplaceField.DATA:
                values |= {"data": job.data.text, "data_canonical": job.data.canonical}
            case ReplaceField.METADATA:
                values |= {"metadata": job.metadata.text, "metadata_canonical": job.metadata.canonical}
    return values


def check_payload(transaction: SqliteTransaction, job_id: int) -> None:
    """Raise PayloadTooLarge when the stored data and metadata are together beyond the limit."""
    size = transaction.connection.execute(
        "SELECT length(CAST(data AS BLOB)) + length(CAST(metadata AS BLOB)) FROM jobs WHERE id = ?", (job_id,)
    ).fetchone()[0]
    if size > transaction.rules.payload_bytes:
        raise PayloadTooLarge(transaction.rules.payload_bytes)
