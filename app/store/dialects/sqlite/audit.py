"""Sessions beside their rows on SQLite."""

from collections.abc import Sequence

from ...audit import Stored, in_question, of_this_server, settle
from ...calls import Audit
from .leases import SELECT_HELD
from .rows import select_states, write_states
from .transaction import SqliteTransaction

_SELECT_LEASES = "SELECT id FROM leases WHERE session = ?"


def audit_sessions(transaction: SqliteTransaction, audits: Sequence[Audit]) -> list[None]:
    """Release what no worker was sent; what is held no more is told as this transaction's effects."""
    stored = {
        audit.session: Stored(
            [lease_id for (lease_id,) in transaction.connection.execute(_SELECT_LEASES, (audit.session,))],
            set(transaction.connection.execute(SELECT_HELD, (audit.session,))),
        )
        for audit in audits
    }
    own = of_this_server(audits, stored)
    states = select_states(transaction, in_question(own, stored))
    write_states(transaction, settle(transaction, own, stored, states))
    return [None] * len(audits)
