"""What OpenAPI says of each operation beside its route's docstring: ONE table, by operation id."""

from typing import Any

from msgspec import Struct

from .job_body import EnqueuableJobBody, EnqueuableJobsBody, JobChangesBody
from .mark_body import (
    CancelBody,
    ClaimBody,
    CompleteBody,
    DiscardBody,
    HeartbeatBody,
    ReleaseBody,
    RerunBody,
    RetryBody,
    SnoozeBody,
)
from .prune_body import PruneSpecBody
from .query_body import JobQueryBody


class Body(Struct, frozen=True):
    """A request's body: its kind, examples by name, and whether it may be left out."""

    kind: type[Struct]
    examples: dict[str, Any]
    is_optional: bool = False


class Answer(Struct, frozen=True):
    """An answer that is no problem."""

    description: str
    schema: str | None = None
    example: Any = None
    headers: tuple[str, ...] = ()
    media_type: str | None = "application/json"


class Operation(Struct, frozen=True, kw_only=True):
    """One operation: its body, answers by status, parameters and the problems of its own."""

    answers: dict[int, Answer]
    body: Body | None = None
    parameters: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


JOB_EXAMPLE: dict[str, Any] = {
    "id": 42,
    "executor": "send_email",
    "status": "executing",
    "data": {"to": "ada@example.org"},
    "metadata": None,
    "attempt": 2,
    "max_attempts": 5,
    "priority": 0,
    "tags": ["billing"],
    "errors": [
        {
            "attempt": 1,
            "error_type": "timeout",
            "details": "no answer within 10 s",
            "recorded_at": "2030-01-01T08:00:11.002913Z",
        }
    ],
    "error_count": 1,
    "inserted_at": "2030-01-01T08:00:00.000000Z",
    "scheduled_at": "2030-01-01T08:01:00.000000Z",
    "attempted_at": "2030-01-01T08:01:00.000812Z",
    "completed_at": None,
    "cancelled_at": None,
    "discarded_at": None,
    "attempted_by": ["worker-1", "worker-2"],
    "uniqueness_key": None,
    "fence": 2,
    "lease_expires_at": "2030-01-01T08:01:30.000812Z",
    "version": 4,
}
_ERROR = {"error_type": "timeout", "message": "no answer within 10 s"}
_WRITES = ("database-unavailable", "insufficient-storage", "not-ready")
_READS = ("database-unavailable", "not-ready")
_BODY = ("malformed-json", "forbidden", "body-too-large", "unsupported-media-type", "validation-error")
_REPEATABLE = ("idempotency-in-progress", "idempotency-mismatch")
_MARK = (*_BODY, "job-not-found", "invalid-transition", "stale-fence", *_WRITES)


def _ack(status: str, *headers: str) -> dict[int, Answer]:
    return {200: Answer("The job's status now.", "Ack", {"id": 42, "status": status, "duplicate": False}, headers)}


def _mark(body: Body, status: str, *problems: str) -> Operation:
    return Operation(parameters=("id",), body=body, answers=_ack(status), problems=(*_MARK, *problems))


_JOB = {200: Answer("The job.", "Job", JOB_EXAMPLE, headers=("ETag",))}

