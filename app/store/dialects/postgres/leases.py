"""Leases on PostgreSQL: renewed by session, and single jobs longer than their session."""

from collections.abc import Sequence
from typing import cast

from ....domain.errors import BackendError, JobNotFound, StaleFence
from ....domain.instant import Instant
from ....domain.job import LeaseRenewed
from ....domain.status import JobStatus
from ...calls import JobLease, SessionAlive
from ...claim import NewLease
from ...effects import LeaseSplit
from .rows import select_states
from .transaction import NOW, PostgresTransaction, columns

_OPEN_LEASE = f"""
INSERT INTO leases (session, executor, worker, owner, connected, resume_hash, previous_resume_hash, expires_at)
SELECT session, executor, worker, $8, connected, resume_hash, previous_resume_hash, {NOW} + lease_for
FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::text[], $6::text[], $7::bigint[]) WITH ORDINALITY
  AS given (session, executor, worker, connected, resume_hash, previous_resume_hash, lease_for, number)
ORDER BY number RETURNING id
"""
# All leases of the sessions that these leases are of, in the order of ids; by the index leases_session.
_RENEW = f"""
WITH alive AS MATERIALIZED (
  SELECT leases.session, max(lease_for) AS lease_for
  FROM unnest($1::bigint[], $2::bigint[]) AS given (lease_id, lease_for) JOIN leases ON leases.id = given.lease_id
  GROUP BY leases.session
), locked AS MATERIALIZED (
  SELECT leases.id, {NOW} + lease_for AS expires_at FROM alive JOIN leases USING (session)
  ORDER BY leases.id FOR NO KEY UPDATE OF leases
), renewed AS (
  UPDATE leases SET expires_at = greatest(leases.expires_at, locked.expires_at) {{disconnected}}
  FROM locked WHERE leases.id = locked.id
)
SELECT array_agg(id) FROM locked
"""
RENEW_SESSIONS = _RENEW.format(disconnected="")
CLOSE_SESSIONS = _RENEW.format(disconnected=", connected = 0")
_CONFIRM = "UPDATE leases SET previous_resume_hash = NULL WHERE id = ANY($1::bigint[]) RETURNING id"
_SELECT_LEASE = (
    "SELECT session, executor, worker, owner, connected, expires_at FROM leases WHERE id = $1 FOR NO KEY UPDATE"
)
# A lease that a heartbeat opened, or a claim of one job: a stream's lease has a token.
_HOLDS_ONE_JOB = """
SELECT 1 FROM leases WHERE id = $1 AND resume_hash IS NULL
  AND (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE jobs.lease_id = leases.id LIMIT 2) AS held) = 1
"""


async def open_leases(transaction: PostgresTransaction, leases: Sequence[NewLease]) -> list[int]:
    """Open leases of sessions at this server; return their ids."""
    return await _open(transaction, leases, owner=transaction.rules.owner)


async def _open(transaction: PostgresTransaction, leases: Sequence[NewLease], *, owner: str) -> list[int]:
    rows = [
        (
            lease.session,
            lease.executor,
            lease.worker,
            int(lease.connected),
            lease.resume_hash,
            lease.previous_resume_hash,
            int(lease.seconds * 1_000_000),
        )
        for lease in leases
    ]
    opened = await transaction.connection.fetch(_OPEN_LEASE, *columns(rows, 7), owner)
    return sorted(row[0] for row in opened)


async def renew_sessions(transaction: PostgresTransaction, sessions: Sequence[SessionAlive]) -> list[bool]:
    """Let each session's leases run on from its last sign of life, never shorter; tell which still had one."""
    renewed = set(await _renew(transaction, RENEW_SESSIONS, sessions))
    return [alive.lease_id in renewed for alive in sessions]


async def close_sessions(transaction: PostgresTransaction, sessions: Sequence[SessionAlive]) -> list[bool]:
    """Let sessions run on without a connection, a whole lease from their last sign of life: no renewal told of it.

    Tell which still had a lease.
    """
    renewed = set(await _renew(transaction, CLOSE_SESSIONS, sessions))
    return [alive.lease_id in renewed for alive in sessions]


async def confirm_resumes(transaction: PostgresTransaction, lease_ids: Sequence[int]) -> list[bool]:
    """Forget the tokens from before these leases; tell which leases there still were."""
    confirmed = {row["id"] for row in await transaction.connection.fetch(_CONFIRM, list(lease_ids))}
    return [lease_id in confirmed for lease_id in lease_ids]


async def renew_jobs(transaction: PostgresTransaction, wishes: Sequence[JobLease]) -> list[LeaseRenewed | BackendError]:
    """Hold single jobs longer, each under its fence."""
    await transaction.begin()
    states = await select_states(transaction, {wish.job_id for wish in wishes})
    renewed: list[LeaseRenewed | BackendError] = []
    for wish in wishes:
        state = states.get(wish.job_id)
        if state is None:
            renewed.append(JobNotFound(wish.job_id))
        elif state.status is not JobStatus.EXECUTING or state.fence != wish.fence or state.lease_id is None:
            renewed.append(StaleFence(wish.job_id, state.status))
        else:
            expires_at, state.lease_id = await _renew_job(transaction, wish, state.lease_id)
            renewed.append(LeaseRenewed(wish.job_id, expires_at))
    return renewed


async def _renew(transaction: PostgresTransaction, statement: str, sessions: Sequence[SessionAlive]) -> Sequence[int]:
    rows = [(alive.lease_id, int((alive.lease_seconds - alive.seconds_ago) * 1_000_000)) for alive in sessions]
    return cast(Sequence[int], await transaction.connection.fetchval(statement, *columns(rows, 2)) or ())


async def _renew_job(transaction: PostgresTransaction, wish: JobLease, lease_id: int) -> tuple[Instant, int]:
    """Renew the session that streams the job, or give the job a lease of its own in its session; return which.

    A lease of its own lets one job be held longer than its neighbours or, where no connection renews them, not so long.
    """
    connection = transaction.connection
    session, executor, worker, owner, connected, expires_at = await transaction.row(_SELECT_LEASE, lease_id)
    wanted = transaction.now + int(wish.seconds * 1_000_000)
    if connected and not wish.is_own:
        await connection.fetchval(RENEW_SESSIONS, [lease_id], [wanted - transaction.now])
        return max(wanted, expires_at), lease_id
    if connected and wanted <= expires_at:
        return expires_at, lease_id
    if await connection.fetchval(_HOLDS_ONE_JOB, lease_id) is not None:
        await connection.execute("UPDATE leases SET expires_at = $1 WHERE id = $2", wanted, lease_id)
        return wanted, lease_id
    lease = NewLease(session=session, executor=executor, worker=worker, seconds=wish.seconds, connected=bool(connected))
    (own_lease,) = await _open(transaction, [lease], owner=owner)
    await transaction.tell([(lease_id, None, None, None, own_lease)])
    transaction.effects.moves.append(LeaseSplit(lease_id, own_lease))
    await connection.execute("UPDATE jobs SET lease_id = $1 WHERE id = $2", own_lease, wish.job_id)
    return wanted, own_lease
