"""Acknowledge on SQLite: the usual complete in two statements, all else by the table."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from ....domain.errors import BackendError
from ....domain.job import Ack
from ....domain.lifecycle import Acknowledgement, Operation, Settlement
from ....domain.status import JobStatus
from ....observability.metrics import ACKNOWLEDGED, AckOutcome
from ...states import acknowledge_states
from .rows import select_states, write_states
from .transaction import SqliteTransaction

# Nearly every acknowledgement is a fenced complete by the worker that holds the job. For those the table's answer is
# known in advance, and many take two statements.
_SELECT_HELD = """
SELECT json_group_array(json_array(id, executor, fence, lease_id)) FROM jobs
WHERE id IN (SELECT value FROM json_each(?)) AND status = 'executing' AND lease_id IS NOT NULL
"""
_COMPLETE = """
UPDATE jobs SET status = 'complete', finished_at = ?, lease_id = NULL, version = version + 1,
                acknowledged_fence = fence, acknowledged_operation = 'complete'
WHERE id IN (SELECT value FROM json_each(?))
"""


_rows = msgspec.json.Decoder(list[tuple[int, str, int, int]])


def acknowledge(transaction: SqliteTransaction, calls: Sequence[Acknowledgement]) -> list[Ack | BackendError]:
    """Apply acknowledgements in order; each has an outcome of its own."""
    outcomes = _complete_held(transaction, calls)
    left = [call for call in calls if call.job_id not in outcomes]
    if not left:
        return [outcomes[call.job_id] for call in calls]
    others = iter(_apply_table(transaction, left))
    return [outcomes[call.job_id] if call.job_id in outcomes else next(others) for call in calls]


def _complete_held(transaction: SqliteTransaction, calls: Sequence[Acknowledgement]) -> dict[int, Ack]:
    """Complete the jobs whose only call is a complete under the very fence that they execute under."""
    fences: dict[int, int | None] = {}
    for call in calls:
        job_id = call.job_id
        # A job with several calls is left to the table.
        fences[job_id] = call.fence if call.operation is Operation.COMPLETE and job_id not in fences else None
    completed: dict[int, Ack] = {}
    executors: list[str] = []
    settled = transaction.effects.settled
    candidates = _json([job_id for job_id, fence in fences.items() if fence is not None])
    # All rows in one: each step of a statement would wait for the interpreter's lock.
    (held,) = transaction.connection.execute(_SELECT_HELD, (candidates,)).fetchone()
    for job_id, executor, fence, lease_id in _rows.decode(held):
        if fences[job_id] == fence:
            completed[job_id] = Ack(job_id, JobStatus.COMPLETE)
            settled.append(Settlement(lease_id, job_id, fence))
            executors.append(executor)
    if completed:
        for executor, count in Counter(executors).items():
            transaction.counts[executor, JobStatus.EXECUTING] -= count
            transaction.counts[executor, JobStatus.COMPLETE] += count
        transaction.connection.execute(_COMPLETE, (transaction.now, _json(list(completed))))
        transaction.effects.tally.count(ACKNOWLEDGED, Operation.COMPLETE, AckOutcome.OK, by=len(completed))
    return completed


def _apply_table(transaction: SqliteTransaction, calls: Sequence[Acknowledgement]) -> list[Ack | BackendError]:
    """Load the states, let the contract's table decide, write what changed."""
    states = select_states(transaction, {call.job_id for call in calls})
    outcomes, changed = acknowledge_states(transaction, states, calls)
    write_states(transaction, changed)
    return outcomes


def _json(ids: list[int]) -> str:
    return msgspec.json.encode(ids).decode()
