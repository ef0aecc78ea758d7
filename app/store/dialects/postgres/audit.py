"""Sessions beside their rows on PostgreSQL."""

from collections.abc import Sequence

from ...audit import Stored, in_question, of_this_server, settle
from ...calls import Audit
from .rows import select_states, write_states
from .transaction import PostgresTransaction

# FOR UPDATE waits for the claims that still run at the database, though their connections are gone.
_LOCK_LEASES = "SELECT id, session FROM leases WHERE session = ANY($1::text[]) ORDER BY id FOR UPDATE"
# A statement of its own, after the lock: it sees what those claims brought.
_SELECT_HELD = "SELECT id, fence, lease_id FROM jobs WHERE lease_id = ANY($1::bigint[])"


async def audit_sessions(transaction: PostgresTransaction, audits: Sequence[Audit]) -> list[None]:
    """Release what no worker was sent; what is held no more is told as this transaction's effects."""
    await transaction.begin()
    stored: dict[str, Stored] = {audit.session: Stored() for audit in audits}
    session_of: dict[int, str] = {}
    for lease_id, session in await transaction.connection.fetch(_LOCK_LEASES, list(stored)):
        stored[session].leases.append(lease_id)
        session_of[lease_id] = session
    for job_id, fence, lease_id in await transaction.connection.fetch(_SELECT_HELD, list(session_of)):
        stored[session_of[lease_id]].held.add((job_id, fence))
    own = of_this_server(audits, stored)
    states = await select_states(transaction, in_question(own, stored))
    await write_states(transaction, settle(transaction, own, stored, states))
    return [None] * len(audits)
