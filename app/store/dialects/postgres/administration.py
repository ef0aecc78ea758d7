"""Rerun, update and delete on PostgreSQL: what operators do, rarely."""

from collections.abc import Sequence
from typing import Any

import msgspec

from ....domain.errors import BackendError, JobNotFound
from ....domain.job import Ack, Job, JobError
from ....domain.json_text import JsonText
from ....domain.lifecycle import update
from ...calls import Deletion, Rerun, Update
from ...states import STATUS, collect_effects, rerun_states
from .insert import check_payload
from .rows import select_states, write_states
from .transaction import PostgresTransaction

_SELECT_JOB = """
SELECT jobs.id, executor, status, data, metadata, attempt, max_attempts, priority, tags, error_count, inserted_at,
       scheduled_at, attempted_at, finished_at, attempted_by, uniqueness_key, fence, version,
       (SELECT expires_at FROM leases WHERE leases.id = jobs.lease_id) AS lease_expires_at
FROM jobs WHERE jobs.id = $1
"""
_SELECT_ERRORS = "SELECT attempt, error_type, details, recorded_at FROM job_errors WHERE job_id = $1 ORDER BY number"
# The conditions of the search are repeated: what changed since is not deleted.
_DELETE = """
WITH old AS MATERIALIZED (
  SELECT id FROM jobs
  WHERE id = ANY($1::bigint[]) AND status = $2 AND scheduled_at BETWEEN $3 AND $4 ORDER BY id FOR UPDATE
)
DELETE FROM jobs USING old WHERE jobs.id = old.id RETURNING jobs.id, executor, error_count
"""
_DELETE_ERRORS = "DELETE FROM job_errors WHERE job_id = ANY($1::bigint[])"


async def rerun_jobs(transaction: PostgresTransaction, calls: Sequence[Rerun]) -> list[Ack | BackendError]:
    """Make jobs due now, each with an outcome of its own."""
    await transaction.begin()
    states = await select_states(transaction, {call.job_id for call in calls})
    outcomes, changed = rerun_states(transaction, states, calls)
    await write_states(transaction, changed)
    return outcomes


async def update_jobs(transaction: PostgresTransaction, calls: Sequence[Update]) -> list[Job | BackendError]:
    """Change jobs; return each as it is then. Raises PayloadTooLarge, which undoes the change."""
    await transaction.begin()
    return [await _update(transaction, call) for call in calls]


async def delete_jobs(transaction: PostgresTransaction, deletions: Sequence[Deletion]) -> list[int]:
    """Delete jobs with their errors; return how many of each deletion."""
    await transaction.begin()
    return [await _delete(transaction, deletion) for deletion in deletions]


async def _update(transaction: PostgresTransaction, call: Update) -> Job | BackendError:
    state = (await select_states(transaction, [call.job_id])).get(call.job_id)
    if state is None:
        return JobNotFound(call.job_id)
    before = state.status
    try:
        changed = update(state, call.changes, transaction.now, if_match=call.if_match)
    except BackendError as refusal:
        return refusal
    if changed:
        await write_states(transaction, [state])
        await _write_payload(transaction, call)
        collect_effects(transaction, state, before)
    return await _select_job(transaction, call.job_id)


async def _write_payload(transaction: PostgresTransaction, call: Update) -> None:
    values: dict[str, Any] = {}
    if call.changes.data is not None:
        values |= {"data": call.changes.data.text, "data_canonical": call.changes.data.canonical}
    if call.changes.metadata is not None:
        values |= {"metadata": call.changes.metadata.text, "metadata_canonical": call.changes.metadata.canonical}
    if call.changes.tags is not None:
        values["tags"] = msgspec.json.encode(call.changes.tags).decode()
    if values:
        assignments = ", ".join(f"{name} = ${number}" for number, name in enumerate(values, start=2))
        await transaction.connection.execute(
            f"UPDATE jobs SET {assignments} WHERE id = $1", call.job_id, *values.values()
        )
        await check_payload(transaction, call.job_id)


async def _select_job(transaction: PostgresTransaction, job_id: int) -> Job:
    row = await transaction.row(_SELECT_JOB, job_id)
    errors = await transaction.connection.fetch(_SELECT_ERRORS, job_id) if row["error_count"] else ()
    members = dict(row)
    key = members["uniqueness_key"]
    return Job(
        **members
        | {
            "status": STATUS[members["status"]],
            "errors": [JobError(*error) for error in errors],
            "uniqueness_key": None if key is None else JsonText(key),
        }
    )


async def _delete(transaction: PostgresTransaction, deletion: Deletion) -> int:
    connection = transaction.connection
    deleted = await connection.fetch(_DELETE, list(deletion.ids), deletion.status, deletion.earliest, deletion.latest)
    for row in deleted:
        transaction.counts[row["executor"], deletion.status] -= 1
    with_errors = [row["id"] for row in deleted if row["error_count"]]
    if with_errors:
        await connection.execute(_DELETE_ERRORS, with_errors)
    return len(deleted)