OPERATIONS: dict[str, Operation] = {
    "enqueue": Operation(
        parameters=("Idempotency-Key",),
        body=Body(
            EnqueuableJobBody,
            {
                "now": {"executor": "send_email", "data": {"to": "ada@example.org"}},
                "later": {"executor": "send_email", "data": {"to": "ada@example.org"}, "delay": "PT2M", "priority": 10},
                "unique": {
                    "executor": "refresh_report",
                    "data": {"report": 7},
                    "uniqueness_criteria": {
                        "key": "report-7",
                        "executor": True,
                        "statuses": ["scheduled", "executing"],
                        "on_conflict": {"replace": ["data", "scheduled_at"]},
                    },
                },
            },
        ),
        answers={
            201: Answer(
                "The job is stored.",
                "Enqueued",
                {"id": 42, "outcome": "inserted"},
                headers=("Location", "Idempotency-Replayed"),
            ),
            200: Answer(
                "A duplicate stands.",
                "Enqueued",
                {"id": 17, "outcome": "existing"},
                headers=("Location", "Idempotency-Replayed"),
            ),
        },
        problems=(*_BODY, *_REPEATABLE, *_WRITES),
    ),
    "enqueue_many": Operation(
        parameters=("Idempotency-Key",),
        body=Body(
            EnqueuableJobsBody,
            {"two": {"jobs": [{"executor": "send_email", "data": 1}, {"executor": "send_email", "data": 2}]}},
        ),
        answers={
            200: Answer(
                "All jobs are stored.",
                "EnqueuedMany",
                {"results": [{"id": 42, "outcome": "inserted"}, {"id": 43, "outcome": "inserted"}]},
                headers=("Idempotency-Replayed",),
            )
        },
        problems=(*_BODY, *_REPEATABLE, *_WRITES),
    ),
    "get_job": Operation(parameters=("id",), answers=_JOB, problems=("job-not-found", "validation-error", *_READS)),
    "update_job": Operation(
        parameters=("id", "If-Match"),
        body=Body(
            JobChangesBody,
            {
                "sooner": {"scheduled_at": "2030-01-01T07:00:00Z", "priority": 0},
                "tags": {"tags": ["billing", "urgent"]},
            },
            is_optional=True,
        ),
        answers=_JOB,
        problems=(*_BODY, "job-not-found", "version-mismatch", *_WRITES),
    ),
    "rerun_job": Operation(
        parameters=("id", "Idempotency-Key"),
        body=Body(RerunBody, {"rerun": {}, "force": {"force": True}}, is_optional=True),
        answers=_ack("retryable", "Idempotency-Replayed"),
        problems=(*_BODY, "job-not-found", "job-executing", *_REPEATABLE, *_WRITES),
    ),
    "prune_jobs": Operation(
        body=Body(
            PruneSpecBody,
            {
                "age": {"status": "complete", "prune_by": {"max_age": "P7D"}},
                "number": {
                    "status": "discarded",
                    "prune_by": {"max_length": 1000},
                    "executors": {"only": ["send_email"]},
                    "dry_run": True,
                },
            },
        ),
        answers={200: Answer("How many jobs were deleted, or would be.", "Pruned", {"deleted": 128})},
        problems=(*_BODY, *_WRITES),
    ),
    "query": Operation(
        body=Body(
            JobQueryBody,
            {
                "discarded": {"query": {"status_equal": "discarded"}, "limit": 20},
                "tree": {
                    "query": {
                        "and": [
                            {"executor_equal": "send_email"},
                            {"not": {"status_equal": "complete"}},
                            {"or": [{"tags_all_of": ["billing"]}, {"data_equals": {"to": "ada@example.org"}}]},
                        ]
                    }
                },
            },
        ),
        answers={200: Answer("A page of jobs.", "JobPage", {"jobs": [JOB_EXAMPLE], "next_cursor": None})},
        problems=(*_BODY, "query-too-complex", *_READS),
    ),
    "mark_job_complete": _mark(
        Body(CompleteBody, {"worker": {"fence": 2}, "operator": {}}, is_optional=True), "complete", "fence-required"
    ),
    "mark_job_retryable": _mark(
        Body(
            RetryBody,
            {
                "delay": {"delay": "PT30S", "error": _ERROR, "fence": 2},
                "time": {"next_scheduled_at": "2030-01-01T08:05:00Z", "error": _ERROR, "fence": 2},
            },
        ),
        "retryable",
        "fence-required",
    ),
    "mark_job_discarded": _mark(
        Body(DiscardBody, {"worker": {"error": _ERROR, "fence": 2}}), "discarded", "fence-required"
    ),
    "mark_job_cancelled": _mark(
        Body(CancelBody, {"operator": {"error": {"error_type": "cancelled", "message": "no longer wanted"}}}),
        "cancelled",
    ),
    "mark_job_snoozed": _mark(Body(SnoozeBody, {"delay": {"delay": 60, "fence": 2}}), "retryable", "fence-required"),
    "release_job": Operation(
        parameters=("id",),
        body=Body(ReleaseBody, {"worker": {"fence": 2}}),
        answers=_ack("retryable"),
        problems=(*_BODY, "job-not-found", "stale-fence", *_WRITES),
    ),
    "renew_lease": Operation(
        parameters=("id",),
        body=Body(HeartbeatBody, {"worker": {"fence": 2, "lease": "PT5M"}}),
        answers={
            200: Answer(
                "The job is held.", "LeaseRenewed", {"id": 42, "lease_expires_at": "2030-01-01T08:06:00.000812Z"}
            )
        },
        problems=(*_BODY, "job-not-found", "stale-fence", *_WRITES),
    ),
    "list_executors": Operation(
        answers={
            200: Answer(
                "All executors.",
                "Executors",
                {
                    "executors": [
                        {
                            "executor": "send_email",
                            "counts": {
                                "scheduled": 3,
                                "executing": 1,
                                "retryable": 0,
                                "complete": 812,
                                "cancelled": 0,
                                "discarded": 2,
                            },
                            "oldest_ready_at": "2030-01-01T08:00:59.120000Z",
                            "connections": 2,
                        }
                    ]
                },
            )
        },
        problems=_READS,
    ),
    "subscribe_ready_jobs": Operation(
        parameters=("executor", "worker", "prefetch", "batch", "resume"),
        answers={101: Answer("The WebSocket is open; its first message is `hello`.", media_type=None)},
        problems=("forbidden", "not-found", "validation-error", *_READS),
    ),
    "claim_jobs": Operation(
        parameters=("executor",),
        body=Body(
            ClaimBody,
            {"one": {}, "wait": {"limit": 10, "wait": "PT30S", "worker": "worker-2", "lease": "PT5M"}},
            is_optional=True,
        ),
        answers={200: Answer("The jobs, or none after the wait.", "ClaimedJobs", {"jobs": [JOB_EXAMPLE]})},
        problems=(*_BODY, *_WRITES),
    ),
    "get_info": Operation(
        answers={
            200: Answer(
                "What the service is.",
                "Info",
                {
                    "protocol": 1,
                    "version": "0.1.0",
                    "features": ["bulk", "claim"],
                    "limits": {"request_bytes": 1048576},
                },
            )
        }
    ),
    "get_liveness": Operation(answers={200: Answer("The process lives.", "Status", {"status": "ok"})}),
    "get_readiness": Operation(
        answers={200: Answer("The server is ready.", "Status", {"status": "ok"})}, problems=("not-ready",)
    ),
    "get_metrics": Operation(
        answers={
            200: Answer(
                "The metrics.",
                example='rexecutor_jobs{executor="send_email",status="scheduled"} 3.0\n',
                media_type="text/plain",
            )
        },
        problems=("not-ready",),
    ),
    "get_problem": Operation(
        parameters=("slug",),
        answers={200: Answer("The page.", media_type="text/html")},
        problems=("not-found",),
    ),
}
