"""Claim on SQLite: the best due jobs of an executor, by a loose scan over the priorities in use."""

import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Struct

from ....domain.instant import Instant
from ....domain.job import Job
from ....domain.json_text import JsonText
from ....domain.limits import ERRORS_TO_WORKERS, MAX_ATTEMPTED_BY, MAX_UINT16
from ....domain.status import JobStatus
from ....observability.metrics import CLAIMED
from ...claim import MAX_JOBS_A_CLAIM, MAX_STREAM_CLAIM, ClaimCall, Claimed, Demand, NewLease, deal
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
SELECT count(*), count(job), group_concat(job), json_group_array(id), total(is_retryable), max(has_history)
FROM (SELECT id, status = 'retryable' AS is_retryable, attempted_by <> '[]' OR error_count > 0 AS has_history,
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


T = TypeVar("T")


class _DueJob(Job, array_like=True, gc=False):
    """A job as ``SELECT_DUE`` gives it."""


_due_jobs: msgspec.json.Decoder[list[Job]] = msgspec.json.Decoder(list[_DueJob])

MAX_CLAIM_BYTES = 8 * 1024 * 1024
"""Most data and metadata that one claim takes, unless one job alone has more."""
_ALWAYS_FIT = 16
"""So many jobs are never too much."""
_SHORT = 8_000
"""A job with no more characters than this needs no measuring: a thousand of them are not too much."""


class _Due(Struct):
    """Due jobs, best first, not yet read."""

    rows: list[str] = []
    """JSON, with commas between the jobs."""
    ids: list[int] = []
    have_history: bool = False
    """Whether one of them had a worker before, or an error."""

    def read(self) -> list[Job]:
        """Return the jobs."""
        return _due_jobs.decode(f"[{','.join(self.rows)}]")


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
    wanted = min(sum(credits_of), MAX_JOBS_A_CLAIM)
    due, claimed.next_due_at = _select_due(transaction, call.executor, wanted)
    count = len(due.ids)
    # Nothing wanted is not enough either: then every lease in line has run out, and asking again would not help.
    claimed.was_enough = 0 < wanted == count
    claimed.was_all = count < wanted and claimed.next_due_at != transaction.now
    if count < wanted:
        # What became ready in this very transaction is claimed, or next_due_at tells of it: nobody need be woken.
        transaction.effects.ready.pop(call.executor, None)
    if count:
        transaction.effects.tally.count(CLAIMED, call.executor, by=count)
    hands: list[tuple[int, Instant, str]] = []
    for index, demand, ids in zip(living, demands, _hands(due.ids, credits_of), strict=True):
        lease, expires_at = demand.lease, expiries[index] or 0
        if ids and isinstance(lease, NewLease):
            lease, expires_at = _open_lease(transaction, lease)
        if not isinstance(lease, NewLease):
            claimed.lease_ids[index] = lease
            _set_executing(transaction, ids, lease, demand.worker)
        hands.append((index, expires_at, demand.worker))

    def tell() -> list[Job]:
        """Read the jobs; return those that had a worker before."""
        again: list[Job] = []
        for (index, expires_at, worker), hand in zip(hands, _hands(due.read(), credits_of), strict=True):
            again += _hand_to(hand, expires_at, worker)
            claimed.jobs[index] = hand
        return again

    if due.have_history:
        _set_attempted_by(transaction, tell())
        _read_errors(transaction, claimed.jobs)
    elif count:
        transaction.tell_later(claimed, tell)
    return claimed


def _credits(transaction: SqliteTransaction, demand: Demand) -> int:
    if not demand.returns or isinstance(demand.lease, NewLease):
        return demand.credits
    return demand.credits + transaction.spend_freed(demand.lease, MAX_STREAM_CLAIM - demand.credits)


def _hands(due: list[T], credits_of: Sequence[int]) -> list[list[T]]:
    """Deal what is due; return each place's."""
    if len(credits_of) == 1:
        return [due]
    hands: list[list[T]] = [[] for _ in credits_of]
    for each, place in zip(due, deal(credits_of, len(due)), strict=True):
        hands[place].append(each)
    return hands


def _expiries(transaction: SqliteTransaction, demands: Sequence[Demand]) -> list[Instant | None]:
    """Return until when each demand's lease runs: 0 for one still to be opened, None for one that ran out."""
    return [
        0
        if isinstance(demand.lease, NewLease)
        else _first(transaction, _LIVING_LEASE, (demand.lease, transaction.living_since))
        for demand in demands
    ]


def _select_due(transaction: SqliteTransaction, executor: str, wanted: int) -> tuple[_Due, Instant | None]:
    """Return up to ``wanted`` due jobs, best first; with fewer, also when to ask again."""
    now = transaction.now
    due = _Due()
    later: list[Instant] = []
    for priority, first_at in _levels(transaction, executor):
        missing = wanted - len(due.ids)
        if missing <= 0:
            return due, None
        if first_at > now:
            later.append(first_at)
            continue
        parameters: dict[str, Any] = {"executor": executor, "priority": priority, "now": now, "count": missing}
        if not _add_due(transaction, due, {**parameters, "longest": _SHORT}):
            room = MAX_CLAIM_BYTES - sum(len(rows) for rows in due.rows)
            parameters["count"] = _fitting(transaction, parameters, room)
            _add_due(transaction, due, {**parameters, "longest": sys.maxsize})
            if parameters["count"] < missing:
                return due, now
        if len(due.ids) < wanted:
            following = _first(transaction, SELECT_NEXT, parameters)
            if following is not None:
                later.append(following)
    return due, (min(later, default=None) if len(due.ids) < wanted else None)


def _fitting(transaction: SqliteTransaction, parameters: dict[str, Any], room: int) -> int:
    """Return how many jobs, no more than were asked for, have no more bytes than there is room for."""
    count: int = parameters["count"]
    while count > _ALWAYS_FIT and _first(transaction, SELECT_DUE_BYTES, parameters | {"count": count}) > room:
        count //= 2
    return count


def _add_due(transaction: SqliteTransaction, due: _Due, parameters: dict[str, Any]) -> bool:
    """Add the due jobs of one priority; none, and return False, if one of them is too long."""
    count, short, rows, ids, retryable, have_history = transaction.connection.execute(SELECT_DUE, parameters).fetchone()
    if short < count:
        return False
    if count:
        due.rows.append(rows)
        due.ids += msgspec.json.decode(ids)
        due.have_history |= bool(have_history)
    executor = parameters["executor"]
    transaction.counts[executor, JobStatus.RETRYABLE] -= int(retryable)
    transaction.counts[executor, JobStatus.SCHEDULED] -= count - int(retryable)
    transaction.counts[executor, JobStatus.EXECUTING] += count
    return True


def _levels(transaction: SqliteTransaction, executor: str) -> Iterator[tuple[int, Instant]]:
    return transaction.connection.execute(SELECT_LEVELS, {"executor": executor})


def _set_executing(transaction: SqliteTransaction, ids: list[int], lease: int, worker: str) -> None:
    """Hand jobs to a lease, as if the worker were their first."""
    if ids:
        parameters = transaction.now, lease, _attempted_by("[]", worker), msgspec.json.encode(ids).decode()
        transaction.connection.execute(_SET_EXECUTING, parameters)


def _hand_to(jobs: list[Job], expires_at: Instant, worker: str) -> list[Job]:
    """Note who has the jobs; return those that had a worker before."""
    first = _attempted_by("[]", worker)
    again: list[Job] = []
    for job in jobs:
        job.lease_expires_at = expires_at
        if job.attempted_by == "[]":
            job.attempted_by = first
        else:
            job.attempted_by = _attempted_by(job.attempted_by, worker)
            again.append(job)
    return again


def _set_attempted_by(transaction: SqliteTransaction, jobs: Sequence[Job]) -> None:
    transaction.connection.executemany(_SET_ATTEMPTED_BY, [(job.attempted_by, job.id) for job in jobs])


def _read_errors(transaction: SqliteTransaction, hands: Sequence[Sequence[Job]]) -> None:
    for job in chain.from_iterable(hands):
        if job.error_count:
            job.errors = select_errors(transaction.connection, job.id, after=job.error_count - ERRORS_TO_WORKERS)


def _attempted_by(before: str, worker: str) -> JsonText:
    workers = [*msgspec.json.decode(before), worker]
    return JsonText(msgspec.json.encode(workers[-MAX_ATTEMPTED_BY:]).decode())


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
