"""`rexecutor executors`."""

from ..job import ExecutorSummary, JobStatus
from .service import HERE, Service
from .text import print_json, print_table, time_text

HEADINGS = ("EXECUTOR", *(status.upper() for status in JobStatus), "WORKERS", "OLDEST READY")
NOBODY = "no executor has jobs or workers"


def executors(*, service: Service = HERE) -> None:
    """List the executors, with their jobs by status.

    Shown is each that has jobs or workers. WORKERS counts their connections; OLDEST READY is when the job that has
    waited longest became due.
    """
    with service.client() as client:
        found = client.list_executors()
    if service.json:
        print_json({"executors": found})
    else:
        print_table(HEADINGS, [*map(row_of, found)], empty=NOBODY)


def row_of(summary: ExecutorSummary) -> tuple[object, ...]:
    """Return the cells of an executor."""
    counts = (summary.counts.get(status, 0) for status in JobStatus)
    return (summary.executor, *counts, summary.connections, time_text(summary.oldest_ready_at))
