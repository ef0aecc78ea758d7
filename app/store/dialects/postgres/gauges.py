"""What is read on PostgreSQL beside the counts: since when jobs wait, by the index jobs_ready."""

_READY = "status IN ('scheduled', 'retryable')"

# For each executor and each priority in use the first row: two seeks a pair, whatever the backlog.
SELECT_OLDEST = f"""
WITH RECURSIVE levels (executor, priority, scheduled_at) AS (
  (SELECT executor, priority, scheduled_at FROM jobs WHERE {_READY}
   ORDER BY executor, priority, scheduled_at LIMIT 1)
  UNION ALL
  SELECT following.* FROM levels CROSS JOIN LATERAL (
    SELECT executor, priority, scheduled_at FROM jobs
    WHERE {_READY} AND (executor, priority) > (levels.executor, levels.priority)
    ORDER BY executor, priority, scheduled_at LIMIT 1
  ) AS following
)
SELECT CASE WHEN executor = ANY(CAST(:named AS text[])) THEN executor END AS name, min(scheduled_at)
FROM levels GROUP BY name
"""
