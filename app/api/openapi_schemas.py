"""The schemas that OpenAPI shows: of bodies, made from their Structs; of answers, written down."""

from collections.abc import Iterable
from typing import Any

import msgspec

from ..domain.job import EnqueueOutcome
from ..domain.limits import MAX_INT64, MAX_UINT16
from ..domain.status import JobStatus
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
from .wire_types import EXECUTOR_PATTERN

Schema = dict[str, Any]

BODIES: tuple[type[msgspec.Struct], ...] = (
    EnqueuableJobBody,
    EnqueuableJobsBody,
    JobChangesBody,
    CompleteBody,
    RetryBody,
    DiscardBody,
    CancelBody,
    SnoozeBody,
    ReleaseBody,
    HeartbeatBody,
    RerunBody,
    PruneSpecBody,
    JobQueryBody,
    ClaimBody,
)

_TIME: Schema = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
ID: Schema = {"type": "integer", "format": "int64"}
COUNT: Schema = {"type": "integer", "format": "int64", "minimum": 0, "maximum": MAX_INT64}
_SMALL: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_UINT16}
STATUS: Schema = {"$ref": "#/components/schemas/JobStatus"}
STRINGS: Schema = {"type": "array", "items": {"type": "string"}}

_ONE_MEMBER: Schema = {"minProperties": 1, "maxProperties": 1}
_ONE_TIME: Schema = {"oneOf": [{"required": ["next_scheduled_at"]}, {"required": ["delay"]}]}
_NOT_TWO_TIMES: Schema = {"not": {"required": ["scheduled_at", "delay"]}}
# What a Struct cannot say of its members.
_BETWEEN_MEMBERS: dict[str, Schema] = {
    "EnqueuableJob": _NOT_TWO_TIMES,
    "JobChanges": _NOT_TWO_TIMES,
    "Retry": _ONE_TIME,
    "Snooze": _ONE_TIME,
    "PruneBy": _ONE_MEMBER,
    "PruneExecutors": _ONE_MEMBER,
    "UniquenessCriteria": {
        "anyOf": [
            *({"required": [name]} for name in ("key", "duration", "statuses")),
            {"required": ["executor"], "properties": {"executor": {"const": True}}},
        ]
    },
}


