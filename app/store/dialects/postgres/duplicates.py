"""The one statement that looks for a job's duplicate: among all statuses at once, for jobs change theirs meanwhile."""

from functools import cache

from ....domain.status import JobStatus

_FOUND = "SELECT id, status, version, scheduled_at FROM jobs WHERE "
_READY = "status IN ('scheduled', 'retryable')"

# For each executor and each priority in use the first row: two seeks a pair, whatever the backlog.
_LEVELS = f"""
levels (executor, priority) AS (
  (SELECT executor, priority FROM jobs WHERE {_READY} {{executor}} ORDER BY executor, priority LIMIT 1)
  UNION ALL
  SELECT following.executor, following.priority FROM levels CROSS JOIN LATERAL (
    SELECT executor, priority FROM jobs
    WHERE {_READY} {{executor}} AND (executor, priority) > (levels.executor, levels.priority)
    ORDER BY executor, priority LIMIT 1
  ) AS following
)
"""
_EXECUTORS = """
(SELECT executor FROM (
   SELECT executor, count FROM executor_counts WHERE status = '{status}'
   UNION ALL SELECT executor, count FROM executor_count_deltas WHERE status = '{status}') AS counts
 GROUP BY executor HAVING sum(count) > 0) AS named
"""


@cache
def select_duplicate(statuses: tuple[JobStatus, ...], *, by_key: bool, by_executor: bool) -> str:
    """Return the statement for criteria of this shape.

    Its parameters are the new job's ``scheduled_at``, the earliest and the latest that are near enough, then the key
    and the executor, if they are compared. It returns id, status and version of the duplicate with the nearest
    ``scheduled_at``, then the lowest id.
    """
    key = "$4::text" if by_key else None
    executor = ("$5::text" if by_key else "$4::text") if by_executor else None
    parts = [_part(status, key=key, executor=executor) for status in dict.fromkeys(statuses)]
    levels = _LEVELS.format(executor="" if executor is None else f"AND executor = {executor}")
    return f"""
    WITH RECURSIVE {levels}
    SELECT id, status, version FROM ({" UNION ALL ".join(parts)}) AS found
    ORDER BY abs(scheduled_at - $1::bigint), id LIMIT 1
    """


def _part(status: JobStatus, *, key: str | None, executor: str | None) -> str:
    if key is not None:
        # By the index jobs_unique.
        own = "" if executor is None else f"AND executor = {executor}"
        return _nearest(f"uniqueness_key = {key} AND status = '{status}' {own}")
    match status:
        case JobStatus.SCHEDULED:
            # By the index jobs_ready.
            condition = f"{_READY} AND status = 'scheduled' AND executor = levels.executor"
            nearest = _nearest(f"{condition} AND priority = levels.priority")
            return f"(SELECT nearest.* FROM levels CROSS JOIN LATERAL ({nearest}) AS nearest)"
        case JobStatus.EXECUTING:
            # By the index jobs_lease: they are as many as workers hold.
            own = "" if executor is None else f"AND executor = {executor}"
            return f"""
            ({_FOUND} lease_id IS NOT NULL AND status = 'executing' {own}
               AND scheduled_at BETWEEN $2::bigint AND $3::bigint
             ORDER BY abs(scheduled_at - $1::bigint), id LIMIT 1)
            """
        case _:
            # By the index jobs_history.
            if executor is not None:
                return _nearest(f"status = '{status}' AND executor = {executor}")
            nearest = _nearest(f"status = '{status}' AND executor = named.executor")
            executors = _EXECUTORS.format(status=status)
            return f"(SELECT nearest.* FROM {executors} CROSS JOIN LATERAL ({nearest}) AS nearest)"


def _nearest(condition: str) -> str:
    """Return the nearest row at or after the new job's time, and the one before it."""
    return f"""
    (({_FOUND} {condition} AND scheduled_at BETWEEN $1::bigint AND $3::bigint ORDER BY scheduled_at, id LIMIT 1)
     UNION ALL
     ({_FOUND} {condition} AND scheduled_at >= $2::bigint AND scheduled_at < $1::bigint
      ORDER BY scheduled_at DESC, id LIMIT 1))
    """
