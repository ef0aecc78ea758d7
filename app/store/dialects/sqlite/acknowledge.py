"""Acknowledge on SQLite: fenced completes in a few statements for many jobs, all else by the table.

Nearly every acknowledgement is a fenced complete by the worker that holds the job. For those the table's answer is
known in advance.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import msgspec
from msgspec import Struct

from ....domain.errors import BackendError
from ....domain.job import Ack
from ....domain.lifecycle import Acknowledgement, Operation, Settlement
from ....domain.status import JobStatus
from ....observability.metrics import ACKNOWLEDGED, AckOutcome
from ...states import acknowledge_states
from .rows import select_states, write_states
from .transaction import SqliteTransaction

_HELD = """
FROM json_each(?) AS call CROSS JOIN jobs ON jobs.id = call.key
WHERE jobs.fence = call.value AND jobs.status = 'executing' AND jobs.lease_id IS NOT NULL
"""
_SELECT_HOLDERS = f"SELECT count(*), min(lease_id), max(lease_id), min(executor) {_HELD}"
# All rows in one: each step of a statement would wait for the interpreter's lock.
_SELECT_HELD = f"SELECT json_group_array(json_array(lease_id, jobs.id, fence)) {_HELD}"
_COUNT_BY_EXECUTOR = f"SELECT executor, count(*) {_HELD} GROUP BY executor"
_COMPLETE = """
UPDATE jobs SET status = 'complete', finished_at = ?, lease_id = NULL, version = version + 1,
                acknowledged_fence = fence, acknowledged_operation = 'complete'
WHERE id IN (SELECT CAST(key AS INTEGER) FROM json_each(?))
"""

_MANY = 16
"""So many completes of one caller are worth statements of their own."""


class _Held(Settlement, frozen=True, array_like=True, gc=False):
    """What a complete settles, as ``_SELECT_HELD`` gives it."""


_held: msgspec.json.Decoder[list[Settlement]] = msgspec.json.Decoder(list[_Held])


class Acknowledgements(Struct):
    """What one caller says at once, and what came of it."""

    calls: Sequence[Acknowledgement]
    completes: dict[int, int] | None
    """The fence of each job, if the calls are fenced completes of different jobs, and many."""
    outcomes: Sequence[Ack | BackendError] = ()


def prepare(calls: Sequence[Acknowledgement]) -> Acknowledgements:
    """Look at the calls, on the event loop: the writer's thread has less time."""
    completes: dict[int, int] = {}
    if len(calls) >= _MANY:
        for call in calls:
            if call.operation is Operation.COMPLETE and call.fence is not None:
                completes[call.job_id] = call.fence
    return Acknowledgements(calls, completes if completes and len(completes) == len(calls) else None)


def acknowledge(transaction: SqliteTransaction, callers: Sequence[Acknowledgements]) -> list[Acknowledgements]:
    """Apply acknowledgements in order; each has an outcome of its own."""
    for are_completes, group in groupby(callers, lambda caller: caller.completes is not None):
        if not are_completes:
            _apply(transaction, list(group))
            continue
        for caller in group:
            if not _complete_all(transaction, caller, caller.completes or {}):
                _apply(transaction, [caller])
    return list(callers)


def _complete_all(transaction: SqliteTransaction, caller: Acknowledgements, fences: dict[int, int]) -> bool:
    """Complete all jobs if one lease holds them under these fences; what that means is told later."""
    held, lease_id, last_lease_id, executor = _one_row(transaction, _SELECT_HOLDERS, fences)
    if held < len(fences) or lease_id != last_lease_id:
        return False
    _complete(transaction, fences, {executor: held})

    def tell() -> None:
        caller.outcomes = [Ack(job_id, JobStatus.COMPLETE) for job_id in fences]
        transaction.effects.settled += [Settlement(lease_id, job_id, fence) for job_id, fence in fences.items()]

    transaction.tell_later(caller, tell)
    transaction.free_untold(lease_id, held)
    return True


def _apply(transaction: SqliteTransaction, callers: Sequence[Acknowledgements]) -> None:
    """Apply the calls of several callers in order."""
    calls = [call for caller in callers for call in caller.calls]
    completed = _complete_held(transaction, calls)
    others = iter(_apply_table(transaction, [call for call in calls if call.job_id not in completed]))
    for caller in callers:
        caller.outcomes = [completed.get(call.job_id) or next(others) for call in caller.calls]


def _complete_held(transaction: SqliteTransaction, calls: Sequence[Acknowledgement]) -> dict[int, Ack]:
    """Complete the jobs whose only call is a complete under the very fence that they execute under."""
    fences: dict[int, int | None] = {}
    for call in calls:
        job_id = call.job_id
        # A job with several calls is left to the table.
        fences[job_id] = call.fence if call.operation is Operation.COMPLETE and job_id not in fences else None
    wanted = {job_id: fence for job_id, fence in fences.items() if fence is not None}
    if not wanted:
        return {}
    (rows,) = _one_row(transaction, _SELECT_HELD, wanted)
    settled = _held.decode(rows)
    if not settled:
        return {}
    held = {each.job_id: each.fence for each in settled}
    by_executor = transaction.connection.execute(_COUNT_BY_EXECUTOR, (_json(held),)).fetchall()
    _complete(transaction, held, dict(by_executor))
    transaction.effects.settled += settled
    return {job_id: Ack(job_id, JobStatus.COMPLETE) for job_id in held}


def _complete(transaction: SqliteTransaction, fences: dict[int, int], by_executor: dict[str, int]) -> None:
    """Complete jobs that are known to be held under these fences."""
    transaction.connection.execute(_COMPLETE, (transaction.now, _json(fences)))
    for executor, count in by_executor.items():
        transaction.counts[executor, JobStatus.EXECUTING] -= count
        transaction.counts[executor, JobStatus.COMPLETE] += count
    transaction.effects.tally.count(ACKNOWLEDGED, Operation.COMPLETE, AckOutcome.OK, by=len(fences))


def _apply_table(transaction: SqliteTransaction, calls: Sequence[Acknowledgement]) -> list[Ack | BackendError]:
    """Load the states, let the contract's table decide, write what changed."""
    if not calls:
        return []
    states = select_states(transaction, {call.job_id for call in calls})
    outcomes, changed = acknowledge_states(transaction, states, calls)
    write_states(transaction, changed)
    return outcomes


def _one_row(transaction: SqliteTransaction, statement: str, fences: dict[int, int]) -> Any:
    return transaction.connection.execute(statement, (_json(fences),)).fetchone()


def _json(fences: dict[int, int]) -> str:
    return msgspec.json.encode(fences).decode()