def ref(name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def component_name(body: type) -> str:
    """Return under which name a body's schema stands."""
    return body.__name__.removesuffix("Body")


def schemas() -> dict[str, Schema]:
    """Return all components, by name."""
    bodies = {name: schema | _BETWEEN_MEMBERS.get(name, {}) for name, schema in schemas_of(BODIES).items()}
    return dict(sorted((bodies | ANSWERS).items()))


def schemas_of(kinds: Iterable[type[msgspec.Struct]]) -> dict[str, Schema]:
    """Return the components that describe what is decoded into these kinds."""
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return {name.removesuffix("Body"): _renamed(schema) for name, schema in components.items()}


def _renamed(node: Any) -> Any:
    """Return the schema with its title and references under the names of components."""
    if isinstance(node, dict):
        return {key: _renamed(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_renamed(item) for item in node]
    if isinstance(node, str) and node.endswith("Body"):
        return node.removesuffix("Body")
    return node


def object_schema(properties: dict[str, Schema], description: str, *, optional: tuple[str, ...] = ()) -> Schema:
    """Return the schema of an object."""
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }


def _one_of(**operators: Schema) -> Schema:
    return {
        "description": "A tree of objects with one member each. Depth 32, 500 nodes and 10,000 list values at most.",
        "oneOf": [
            {"type": "object", "properties": {name: operand}, "required": [name], "additionalProperties": False}
            for name, operand in operators.items()
        ],
    }


ANSWERS: dict[str, Schema] = {
    "JobStatus": {"type": "string", "enum": [status.value for status in JobStatus]},
    "JobError": object_schema(
        {"attempt": _SMALL, "error_type": {"type": "string"}, "details": {"type": "string"}, "recorded_at": _TIME},
        "One recorded error: `panic`, `timeout`, `cancelled`, `lost`, or a type of the worker's own.",
    ),
    "Job": object_schema(
        {
            "id": ID,
            "executor": {"type": "string", "pattern": f"^{EXECUTOR_PATTERN}$"},
            "status": STATUS,
            "data": {"description": "Any JSON value."},
            "metadata": {"description": "Any JSON value."},
            "attempt": _SMALL | {"description": "How often the job was handed to a worker."},
            "max_attempts": _SMALL | {"minimum": 1},
            "priority": _SMALL,
            "tags": STRINGS,
            "errors": {"type": "array", "items": ref("JobError"), "maxItems": 50},
            "error_count": COUNT | {"description": "All errors ever recorded."},
            "inserted_at": _TIME,
            "scheduled_at": _TIME,
            "attempted_at": _TIME_OR_NULL,
            "completed_at": _TIME_OR_NULL,
            "cancelled_at": _TIME_OR_NULL,
            "discarded_at": _TIME_OR_NULL,
            "attempted_by": STRINGS | {"maxItems": 10},
            "uniqueness_key": {"type": ["string", "integer", "null"]},
            "fence": COUNT | {"description": "The fencing token: it rises whenever the job changes hands."},
            "lease_expires_at": _TIME_OR_NULL,
            "version": ID,
        },
        "A stored job.",
    ),
    "Query": _one_of(
        **{
            "and": {"type": "array", "items": ref("Query"), "description": "All hold; true when empty."},
            "or": {"type": "array", "items": ref("Query"), "description": "One holds; false when empty."},
            "not": ref("Query"),
        },
        executor_equal={"type": "string"},
        data_equals={"description": "Any JSON value; key order is ignored, numbers are compared by value."},
        metadata_equals={"description": "Any JSON value; key order is ignored, numbers are compared by value."},
        id_equals=ID,
        id_in={"type": "array", "items": ID, "description": "None when empty."},
        status_equal=STATUS,
        tags_all_of=STRINGS | {"description": "The job has them all."},
        tags_one_of=STRINGS | {"description": "None when empty."},
        scheduled_at_before=_TIME,
        scheduled_at_after=_TIME,
        scheduled_at_equal=_TIME,
    ),
    "Enqueued": object_schema(
        {"id": ID, "outcome": {"type": "string", "enum": [outcome.value for outcome in EnqueueOutcome]}},
        "The job that stands now, and what was done.",
    ),
    "EnqueuedMany": object_schema(
        {"results": {"type": "array", "items": ref("Enqueued")}}, "In the order of the jobs."
    ),
    "Ack": object_schema(
        {
            "id": ID,
            "status": STATUS,
            "duplicate": {
                "type": "boolean",
                "description": "Whether it had been made before; nothing was changed then.",
            },
        },
        "The job's status now.",
    ),
    "LeaseRenewed": object_schema({"id": ID, "lease_expires_at": _TIME}, "Until when the job is held."),
    "Pruned": object_schema({"deleted": COUNT}, "How many jobs were deleted, or would be."),
    "JobPage": object_schema(
        {"jobs": {"type": "array", "items": ref("Job")}, "next_cursor": {"type": ["string", "null"]}},
        "Highest id first; `next_cursor` is null on the last page.",
    ),
    "ClaimedJobs": object_schema(
        {"jobs": {"type": "array", "items": ref("Job")}}, "Executing jobs, each with its last three errors."
    ),
    "ExecutorSummary": object_schema(
        {
            "executor": {"type": "string"},
            "counts": object_schema({status.value: COUNT for status in JobStatus}, "Jobs by status."),
            "oldest_ready_at": _TIME_OR_NULL | {"description": "When the job that is due longest became due."},
            "connections": COUNT,
        },
        "One executor.",
    ),
    "Executors": object_schema({"executors": {"type": "array", "items": ref("ExecutorSummary")}}, "By name."),
    "Info": object_schema(
        {
            "protocol": {"type": "integer"},
            "version": {"type": "string"},
            "features": STRINGS,
            "limits": {"type": "object", "additionalProperties": {"type": "number"}},
        },
        "What the service is.",
    ),
    "Status": object_schema({"status": {"const": "ok"}}, "All is well."),
    "Problem": object_schema(
        {
            "type": {"type": "string", "description": "Where a page explains this kind of problem."},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "instance": {"type": "string", "description": "The request's id, as in `X-Request-Id`."},
            "job_id": ID,
            "current_status": STATUS,
            "current_version": ID,
            "limit_bytes": COUNT,
            "errors": {
                "type": "array",
                "items": object_schema(
                    {
                        "pointer": {"type": "string", "description": "A JSON pointer into the body."},
                        "message": {"type": "string"},
                    },
                    "One wrong value.",
                ),
            },
        },
        "A problem (RFC 9457).",
        optional=("detail", "job_id", "current_status", "current_version", "limit_bytes", "errors"),
    ),
}
