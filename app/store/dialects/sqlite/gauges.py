"""What the metrics read on SQLite beside the counts."""

# A loose scan over executors and the priorities in use of each: two seeks for each pair, whatever the backlog. A row
# value, (executor, priority) > (…), would use the index for the executor only, and walk through all of its jobs.
SELECT_OLDEST = """
WITH RECURSIVE levels (executor, priority) AS (
  VALUES ('', -1)
  UNION ALL
  SELECT following.executor, following.priority
  FROM levels CROSS JOIN jobs AS following ON following.id = coalesce(
    (SELECT id FROM jobs INDEXED BY jobs_ready
     WHERE executor = levels.executor AND priority > levels.priority AND status IN ('scheduled', 'retryable')
     ORDER BY priority LIMIT 1),
    (SELECT id FROM jobs INDEXED BY jobs_ready
     WHERE executor > levels.executor AND status IN ('scheduled', 'retryable')
     ORDER BY executor, priority LIMIT 1))
)
SELECT CASE WHEN executor IN (SELECT value FROM json_each(:named)) THEN executor END AS name,
       min((SELECT scheduled_at FROM jobs INDEXED BY jobs_ready
            WHERE executor = levels.executor AND priority = levels.priority AND status IN ('scheduled', 'retryable')
            ORDER BY scheduled_at LIMIT 1))
FROM levels WHERE executor > '' GROUP BY name
"""
