"""Rows of the job table to jobs and states, and back."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ....domain.job import Job, JobError
from ....domain.lifecycle import JobState
from ....domain.limits import MAX_ERRORS_KEPT
from ...states import STATE_COLUMNS, STATUS, state_of
from .transaction import SqliteTransaction

JOB_COLUMNS = """
jobs.id, jobs.executor, jobs.status, jobs.data, jobs.metadata, jobs.attempt, jobs.max_attempts, jobs.priority,
jobs.tags, jobs.error_count, jobs.inserted_at, jobs.scheduled_at, jobs.attempted_at, jobs.finished_at,
jobs.attempted_by, jobs.uniqueness_key, jobs.fence, jobs.version
"""

SELECT_STATES = """
SELECT {columns} FROM jobs WHERE {condition}
"""
SELECT_STATES_BY_ID = SELECT_STATES.format(columns=STATE_COLUMNS, condition="id IN (SELECT value FROM json_each(?))")
SELECT_STATES_BY_LEASE = SELECT_STATES.format(columns=STATE_COLUMNS, condition="lease_id = ? ORDER BY id LIMIT ?")

_UPDATE_STATE = """
UPDATE jobs SET status = ?, priority = ?, scheduled_at = ?, attempt = ?, max_attempts = ?, fence = ?, version = ?,
                lease_id = ?, refunded = ?, finished_at = ?, acknowledged_fence = ?, acknowledged_operation = ?,
                error_count = ?
WHERE id = ?
"""
_INSERT_ERROR = """
INSERT INTO job_errors (job_id, number, attempt, error_type, details, recorded_at) VALUES (?, ?, ?, ?, ?, ?)
"""
# The first error and the last 49 are kept.
_FORGET_ERRORS = f"DELETE FROM job_errors WHERE job_id = ? AND number > 1 AND number <= ? - {MAX_ERRORS_KEPT - 1}"
_SELECT_ERRORS = """
SELECT attempt, error_type, details, recorded_at FROM job_errors WHERE job_id = ? AND number > ? ORDER BY number
"""


def select_states(transaction: SqliteTransaction, ids: Iterable[int]) -> dict[int, JobState]:
    """Load the states of the jobs that exist."""
    rows = transaction.connection.execute(SELECT_STATES_BY_ID, (msgspec.json.encode(list(ids)).decode(),))
    return {row[0]: state_of(row) for row in rows}


def write_states(transaction: SqliteTransaction, states: Sequence[JobState]) -> None:
    """Write changed states back, with the errors that were recorded."""
    transaction.connection.executemany(
        _UPDATE_STATE,
        [
            (
                state.status,
                state.priority,
                state.scheduled_at,
                state.attempt,
                state.max_attempts,
                state.fence,
                state.version,
                state.lease_id,
                state.refunded,
                state.finished_at,
                state.acknowledged_fence,
                state.acknowledged_operation,
                state.error_count,
                state.id,
            )
            for state in states
        ],
    )
    for state in states:
        if state.new_errors:
            _append_errors(transaction, state)


def select_errors(connection: sqlite3.Connection, job_id: int, *, after: int = 0) -> list[JobError]:
    """Return the recorded errors whose number is greater than ``after``, oldest first."""
    return [JobError(*row) for row in connection.execute(_SELECT_ERRORS, (job_id, after))]


def job_of(row: Sequence[Any], errors: list[JobError], lease_expires_at: int | None) -> Job:
    """Make a job of a row of ``JOB_COLUMNS``."""
    job_id, executor, status, data, metadata, attempt, max_attempts, priority, tags, error_count = row[:10]
    inserted_at, scheduled_at, attempted_at, finished_at, attempted_by, uniqueness_key, fence, version = row[10:18]
    # By position: with names it takes twice as long, for each job that is claimed.
    return Job(
        job_id,
        executor,
        STATUS[status],
        data,
        metadata,
        attempt,
        max_attempts,
        priority,
        tags,
        errors,
        error_count,
        inserted_at,
        scheduled_at,
        attempted_at,
        finished_at,
        attempted_by,
        uniqueness_key,
        fence,
        lease_expires_at,
        version,
    )


def _append_errors(transaction: SqliteTransaction, state: JobState) -> None:
    first_number = state.error_count - len(state.new_errors) + 1
    transaction.connection.executemany(
        _INSERT_ERROR,
        [
            (state.id, first_number + index, error.attempt, error.error_type, error.details, error.recorded_at)
            for index, error in enumerate(state.new_errors)
        ],
    )
    if state.error_count > MAX_ERRORS_KEPT:
        transaction.connection.execute(_FORGET_ERRORS, (state.id, state.error_count))
