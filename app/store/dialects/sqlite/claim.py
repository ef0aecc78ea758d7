"""Claim on SQLite: the best due jobs of an executor, by a loose scan over the priorities in use."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import msgspec

from ....domain.instant import Instant
from ....domain.job import Job
from ....domain.limits import ERRORS_TO_WORKERS, MAX_ATTEMPTED_BY, MAX_UINT16
from ....domain.status import JobStatus
from ...claim import ClaimCall, Claimed, Demand, NewLease, deal
from .rows import JOB_COLUMNS, job_of, select_errors
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
JOB_COLUMNS_AS_CLAIMED = (
    JOB_COLUMNS.replace("jobs.attempt,", f"{NEXT_ATTEMPT},")
    .replace("jobs.fence", "jobs.fence + 1")
    .replace("jobs.version", "jobs.version + 1")
)
# One range of the index jobs_ready, already in delivery order.
# The numbers are those that the claim is about to write.
SELECT_DUE = f"""
SELECT {JOB_COLUMNS_AS_CLAIMED} FROM jobs INDEXED BY jobs_ready
WHERE executor = :executor AND priority = :priority AND status IN ('scheduled', 'retryable') AND scheduled_at <= :now
ORDER BY scheduled_at, id LIMIT :count
"""
SELECT_NEXT = """
SELECT scheduled_at FROM jobs INDEXED BY jobs_ready
WHERE executor = :executor AND priority = :priority AND status IN ('scheduled', 'retryable') AND scheduled_at > :now
ORDER BY scheduled_at LIMIT 1
"""
_SET_EXECUTING = f"""
UPDATE jobs SET status = 'executing', attempt = {NEXT_ATTEMPT}, fence = fence + 1,
                version = version + 1, attempted_at = ?, lease_id = ?, refunded = 0, attempted_by = ?
"""
_EXECUTE_FIRST = _SET_EXECUTING + "WHERE id IN (SELECT value FROM json_each(?))"
_EXECUTE_AGAIN = _SET_EXECUTING + "WHERE id = ?"
_LIVING_LEASE = "SELECT expires_at FROM leases WHERE id = ? AND expires_at > ?"
_OPEN_LEASE = """
INSERT INTO leases (session, executor, worker, owner, connected, resume_hash, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)
"""


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
    wanted = sum(demand.credits for demand in demands)
    rows, next_due_at = _select_due(transaction, call.executor, wanted)
    claimed.next_due_at = next_due_at
    hands: list[list[Sequence[Any]]] = [[] for _ in demands]
    for row, place in zip(rows, deal(demands, len(rows)), strict=True):
        hands[place].append(row)
    for index, demand, hand in zip(living, demands, hands, strict=True):
        lease, expires_at = demand.lease, expiries[index] or 0
        if isinstance(lease, NewLease):
            if not hand:
                continue
            lease, expires_at = _open_lease(transaction, lease)
        claimed.lease_ids[index] = lease
        claimed.jobs[index] = _execute(transaction, hand, lease, expires_at, demand.worker)
    return claimed


def _expiries(transaction: SqliteTransaction, demands: Sequence[Demand]) -> list[Instant | None]:
    """Return until when each demand's lease runs: 0 for one still to be opened, None for one that ran out."""
    return [
        0
        if isinstance(demand.lease, NewLease)
        else _first(transaction, _LIVING_LEASE, (demand.lease, transaction.living_since))
        for demand in demands
    ]


def _select_due(
    transaction: SqliteTransaction, executor: str, wanted: int
) -> tuple[list[Sequence[Any]], Instant | None]:
    """Return up to ``wanted`` due rows, best first; with fewer, also when the next one falls due."""
    now = transaction.now
    rows: list[Sequence[Any]] = []
    later: list[Instant] = []
    for priority, first_at in _levels(transaction, executor):
        if len(rows) >= wanted:
            return rows, None
        if first_at > now:
            later.append(first_at)
            continue
        parameters = {"executor": executor, "priority": priority, "now": now, "count": wanted - len(rows)}
        rows += transaction.connection.execute(SELECT_DUE, parameters)
        if len(rows) < wanted:
            following = transaction.connection.execute(SELECT_NEXT, parameters).fetchone()
            if following is not None:
                later.append(following[0])
    return rows, (min(later, default=None) if len(rows) < wanted else None)


def _levels(transaction: SqliteTransaction, executor: str) -> Iterator[tuple[int, Instant]]:
    return transaction.connection.execute(SELECT_LEVELS, {"executor": executor})


def _execute(
    transaction: SqliteTransaction, rows: list[Sequence[Any]], lease: int, expires_at: Instant, worker: str
) -> list[Job]:
    """Hand rows to a lease; return the jobs as they are now."""
    if not rows:
        return []
    now = transaction.now
    first = _attempted_by("[]", worker)
    counts = transaction.counts
    fresh: list[int] = []
    again: list[tuple[Any, ...]] = []
    jobs: list[Job] = []
    for row in rows:
        job = job_of(row, [], expires_at)
        if job.attempted_by == "[]":
            job.attempted_by = first
            fresh.append(job.id)
        else:
            job.attempted_by = _attempted_by(job.attempted_by, worker)
            again.append((now, lease, job.attempted_by, job.id))
        if job.error_count:
            job.errors = select_errors(transaction.connection, job.id, after=job.error_count - ERRORS_TO_WORKERS)
        counts[job.executor, job.status] -= 1
        job.status = JobStatus.EXECUTING
        job.attempted_at = now
        jobs.append(job)
    transaction.counts[jobs[0].executor, JobStatus.EXECUTING] += len(jobs)
    if fresh:
        transaction.connection.execute(_EXECUTE_FIRST, (now, lease, first, msgspec.json.encode(fresh).decode()))
    if again:
        transaction.connection.executemany(_EXECUTE_AGAIN, again)
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
            expires_at,
        ),
    )
    return cast(int, cursor.lastrowid), expires_at


def _first(transaction: SqliteTransaction, statement: str, parameters: tuple[Any, ...]) -> Any:
    row = transaction.connection.execute(statement, parameters).fetchone()
    return None if row is None else row[0]
