"""The one statement of a claim: leases, the best due jobs, who gets which, and when to ask again."""

from ....domain.limits import ERRORS_TO_WORKERS, MAX_ATTEMPTED_BY, MAX_UINT16
from .transaction import NOW

MAX_CLAIM_BYTES = 8 * 1024 * 1024
"""Most data and metadata that one claim takes, unless one job alone has more."""
_ALWAYS_FIT = 16
"""So many jobs are never too much."""

_READY = "executor = $1 AND status IN ('scheduled', 'retryable')"

# Its parameters: the executor; of each place its lease, its worker's name as JSON and, if the lease is to be opened,
# for how long; the places in the order in which jobs are dealt to them; the grace.
#
# A lease is locked against its end, not against its renewal: what is claimed for it is found by whoever ends it. New
# leases have their ids already. Who gets which job is an array, which is read only as far as there are jobs: as rows,
# hundreds of credits cost more than the rest of a claim that finds one job.
#
# By the index jobs_ready, a loose scan: for each priority in use, its due rows, until there are enough; the recursion
# goes on only as far as it is read. What others have locked is theirs.
_TEMPLATE = f"""
WITH RECURSIVE living AS MATERIALIZED (
  SELECT id, expires_at FROM leases WHERE id = ANY($2::bigint[]) AND expires_at > {NOW} - $6::bigint FOR KEY SHARE
), places AS MATERIALIZED (
  SELECT place, lease_id, worker, lease_for, coalesce({NOW} + lease_for, living.expires_at) AS expires_at
  FROM unnest($2::bigint[], $3::text[], $4::bigint[]) WITH ORDINALITY AS given (lease_id, worker, lease_for, place)
       LEFT JOIN living ON living.id = given.lease_id
  WHERE lease_for IS NOT NULL OR living.id IS NOT NULL
), turns AS MATERIALIZED (
  SELECT CASE WHEN (SELECT count(*) FROM places) = cardinality($2::bigint[]) THEN $5::bigint[] ELSE coalesce((
    SELECT array_agg(place ORDER BY number)
    FROM unnest($5::bigint[]) WITH ORDINALITY AS given (place, number) JOIN places USING (place)), '{{{{}}}}'
  ) END AS places
), levels (priority) AS (
  (SELECT priority FROM jobs WHERE {_READY} ORDER BY priority LIMIT 1)
  UNION ALL
  SELECT following.priority FROM levels CROSS JOIN LATERAL (
    SELECT priority FROM jobs WHERE {_READY} AND priority > levels.priority ORDER BY priority LIMIT 1
  ) AS following
), best AS MATERIALIZED (
  SELECT job.* FROM levels CROSS JOIN LATERAL (
    SELECT id, status, octet_length(data) + octet_length(metadata) AS bytes FROM jobs
    WHERE {_READY} AND priority = levels.priority AND scheduled_at <= {NOW}
    ORDER BY scheduled_at, id LIMIT (SELECT cardinality(places) FROM turns) FOR UPDATE SKIP LOCKED
  ) AS job
  LIMIT (SELECT cardinality(places) FROM turns)
), numbered AS MATERIALIZED (
  SELECT id, status, row_number() OVER () AS turn, sum(bytes) OVER (ROWS UNBOUNDED PRECEDING) AS bytes FROM best
), due AS MATERIALIZED (
  SELECT numbered.id, numbered.status, numbered.turn, places.*
  FROM numbered JOIN places ON places.place = (SELECT turns.places FROM turns)[numbered.turn]
  WHERE turn <= {_ALWAYS_FIT} OR bytes <= {MAX_CLAIM_BYTES}
), opened AS (
  {{open_leases}}
), claimed AS (
  UPDATE jobs
  SET status = 'executing', attempt = least(jobs.attempt + 1, {MAX_UINT16}), fence = jobs.fence + 1,
      version = jobs.version + 1, attempted_at = {NOW}, lease_id = due.lease_id, refunded = 0,
      attempted_by = CASE WHEN jobs.attempted_by = '[]' THEN '[' || due.worker || ']' ELSE (
        SELECT '[' || string_agg(name::text, ',' ORDER BY number) || ',' || due.worker || ']'
        FROM (SELECT name, number
              FROM json_array_elements(jobs.attempted_by::json) WITH ORDINALITY AS before (name, number)
              ORDER BY number DESC LIMIT {MAX_ATTEMPTED_BY - 1}) AS last) END
  FROM due WHERE jobs.id = due.id
  RETURNING due.turn, due.place, due.expires_at, jobs.id, jobs.data, jobs.metadata, jobs.attempt, jobs.max_attempts,
            jobs.priority, jobs.tags, jobs.error_count, jobs.inserted_at, jobs.scheduled_at, jobs.attempted_by,
            jobs.uniqueness_key, jobs.fence, jobs.version,
            CASE WHEN jobs.error_count > 0 THEN (
              SELECT json_agg(json_build_array(attempt, error_type, details, recorded_at) ORDER BY number)::text
              FROM job_errors WHERE job_id = jobs.id AND number > jobs.error_count - {ERRORS_TO_WORKERS}) END AS errors
), counted AS (
  INSERT INTO executor_count_deltas (executor, status, count)
  SELECT $1, status, -count(*) FROM due GROUP BY status
  UNION ALL SELECT $1, 'executing', count(*) FROM due HAVING count(*) > 0
), summary AS (
  SELECT 0::bigint AS turn, {NOW} AS now, (SELECT array_agg(place) FROM places) AS living,
         (SELECT count(*) FROM best) AS best,
         CASE WHEN (SELECT count(*) FROM due) < (SELECT cardinality(places) FROM turns) THEN (
           SELECT min(later.scheduled_at) FROM levels CROSS JOIN LATERAL (
             SELECT scheduled_at FROM jobs
             WHERE {_READY} AND priority = levels.priority AND scheduled_at > {NOW} ORDER BY scheduled_at LIMIT 1
           ) AS later) END AS next_due_at
)
SELECT summary.now, summary.living, summary.best, summary.next_due_at, claimed.*
FROM summary FULL JOIN claimed ON summary.turn = claimed.turn
"""
_OPEN = """
  INSERT INTO leases (id, session, executor, worker, owner, connected, expires_at)
  SELECT given.id, session, $1, name, $7, connected, expires_at
  FROM unnest($8::bigint[], $9::text[], $10::text[], $11::int[]) AS given (id, session, name, connected)
       JOIN (SELECT DISTINCT lease_id, expires_at FROM due WHERE lease_for IS NOT NULL) AS got
         ON got.lease_id = given.id
"""

CLAIM = _TEMPLATE.format(open_leases="SELECT")
CLAIM_OPENING_LEASES = _TEMPLATE.format(open_leases=_OPEN)
"""With the parameters of the leases that may be opened: owner, ids, sessions, names of workers, connected."""

NEXT_LEASE_IDS = "SELECT nextval('leases_id_seq') FROM generate_series(1, $1::int)"
