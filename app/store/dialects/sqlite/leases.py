"""Leases on SQLite: renewed by session, closed when nothing is held, rescued when they have run out."""

from collections.abc import Sequence
from typing import cast

from ....domain.errors import BackendError, JobNotFound, StaleFence
from ....domain.instant import Instant
from ....domain.job import LeaseRenewed
from ....domain.lifecycle import lose
from ....domain.status import JobStatus
from ....observability.metrics import LOST, RESCUED
from ...calls import JobLease, SessionAlive
from ...claim import NewLease, Resume, Resumed
from ...effects import LeaseSplit
from ...states import collect_effects, state_of
from .claim import open_leases
from .rows import SELECT_STATES_BY_LEASE, select_states, write_states
from .transaction import SqliteTransaction

RESCUE_BATCH = 500

_OF_ITS_SESSION = "session = (SELECT session FROM leases WHERE id = ?)"
_RENEW_SESSION = f"UPDATE leases SET expires_at = max(expires_at, ?) WHERE {_OF_ITS_SESSION}"
_DISCONNECT = f"UPDATE leases SET connected = 0 WHERE {_OF_ITS_SESSION}"
_SELECT_RESUMABLE = """
SELECT id, worker FROM leases
WHERE session = :session AND executor = :executor
  AND :presented_hash IN (resume_hash, coalesce(previous_resume_hash, resume_hash))
"""
_MOVE_JOBS = "UPDATE jobs SET lease_id = ? WHERE lease_id = ?"
_CONNECT = "UPDATE leases SET connected = 1, owner = ?, expires_at = max(expires_at, ?) WHERE session = ?"
_SELECT_LEASES = "SELECT id FROM leases WHERE session = ? AND id != ?"
SELECT_HELD = """
SELECT jobs.id, jobs.fence FROM leases CROSS JOIN jobs INDEXED BY jobs_lease ON jobs.lease_id = leases.id
WHERE leases.session = ? ORDER BY jobs.id
"""
_CONFIRM = "UPDATE leases SET previous_resume_hash = NULL WHERE id = ?"
# Sessions that come and go without a job leave many.
FORGET_EMPTY = """
DELETE FROM leases WHERE id IN (
  SELECT id FROM leases WHERE expires_at <= ? AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.lease_id = leases.id)
  ORDER BY expires_at LIMIT 1000)
"""
# Only those with jobs: a round that finds nothing but empty ones would pass for the last.
SELECT_EXPIRED = """
SELECT id FROM leases WHERE expires_at <= ? AND EXISTS (SELECT 1 FROM jobs WHERE jobs.lease_id = leases.id)
ORDER BY expires_at LIMIT 100
"""
_SELECT_LEASE = "SELECT session, executor, worker, connected, expires_at FROM leases WHERE id = ?"
# A lease that a heartbeat opened, or a claim of one job: a stream's lease has a token.
_HOLDS_ONE_JOB = """
SELECT 1 FROM leases WHERE id = ? AND resume_hash IS NULL
  AND (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE jobs.lease_id = leases.id LIMIT 2)) = 1
"""
_MOVE_JOB = "UPDATE jobs SET lease_id = ? WHERE id = ?"


def renew_sessions(transaction: SqliteTransaction, sessions: Sequence[SessionAlive]) -> list[bool]:
    """Let each session's leases run on from its last sign of life, never shorter; tell which still had one."""
    renewed: list[bool] = []
    for alive in sessions:
        expires_at = transaction.now + int((alive.lease_seconds - alive.seconds_ago) * 1_000_000)
        renewed.append(transaction.connection.execute(_RENEW_SESSION, (expires_at, alive.lease_id)).rowcount > 0)
    return renewed


def close_sessions(transaction: SqliteTransaction, sessions: Sequence[SessionAlive]) -> list[bool]:
    """Let sessions run on without a connection, a whole lease from their last sign of life: no renewal told of it.

    Tell which still had a lease.
    """
    renewed = renew_sessions(transaction, sessions)
    transaction.connection.executemany(_DISCONNECT, [(session.lease_id,) for session in sessions])
    return renewed


def resume_sessions(transaction: SqliteTransaction, resumes: Sequence[Resume]) -> list[Resumed | None]:
    """Move sessions to new leases, each by its token."""
    return [_resume(transaction, resume) for resume in resumes]


def confirm_resumes(transaction: SqliteTransaction, lease_ids: Sequence[int]) -> list[bool]:
    """Forget the tokens from before these leases; tell which leases there still were."""
    return [transaction.connection.execute(_CONFIRM, (lease_id,)).rowcount > 0 for lease_id in lease_ids]


