"""Claim on SQLite: the best due jobs of an executor, by a loose scan over the priorities in use."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, cast

import msgspec

from ....domain.instant import Instant
from ....domain.job import Job
from ....domain.limits import ERRORS_TO_WORKERS, MAX_ATTEMPTED_BY, MAX_UINT16
from ....domain.status import JobStatus
from ....observability.metrics import CLAIMED
from ...claim import MAX_STREAM_CLAIM, ClaimCall, Claimed, Demand, NewLease, deal
from .rows import select_errors
from .transaction import SqliteTransaction

# The first scheduled_at of each priority in use, best priority first: one seek a priority, whatever the backlog. SQLite
# yields the rows one by one, so that a claim that has enough stops the scan.
SELECT_LEVELS = """
WITH RECURSIVE levels (priority) AS (
  SELECT (SELECT priority FROM jobs INDEXED BY jobs_ready
          WHERE executor = :executor AND status IN ('scheduled', 'retryable') ORDER BY priority LIMIT 1)
  UNION ALL
  SELECT (SELECT priority FROM jobs INDEXED BY jobs_ready
          WHERE executor = :executor AND status IN ('scheduled', 'retryable') AND priority > levels.priority
          ORDER BY priority LIMIT 1)
  FROM levels WHERE levels.priority IS NOT NULL
)
SELECT priority, (SELECT scheduled_at FROM jobs INDEXED BY jobs_ready
                  WHERE executor = :executor AND status IN ('scheduled', 'retryable') AND priority = levels.priority
                  ORDER BY scheduled_at LIMIT 1)
FROM levels WHERE priority IS NOT NULL
"""
NEXT_ATTEMPT = f"min(attempt + 1, {MAX_UINT16})"
# One range of the index jobs_ready, already in delivery order.
_DUE = """
FROM jobs INDEXED BY jobs_ready
WHERE executor = :executor AND priority = :priority AND status IN ('scheduled', 'retryable') AND scheduled_at <= :now
ORDER BY scheduled_at, id LIMIT :count
"""
# The jobs as the claim is about to make them, members in the order of Job, all in one row: each row fetched would wait
# for the interpreter's lock while the event loop is busy. A job that is too long is counted only.
SELECT_DUE = f"""
SELECT count(*), group_concat(job), total(is_retryable)
FROM (SELECT status = 'retryable' AS is_retryable,
             CASE WHEN length(data) + length(metadata) <= :longest THEN json_array(
               id, executor, 'executing', data, metadata, {NEXT_ATTEMPT}, max_attempts, priority, tags, json('[]'),
               error_count, inserted_at, scheduled_at, :now, NULL, attempted_by, uniqueness_key, fence + 1, NULL,
               version + 1) END AS job
      {_DUE})
"""
SELECT_DUE_BYTES = f"""
SELECT total(bytes) FROM (SELECT length(CAST(data AS BLOB)) + length(CAST(metadata AS BLOB)) AS bytes {_DUE})
"""
SELECT_NEXT = """
SELECT scheduled_at FROM jobs INDEXED BY jobs_ready
WHERE executor = :executor AND priority = :priority AND status IN ('scheduled', 'retryable') AND scheduled_at > :now
ORDER BY scheduled_at LIMIT 1
"""
_SET_EXECUTING = f"""
UPDATE jobs SET status = 'executing', attempt = {NEXT_ATTEMPT}, fence = fence + 1, version = version + 1,
                attempted_at = ?, lease_id = ?, refunded = 0, attempted_by = ?
