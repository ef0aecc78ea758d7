"""All metrics in ONE table: what ``/metrics`` shows, and what ``docs/metrics.md`` says of it.

Names are ``rexecutor_<noun>_<unit|total>``. Labels take few values, never an id.
"""

from enum import StrEnum

from msgspec import Struct

from ..domain.job import EnqueueOutcome
from ..domain.lifecycle import Operation
from ..domain.status import JobStatus


class Kind(StrEnum):
    """What Prometheus does with the numbers."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class AckOutcome(StrEnum):
    """What came of an acknowledgement."""

    OK = "ok"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


class Label(Struct, frozen=True):
    """A label; its values, where they are known from the start: those are shown from zero on."""

    name: str
    values: tuple[str, ...] = ()


class Metric(Struct, frozen=True, eq=False, kw_only=True):
    """One metric. Compared by identity, so that it is cheap as a key."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[Label, ...] = ()
    bounds: tuple[float, ...] = ()
    """For a histogram: the upper bounds of its buckets."""


EXECUTOR = Label("executor")
"""Bounded by the meter: the first 200 executors by name, all others as ``other``."""
_STATUS = Label("status", tuple(JobStatus))
_OPERATION = Label("operation", tuple(Operation))
_HTTP_OPERATION = Label("operation")
_HTTP_STATUS = Label("status")

_MILLISECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_UP_TO_AN_HOUR = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0, 3_600.0)
_UP_TO_A_POLL = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_POWERS_OF_FOUR = (1, 4, 16, 64, 256, 1_024, 4_096)

# What is read when the page is asked for.

DATABASE_UP = Metric(
    name="rexecutor_database_up",
    kind=Kind.GAUGE,
    meaning="1 if the database answered this scrape within two seconds, else 0: then all that it knows is left out.",
)
JOBS = Metric(
    name="rexecutor_jobs",
    kind=Kind.GAUGE,
    labels=(EXECUTOR, _STATUS),
    meaning="Jobs that are stored.",
)
OLDEST_READY = Metric(
    name="rexecutor_oldest_ready_seconds",
    kind=Kind.GAUGE,
    labels=(EXECUTOR,),
    meaning="How long ago the oldest job that is due and waits was scheduled to run; absent where none waits.",
)
DRAINING = Metric(
    name="rexecutor_draining",
    kind=Kind.GAUGE,
    meaning="1 once this server has begun to leave, else 0.",
)
TASKS = Metric(
    name="rexecutor_tasks",
    kind=Kind.GAUGE,
    meaning="Tasks in this server's event loop: a few for each connection and request that is open.",
)
CONNECTIONS = Metric(
    name="rexecutor_connections",
    kind=Kind.GAUGE,
    labels=(EXECUTOR,),
    meaning="Workers connected to this server's stream.",
)
CREDITS = Metric(
    name="rexecutor_credits",
    kind=Kind.GAUGE,
    labels=(EXECUTOR,),
    meaning="Jobs that connected workers would take at once.",
)
HELD_JOBS = Metric(
    name="rexecutor_held_jobs",
    kind=Kind.GAUGE,
    labels=(EXECUTOR,),
    meaning="Jobs that connected workers hold.",
)

# What is counted as it happens, each number after the commit that made it true.

ENQUEUED = Metric(
    name="rexecutor_jobs_enqueued_total",
    kind=Kind.COUNTER,
    labels=(EXECUTOR, Label("outcome", tuple(EnqueueOutcome))),
    meaning="Enqueues: a job stored, or a duplicate found or replaced.",
)
CLAIMED = Metric(
    name="rexecutor_jobs_claimed_total",
    kind=Kind.COUNTER,
    labels=(EXECUTOR,),
    meaning="Jobs claimed for workers, each attempt anew.",
)
ACKNOWLEDGED = Metric(
    name="rexecutor_jobs_acknowledged_total",
    kind=Kind.COUNTER,
    labels=(_OPERATION, Label("outcome", tuple(AckOutcome))),
    meaning="Acknowledgements, by REST and stream; the service itself releases jobs that it could not hand over.",
)
LOST = Metric(
    name="rexecutor_jobs_lost_total",
    kind=Kind.COUNTER,
    labels=(EXECUTOR,),
    meaning="Jobs taken back because their worker's lease had run out.",
)
RESCUED = Metric(
    name="rexecutor_jobs_rescued_total",
    kind=Kind.COUNTER,
    labels=(EXECUTOR,),
    meaning="Lost jobs that were put back in line; the others had no attempt left and were discarded.",
)
PICKUP = Metric(
    name="rexecutor_pickup_seconds",
    kind=Kind.HISTOGRAM,
    bounds=_UP_TO_AN_HOUR,
    meaning="From the enqueue of a job that is due at once until it is first handed out.",
)
LATENESS = Metric(
    name="rexecutor_lateness_seconds",
    kind=Kind.HISTOGRAM,
    bounds=_UP_TO_AN_HOUR,
    meaning="From the time for which a job is scheduled, or put off to, until it is handed out; not those of pickup.",
)
COMMIT_WRITES = Metric(
    name="rexecutor_commit_writes",
    kind=Kind.HISTOGRAM,
    bounds=_POWERS_OF_FOUR,
    meaning="Writes of all kinds that shared a committed transaction.",
)
COMMIT_SECONDS = Metric(
    name="rexecutor_commit_seconds",
    kind=Kind.HISTOGRAM,
    bounds=_MILLISECONDS,
    meaning="A committed transaction from its begin until it is durable.",
)
HTTP_REQUESTS = Metric(
    name="rexecutor_http_requests_total",
    kind=Kind.COUNTER,
    labels=(_HTTP_OPERATION, _HTTP_STATUS),
    meaning="Requests answered, by operation id; an accepted WebSocket as 101, what fits no route as `other`.",
)
HTTP_SECONDS = Metric(
    name="rexecutor_http_request_seconds",
    kind=Kind.HISTOGRAM,
    labels=(_HTTP_OPERATION,),
    bounds=_UP_TO_A_POLL,
    meaning="From a request's head to the last of its answer, open WebSockets aside; a claim's wait is in it.",
)

METRICS = (
    DATABASE_UP,
    JOBS,
    OLDEST_READY,
    DRAINING,
    TASKS,
    CONNECTIONS,
    CREDITS,
    HELD_JOBS,
    ENQUEUED,
    CLAIMED,
    ACKNOWLEDGED,
    LOST,
    RESCUED,
    PICKUP,
    LATENESS,
    COMMIT_WRITES,
    COMMIT_SECONDS,
    HTTP_REQUESTS,
    HTTP_SECONDS,
)