def renew_jobs(transaction: SqliteTransaction, wishes: Sequence[JobLease]) -> list[LeaseRenewed | BackendError]:
    """Hold single jobs longer, each under its fence."""
    states = select_states(transaction, {wish.job_id for wish in wishes})
    renewed: list[LeaseRenewed | BackendError] = []
    for wish in wishes:
        state = states.get(wish.job_id)
        if state is None:
            renewed.append(JobNotFound(wish.job_id))
        elif state.status is not JobStatus.EXECUTING or state.fence != wish.fence or state.lease_id is None:
            renewed.append(StaleFence(wish.job_id, state.status))
        else:
            renewed.append(LeaseRenewed(wish.job_id, _renew_job(transaction, wish, state.lease_id)))
    return renewed


def rescue_jobs(transaction: SqliteTransaction, rounds: Sequence[None]) -> list[int]:
    """Take jobs back from expired leases, a bounded number a round; return how many in each."""
    return [_rescue(transaction) for _ in rounds]


def disconnect_all(transaction: SqliteTransaction, calls: Sequence[None]) -> list[None]:
    """Note that no session is connected: this process, the only one, has just started."""
    transaction.connection.execute("UPDATE leases SET connected = 0")
    return [None] * len(calls)


def _renew_job(transaction: SqliteTransaction, wish: JobLease, lease_id: int) -> Instant:
    """Renew the session that streams the job, or give the job a lease of its own in its session.

    A lease of its own lets one job be held longer than its neighbours or, where no connection renews them, not so long.
    """
    session, executor, worker, connected, expires_at = transaction.connection.execute(
        _SELECT_LEASE, (lease_id,)
    ).fetchone()
    wanted = transaction.now + int(wish.seconds * 1_000_000)
    if connected and not wish.is_own:
        transaction.connection.execute(_RENEW_SESSION, (wanted, lease_id))
        return max(wanted, cast(int, expires_at))
    if connected and wanted <= expires_at:
        return cast(int, expires_at)
    if transaction.connection.execute(_HOLDS_ONE_JOB, (lease_id,)).fetchone() is not None:
        transaction.connection.execute("UPDATE leases SET expires_at = ? WHERE id = ?", (wanted, lease_id))
        return wanted
    lease = NewLease(session=session, executor=executor, worker=worker, seconds=wish.seconds, connected=bool(connected))
    (own_lease,) = open_leases(transaction, [lease])
    transaction.effects.moves.append(LeaseSplit(lease_id, own_lease))
    transaction.connection.execute(_MOVE_JOB, (own_lease, wish.job_id))
    return wanted


def _resume(transaction: SqliteTransaction, resume: Resume) -> Resumed | None:
    connection = transaction.connection
    found = connection.execute(
        _SELECT_RESUMABLE,
        {"session": resume.session, "executor": resume.executor, "presented_hash": resume.presented_hash},
    ).fetchone()
    if found is None:
        return None
    old_lease, old_worker = found
    lease = NewLease(
        session=resume.session,
        executor=resume.executor,
        worker=resume.worker or old_worker,
        seconds=resume.seconds,
        connected=True,
        resume_hash=resume.resume_hash,
        previous_resume_hash=resume.presented_hash,
    )
    (new_lease,) = open_leases(transaction, [lease])
    connection.execute(_MOVE_JOBS, (new_lease, old_lease))
    connection.execute("DELETE FROM leases WHERE id = ?", (old_lease,))
    expires_at = transaction.now + int(resume.seconds * 1_000_000)
    connection.execute(_CONNECT, (transaction.rules.owner, expires_at, resume.session))
    others = connection.execute(_SELECT_LEASES, (resume.session, new_lease)).fetchall()
    resumed = Resumed(
        resume_hash=resume.resume_hash,
        worker=lease.worker,
        old_lease=old_lease,
        leases=[new_lease, *(lease_id for (lease_id,) in others)],
        held=connection.execute(SELECT_HELD, (resume.session,)).fetchall(),
    )
    transaction.effects.moves.append(resumed)
    return resumed


def _rescue(transaction: SqliteTransaction) -> int:
    rescued = 0
    transaction.connection.execute(FORGET_EMPTY, (transaction.living_since,))
    expired = transaction.connection.execute(SELECT_EXPIRED, (transaction.living_since,)).fetchall()
    for (lease_id,) in expired:
        room = RESCUE_BATCH - rescued
        rows = transaction.connection.execute(SELECT_STATES_BY_LEASE, (lease_id, room)).fetchall()
        states = [state_of(row) for row in rows]
        for state in states:
            lose(state, transaction.now)
            transaction.effects.tally.count(LOST, state.executor)
            if state.is_ready:
                transaction.effects.tally.count(RESCUED, state.executor)
            collect_effects(transaction, state, JobStatus.EXECUTING)
        write_states(transaction, states)
        rescued += len(states)
        if len(states) == room:
            break
        transaction.connection.execute("DELETE FROM leases WHERE id = ?", (lease_id,))
    return rescued
