"""The ends of leases on PostgreSQL: a session that goes on at another connection, and one that has run out."""

from collections.abc import Sequence

from ....domain.instant import Instant
from ....domain.lifecycle import lose
from ....domain.status import JobStatus
from ....observability.metrics import LOST, RESCUED
from ...claim import NewLease, Resume, Resumed
from ...states import collect_effects, state_of
from .leases import open_leases
from .locks import LOCK, SESSION, keys_of
from .rows import SELECT_STATES_BY_LEASES, write_states
from .transaction import HAS_JOBS, PostgresTransaction

RESCUE_BATCH = 500

# FOR UPDATE waits for the claims of the lease that are under way, and lets no more begin: the statements that follow
# see all that was ever claimed for it.
_SELECT_RESUMABLE = """
SELECT id, worker FROM leases
WHERE session = $1 AND executor = $2 AND $3::text IN (resume_hash, coalesce(previous_resume_hash, resume_hash))
FOR UPDATE
"""
_MOVE_JOBS = "UPDATE jobs SET lease_id = $1 WHERE lease_id = $2"
_CONNECT = "UPDATE leases SET connected = 1, owner = $1, expires_at = greatest(expires_at, $2) WHERE session = $3"
_SELECT_LEASES = "SELECT id FROM leases WHERE session = $1 AND id <> $2 ORDER BY id"
_SELECT_HELD = """
SELECT jobs.id, jobs.fence FROM leases JOIN jobs ON jobs.lease_id = leases.id WHERE leases.session = $1 ORDER BY jobs.id
"""
_LOCK_EXPIRED = """
SELECT id FROM leases WHERE expires_at <= $1 AND {condition} ORDER BY expires_at LIMIT {limit} FOR UPDATE SKIP LOCKED
"""
# Sessions that come and go without a job leave many.
LOCK_EMPTY = _LOCK_EXPIRED.format(condition=f"NOT {HAS_JOBS}", limit=1000)
LOCK_EXPIRED = _LOCK_EXPIRED.format(condition=HAS_JOBS, limit=100)
# A statement of its own, after the lock: a claim may just have ended.
_FORGET_EMPTY = f"DELETE FROM leases WHERE id = ANY($1::bigint[]) AND NOT {HAS_JOBS}"


async def resume_sessions(transaction: PostgresTransaction, resumes: Sequence[Resume]) -> list[Resumed | None]:
    """Move sessions to new leases, each by its token."""
    await transaction.begin()
    return [await _resume(transaction, resume) for resume in resumes]


async def rescue_jobs(transaction: PostgresTransaction, asked_at: Sequence[Instant]) -> list[int]:
    """Take jobs back from leases that had run out when it was asked for, a bounded number; return how many in each."""
    await transaction.begin()
    return [await _rescue(transaction, min(each, transaction.now) - transaction.grace) for each in asked_at]


async def _resume(transaction: PostgresTransaction, resume: Resume) -> Resumed | None:
    connection = transaction.connection
    # Two resumes of one session come one after the other; the second finds what the first has made of the token.
    await connection.execute(LOCK, SESSION, keys_of([resume.session])[0])
    found = await connection.fetchrow(_SELECT_RESUMABLE, resume.session, resume.executor, resume.presented_hash)
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
    (new_lease,) = await open_leases(transaction, [lease])
    await connection.execute(_MOVE_JOBS, new_lease, old_lease)
    await transaction.tell([(old_lease, None, None, None, None)])
    await connection.execute("DELETE FROM leases WHERE id = $1", old_lease)
    expires_at = transaction.now + int(resume.seconds * 1_000_000)
    await connection.execute(_CONNECT, transaction.rules.owner, expires_at, resume.session)
    others = await connection.fetch(_SELECT_LEASES, resume.session, new_lease)
    resumed = Resumed(
        resume_hash=resume.resume_hash,
        worker=lease.worker,
        old_lease=old_lease,
        leases=[new_lease, *(row["id"] for row in others)],
        held=[(row["id"], row["fence"]) for row in await connection.fetch(_SELECT_HELD, resume.session)],
    )
    transaction.effects.moves.append(resumed)
    return resumed


async def _rescue(transaction: PostgresTransaction, expired_at: Instant) -> int:
    connection = transaction.connection
    empty = [row["id"] for row in await connection.fetch(LOCK_EMPTY, expired_at)]
    if empty:
        await connection.execute(_FORGET_EMPTY, empty)
    expired = [row["id"] for row in await connection.fetch(LOCK_EXPIRED, expired_at)]
    if not expired:
        return 0
    states = [state_of(row) for row in await connection.fetch(SELECT_STATES_BY_LEASES, expired, RESCUE_BATCH)]
    for state in states:
        lose(state, transaction.now)
        transaction.effects.tally.count(LOST, state.executor)
        if state.is_ready:
            transaction.effects.tally.count(RESCUED, state.executor)
        collect_effects(transaction, state, JobStatus.EXECUTING)
    await write_states(transaction, states)
    await transaction.tell_settled()
    await connection.execute(_FORGET_EMPTY, expired)
    return len(states)
