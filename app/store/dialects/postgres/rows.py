"""Rows of the job table to states, and back."""

from collections.abc import Iterable, Sequence

from ....domain.lifecycle import JobState
from ....domain.limits import MAX_ERRORS_KEPT
from ...states import STATE_COLUMNS, state_of
from .transaction import PostgresTransaction, columns

# Locked in the order of ids, by all who lock many: nobody waits for somebody who waits.
_SELECT_STATES = f"SELECT {STATE_COLUMNS} FROM jobs WHERE {{condition}} FOR UPDATE"
SELECT_STATES_BY_ID = _SELECT_STATES.format(condition="id = ANY($1::bigint[]) ORDER BY id")
SELECT_STATES_BY_LEASES = _SELECT_STATES.format(condition="lease_id = ANY($1::bigint[]) ORDER BY id LIMIT $2::int")

_UPDATE_STATES = """
UPDATE jobs SET status = new.status, priority = new.priority, scheduled_at = new.scheduled_at, attempt = new.attempt,
                max_attempts = new.max_attempts, fence = new.fence, version = new.version, lease_id = new.lease_id,
                refunded = new.refunded, finished_at = new.finished_at, acknowledged_fence = new.acknowledged_fence,
                acknowledged_operation = new.acknowledged_operation, error_count = new.error_count
FROM unnest($1::bigint[], $2::text[], $3::int[], $4::bigint[], $5::int[], $6::int[], $7::bigint[], $8::bigint[],
            $9::bigint[], $10::int[], $11::bigint[], $12::bigint[], $13::text[], $14::int[])
  AS new (id, status, priority, scheduled_at, attempt, max_attempts, fence, version, lease_id, refunded, finished_at,
          acknowledged_fence, acknowledged_operation, error_count)
WHERE jobs.id = new.id
"""
_WIDTH = 14
_INSERT_ERRORS = """
INSERT INTO job_errors (job_id, number, attempt, error_type, details, recorded_at)
SELECT * FROM unnest($1::bigint[], $2::int[], $3::int[], $4::text[], $5::text[], $6::bigint[])
"""
# The first error and the last 49 are kept.
_FORGET_ERRORS = f"""
DELETE FROM job_errors USING unnest($1::bigint[], $2::int[]) AS full_one (job_id, error_count)
WHERE job_errors.job_id = full_one.job_id
  AND number > 1 AND number <= full_one.error_count - {MAX_ERRORS_KEPT - 1}
"""


async def select_states(transaction: PostgresTransaction, ids: Iterable[int]) -> dict[int, JobState]:
    """Load and lock the states of the jobs that exist."""
    rows = await transaction.connection.fetch(SELECT_STATES_BY_ID, list(ids))
    return {row[0]: state_of(row) for row in rows}


async def write_states(transaction: PostgresTransaction, states: Sequence[JobState]) -> None:
    """Write changed states back, with the errors that were recorded."""
    if not states:
        return
    await transaction.connection.execute(
        _UPDATE_STATES,
        *columns(
            (
                (
                    state.id,
                    state.status,
                    state.priority,
                    state.scheduled_at,
                    state.attempt,
                    state.max_attempts,
                    state.fence,
                    state.version,
                    state.lease_id,
                    int(state.refunded),
                    state.finished_at,
                    state.acknowledged_fence,
                    state.acknowledged_operation,
                    state.error_count,
                )
                for state in states
            ),
            _WIDTH,
        ),
    )
    await _append_errors(transaction, [state for state in states if state.new_errors])


async def _append_errors(transaction: PostgresTransaction, states: Sequence[JobState]) -> None:
    rows = [
        (state.id, number, error.attempt, error.error_type, error.details, error.recorded_at)
        for state in states
        for number, error in enumerate(state.new_errors, start=state.error_count - len(state.new_errors) + 1)
    ]
    if rows:
        await transaction.connection.execute(_INSERT_ERRORS, *columns(rows, 6))
    full = [(state.id, state.error_count) for state in states if state.error_count > MAX_ERRORS_KEPT]
    if full:
        await transaction.connection.execute(_FORGET_ERRORS, *columns(full, 2))
