"""Acknowledge on PostgreSQL: the usual complete in one statement, all else by the table."""

from collections import Counter
from collections.abc import Sequence

from ....domain.errors import BackendError
from ....domain.job import Ack
from ....domain.lifecycle import Acknowledgement, Operation, Settlement
from ....domain.status import JobStatus
from ....observability.metrics import ACKNOWLEDGED, AckOutcome
from ...states import acknowledge_states
from .rows import select_states, write_states
from .transaction import NOW, PostgresTransaction

# Nearly every acknowledgement is a fenced complete by the worker that holds the job. For those the table's answer is
# known in advance. Rows are locked in the order of ids; a lease without a token is of no use without a job.
#
# By primary keys and, from a lease to its jobs, by the index jobs_lease. COALESCE keeps the planner from reading all of
# that instead: plans are made when hardly a job executes. A LIMIT keeps it from joining all jobs of all leases.
COMPLETE_HELD = f"""
WITH held AS MATERIALIZED (
  SELECT jobs.id, jobs.executor, jobs.lease_id, jobs.fence
  FROM unnest($1::bigint[], $2::bigint[]) AS given (id, fence) JOIN jobs ON jobs.id = given.id
  WHERE jobs.status = 'executing' AND jobs.fence = given.fence AND coalesce(jobs.lease_id, 0) <> 0
  ORDER BY jobs.id FOR UPDATE OF jobs
), completed AS (
  UPDATE jobs SET status = 'complete', finished_at = {NOW}, lease_id = NULL, version = version + 1,
                  acknowledged_fence = jobs.fence, acknowledged_operation = 'complete'
  FROM held WHERE jobs.id = held.id
), told AS (
  INSERT INTO notices (owner, lease_id, job_id, fence, inserted_at)
  SELECT leases.owner, held.lease_id, held.id, held.fence, {NOW}
  FROM held JOIN leases ON leases.id = held.lease_id WHERE leases.connected = 1 AND leases.owner <> $3
  RETURNING owner
), counted AS (
  INSERT INTO executor_count_deltas (executor, status, count)
  SELECT executor, 'executing', -count(*) FROM held GROUP BY executor
  UNION ALL SELECT executor, 'complete', count(*) FROM held GROUP BY executor
), forgotten AS (
  DELETE FROM leases WHERE id IN (
    SELECT id FROM leases
    WHERE id IN (SELECT lease_id FROM held) AND resume_hash IS NULL
      AND (SELECT 1 FROM jobs
           WHERE jobs.lease_id = leases.id AND jobs.id NOT IN (SELECT id FROM held) LIMIT 1) IS NULL
    FOR UPDATE SKIP LOCKED)
)
SELECT array_agg(id), array_agg(lease_id), array_agg(fence), (SELECT array_agg(DISTINCT owner) FROM told) FROM held
"""


def usual_ones(calls: Sequence[Acknowledgement]) -> list[Acknowledgement]:
    """Return the fenced completes of jobs that have no other call."""
    count = Counter(call.job_id for call in calls)
    return [
        call
        for call in calls
        if call.operation is Operation.COMPLETE and call.fence is not None and count[call.job_id] == 1
    ]


async def complete_held(transaction: PostgresTransaction, calls: Sequence[Acknowledgement]) -> list[Ack | None]:
    """Complete the jobs that execute under the very fence of their call; None for what is left to the table."""
    fences: dict[int, int | None] = {}
    for call in calls:
        fences.setdefault(call.job_id, call.fence)
    ids, leases, held_fences, others = await transaction.row(
        COMPLETE_HELD, list(fences), list(fences.values()), transaction.rules.owner
    )
    if ids is None:
        return [None] * len(calls)
    transaction.others.update(others or ())
    transaction.effects.settled += map(Settlement, leases, ids, held_fences)
    transaction.effects.tally.count(ACKNOWLEDGED, Operation.COMPLETE, AckOutcome.OK, by=len(ids))
    completed = dict(zip(ids, held_fences, strict=True))
    # Of the calls for one job the first has completed it; to say so of the others is the table's part.
    return [
        Ack(call.job_id, JobStatus.COMPLETE) if completed.pop(call.job_id, None) == call.fence else None
        for call in calls
    ]


async def acknowledge(transaction: PostgresTransaction, calls: Sequence[Acknowledgement]) -> list[Ack | BackendError]:
    """Load the states, let the contract's table decide, write what changed; in order, each with its outcome."""
    await transaction.begin()
    states = await select_states(transaction, {call.job_id for call in calls})
    outcomes, changed = acknowledge_states(transaction, states, calls)
    await write_states(transaction, changed)
    return outcomes
