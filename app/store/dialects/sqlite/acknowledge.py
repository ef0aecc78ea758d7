"""Acknowledge on SQLite: load the states, let the table decide, write what changed."""

from collections.abc import Sequence

import msgspec

from ....domain.errors import BackendError, JobNotFound
from ....domain.job import Ack
from ....domain.lifecycle import Acknowledgement, JobState, Operation
from ....domain.lifecycle import acknowledge as apply
from .rows import collect_effects, select_states, write_states
from .transaction import SqliteTransaction

# What a fenced complete writes, for many jobs in one step: nearly every acknowledgement is one.
_COMPLETE = """
UPDATE jobs SET status = 'complete', finished_at = ?, lease_id = NULL, version = version + 1,
                acknowledged_fence = fence, acknowledged_operation = 'complete'
WHERE id IN (SELECT value FROM json_each(?))
"""


def acknowledge(transaction: SqliteTransaction, calls: Sequence[Acknowledgement]) -> list[Ack | BackendError]:
    """Apply acknowledgements in order; each has an outcome of its own."""
    now = transaction.now
    require_fence = transaction.rules.require_fence
    states = select_states(transaction, {call.job_id for call in calls})
    changes: dict[int, Acknowledgement | None] = {}
    outcomes: list[Ack | BackendError] = []
    for call in calls:
        state = states.get(call.job_id)
        if state is None:
            outcomes.append(JobNotFound(call.job_id))
            continue
        before = state.status
        try:
            ack = apply(state, call, now, require_fence=require_fence)
        except BackendError as refusal:
            outcomes.append(refusal)
            continue
        outcomes.append(ack)
        if not ack.duplicate:
            changes[call.job_id] = None if call.job_id in changes else call
            collect_effects(transaction, state, before)
    _write(transaction, [(states[job_id], call) for job_id, call in changes.items()])
    return outcomes


def _write(transaction: SqliteTransaction, changes: list[tuple[JobState, Acknowledgement | None]]) -> None:
    """Write changed states, each with the call that changed it, or None if several did."""
    completed: list[int] = []
    others: list[JobState] = []
    for state, call in changes:
        if call is not None and call.operation is Operation.COMPLETE and call.fence is not None:
            completed.append(state.id)
        else:
            others.append(state)
    if completed:
        ids = msgspec.json.encode(completed).decode()
        transaction.connection.execute(_COMPLETE, (transaction.now, ids))
    if others:
        write_states(transaction, others)