WHERE id IN (SELECT value FROM json_each(?))
"""
_SET_ATTEMPTED_BY = "UPDATE jobs SET attempted_by = ? WHERE id = ?"
_LIVING_LEASE = "SELECT expires_at FROM leases WHERE id = ? AND expires_at > ?"
_OPEN_LEASE = """
INSERT INTO leases (session, executor, worker, owner, connected, resume_hash, previous_resume_hash, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


class _DueJob(Job, array_like=True, gc=False):
    """A job as ``SELECT_DUE`` gives it."""


_due_jobs: msgspec.json.Decoder[list[Job]] = msgspec.json.Decoder(list[_DueJob])

MAX_CLAIM_BYTES = 8 * 1024 * 1024
"""Most data and metadata that one claim takes, unless one job alone has more."""
_ALWAYS_FIT = 16
"""So many jobs are never too much."""
_SHORT = 8_000
"""A job with no more characters than this needs no measuring: a thousand of them are not too much."""


def claim_jobs(transaction: SqliteTransaction, calls: Sequence[ClaimCall]) -> list[Claimed]:
    """Answer claims one after the other."""
    return [_claim(transaction, call) for call in calls]


def open_leases(transaction: SqliteTransaction, leases: Sequence[NewLease]) -> list[int]:
    """Open leases; return their ids."""
    return [_open_lease(transaction, lease)[0] for lease in leases]


def _claim(transaction: SqliteTransaction, call: ClaimCall) -> Claimed:
    claimed = Claimed([[] for _ in call.demands], [None] * len(call.demands))
    expiries = _expiries(transaction, call.demands)
    living = [index for index, expiry in enumerate(expiries) if expiry is not None]
    demands = [call.demands[index] for index in living]
    credits_of = [_credits(transaction, demand) for demand in demands]
    wanted = sum(credits_of)
    due, claimed.next_due_at = _select_due(transaction, call.executor, wanted)
    # Nothing wanted is not enough either: then every lease in line has run out, and asking again would not help.
    claimed.was_enough = 0 < wanted == len(due)
    claimed.was_all = len(due) < wanted and claimed.next_due_at != transaction.now
    if len(due) < wanted:
        # What became ready in this very transaction is claimed, or next_due_at tells of it: nobody need be woken.
        transaction.effects.ready.pop(call.executor, None)
    if due:
        transaction.effects.tally.count(CLAIMED, call.executor, by=len(due))
    hands: list[list[Job]] = [[] for _ in demands]
    for job, place in zip(due, deal(credits_of, len(due)), strict=True):
        hands[place].append(job)
    for index, demand, hand in zip(living, demands, hands, strict=True):
        lease, expires_at = demand.lease, expiries[index] or 0
        if isinstance(lease, NewLease):
            if not hand:
                continue
            lease, expires_at = _open_lease(transaction, lease)
        claimed.lease_ids[index] = lease
        claimed.jobs[index] = _execute(transaction, hand, lease, expires_at, demand.worker)
    return claimed


def _credits(transaction: SqliteTransaction, demand: Demand) -> int:
    if not demand.returns:
        return demand.credits
    freed = sum(settlement.lease_id == demand.lease for settlement in transaction.effects.settled)
    return min(demand.credits + freed, MAX_STREAM_CLAIM)


def _expiries(transaction: SqliteTransaction, demands: Sequence[Demand]) -> list[Instant | None]:
    """Return until when each demand's lease runs: 0 for one still to be opened, None for one that ran out."""
    return [
        0
        if isinstance(demand.lease, NewLease)
        else _first(transaction, _LIVING_LEASE, (demand.lease, transaction.living_since))
        for demand in demands
    ]


def _select_due(transaction: SqliteTransaction, executor: str, wanted: int) -> tuple[list[Job], Instant | None]:
    """Return up to ``wanted`` due jobs, best first; with fewer, also when to ask again."""
    now = transaction.now
    jobs: list[Job] = []
    later: list[Instant] = []
    for priority, first_at in _levels(transaction, executor):
        missing = wanted - len(jobs)
        if missing <= 0:
            return jobs, None
        if first_at > now:
            later.append(first_at)
            continue
        parameters: dict[str, Any] = {"executor": executor, "priority": priority, "now": now, "count": missing}
        due = _decode_due(transaction, {**parameters, "longest": _SHORT})
        if due is None:
            parameters["count"] = _fitting(transaction, parameters, MAX_CLAIM_BYTES - _characters(jobs))
            due = _decode_due(transaction, {**parameters, "longest": sys.maxsize}) or []
            if parameters["count"] < missing:
                return jobs + due, now
        jobs += due
        if len(jobs) < wanted:
            following = _first(transaction, SELECT_NEXT, parameters)
            if following is not None:
                later.append(following)
    return jobs, (min(later, default=None) if len(jobs) < wanted else None)


def _fitting(transaction: SqliteTransaction, parameters: dict[str, Any], room: int) -> int:
    """Return how many jobs, no more than were asked for, have no more bytes than there is room for."""
    count: int = parameters["count"]
    while count > _ALWAYS_FIT and _first(transaction, SELECT_DUE_BYTES, parameters | {"count": count}) > room:
        count //= 2
    return count


def _characters(jobs: list[Job]) -> int:
    return sum(len(job.data) + len(job.metadata) for job in jobs)


def _decode_due(transaction: SqliteTransaction, parameters: dict[str, Any]) -> list[Job] | None:
    """Return the due jobs, None if one of them is too long."""
    count, rows, retryable = transaction.connection.execute(SELECT_DUE, parameters).fetchone()
    jobs = _due_jobs.decode(f"[{rows or ''}]")
    if len(jobs) < count:
        return None
    executor = parameters["executor"]
    transaction.counts[executor, JobStatus.RETRYABLE] -= int(retryable)
    transaction.counts[executor, JobStatus.SCHEDULED] -= count - int(retryable)
    transaction.counts[executor, JobStatus.EXECUTING] += count
    return jobs


def _levels(transaction: SqliteTransaction, executor: str) -> Iterator[tuple[int, Instant]]:
    return transaction.connection.execute(SELECT_LEVELS, {"executor": executor})


def _execute(
    transaction: SqliteTransaction, jobs: list[Job], lease: int, expires_at: Instant, worker: str
) -> list[Job]:
    """Hand jobs to a lease; return them as they are now."""
    if not jobs:
        return jobs
    now = transaction.now
    first = _attempted_by("[]", worker)
    again: list[tuple[Any, ...]] = []
    for job in jobs:
        job.lease_expires_at = expires_at
        if job.attempted_by == "[]":
            job.attempted_by = first
        else:
            job.attempted_by = _attempted_by(job.attempted_by, worker)
            again.append((job.attempted_by, job.id))
        if job.error_count:
            job.errors = select_errors(transaction.connection, job.id, after=job.error_count - ERRORS_TO_WORKERS)
    ids = msgspec.json.encode([job.id for job in jobs]).decode()
    transaction.connection.execute(_SET_EXECUTING, (now, lease, first, ids))
    if again:
        transaction.connection.executemany(_SET_ATTEMPTED_BY, again)
    return jobs


def _attempted_by(before: str, worker: str) -> Any:
    workers = [*msgspec.json.decode(before), worker]
    return msgspec.json.encode(workers[-MAX_ATTEMPTED_BY:]).decode()


def _open_lease(transaction: SqliteTransaction, lease: NewLease) -> tuple[int, Instant]:
    expires_at = transaction.now + int(lease.seconds * 1_000_000)
    cursor = transaction.connection.execute(
        _OPEN_LEASE,
        (
            lease.session,
            lease.executor,
            lease.worker,
            transaction.rules.owner,
            lease.connected,
            lease.resume_hash,
            lease.previous_resume_hash,
            expires_at,
        ),
    )
    return cast(int, cursor.lastrowid), expires_at


def _first(transaction: SqliteTransaction, statement: str, parameters: Sequence[Any] | dict[str, Any]) -> Any:
    row = transaction.connection.execute(statement, parameters).fetchone()
    return None if row is None else row[0]
