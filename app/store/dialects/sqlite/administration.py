"""Rerun, update and delete on SQLite: what operators do, rarely."""

from collections.abc import Sequence
from typing import Any

import msgspec

from ....domain.errors import BackendError, JobNotFound
from ....domain.job import Ack, Job
from ....domain.lifecycle import update
from ...calls import Deletion, Rerun, Update
from ...states import collect_effects, rerun_states
from .insert import check_payload
from .rows import JOB_COLUMNS, job_of, select_errors, select_states, write_states
from .transaction import SqliteTransaction

SELECT_JOB = f"""
SELECT {JOB_COLUMNS}, leases.expires_at FROM jobs LEFT JOIN leases ON leases.id = jobs.lease_id WHERE jobs.id = ?
"""
# The conditions of the search are repeated: what changed since is not deleted.
_DELETE = """
DELETE FROM jobs WHERE id IN (SELECT value FROM json_each(:ids)) AND status = :status
  AND scheduled_at BETWEEN :earliest AND :latest RETURNING id, executor, error_count
"""
_DELETE_ERRORS = "DELETE FROM job_errors WHERE job_id IN (SELECT value FROM json_each(?))"


def rerun_jobs(transaction: SqliteTransaction, calls: Sequence[Rerun]) -> list[Ack | BackendError]:
    """Make jobs due now, each with an outcome of its own."""
    states = select_states(transaction, {call.job_id for call in calls})
    outcomes, changed = rerun_states(transaction, states, calls)
    write_states(transaction, changed)
    return outcomes


def update_jobs(transaction: SqliteTransaction, calls: Sequence[Update]) -> list[Job | BackendError]:
    """Change jobs; return each as it is then. Raises PayloadTooLarge, which undoes the change."""
    return [_update(transaction, call) for call in calls]


def delete_jobs(transaction: SqliteTransaction, deletions: Sequence[Deletion]) -> list[int]:
    """Delete jobs with their errors; return how many of each deletion."""
    return [_delete(transaction, deletion) for deletion in deletions]


def _update(transaction: SqliteTransaction, call: Update) -> Job | BackendError:
    state = select_states(transaction, [call.job_id]).get(call.job_id)
    if state is None:
        return JobNotFound(call.job_id)
    before = state.status
    try:
        changed = update(state, call.changes, transaction.now, if_match=call.if_match)
    except BackendError as refusal:
        return refusal
    if changed:
        write_states(transaction, [state])
        _write_payload(transaction, call)
        transaction.added_bytes += sum(
            2 * len(text.text) for text in (call.changes.data, call.changes.metadata) if text
        )
        collect_effects(transaction, state, before)
    row = transaction.connection.execute(SELECT_JOB, (call.job_id,)).fetchone()
    return job_of(row, select_errors(transaction.connection, call.job_id), row[-1])


def _write_payload(transaction: SqliteTransaction, call: Update) -> None:
    values: dict[str, Any] = {}
    if call.changes.data is not None:
        values |= {"data": call.changes.data.text, "data_canonical": call.changes.data.canonical}
    if call.changes.metadata is not None:
        values |= {"metadata": call.changes.metadata.text, "metadata_canonical": call.changes.metadata.canonical}
    if call.changes.tags is not None:
        values["tags"] = msgspec.json.encode(call.changes.tags).decode()
    if values:
        assignments = ", ".join(f"{name} = :{name}" for name in values)
        transaction.connection.execute(
            f"UPDATE jobs SET {assignments} WHERE id = :id",
            {**values, "id": call.job_id},
        )
        check_payload(transaction, call.job_id)


def _delete(transaction: SqliteTransaction, deletion: Deletion) -> int:
    deleted = transaction.connection.execute(
        _DELETE,
        {
            "ids": msgspec.json.encode(list(deletion.ids)).decode(),
            "status": deletion.status,
            "earliest": deletion.earliest,
            "latest": deletion.latest,
        },
    ).fetchall()
    for _, executor, _ in deleted:
        transaction.counts[executor, deletion.status] -= 1
    with_errors = [job_id for job_id, _, error_count in deleted if error_count]
    if with_errors:
        transaction.connection.execute(_DELETE_ERRORS, (msgspec.json.encode(with_errors).decode(),))
    return len(deleted)
