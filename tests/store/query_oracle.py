"""What a query finds, worked out in memory, job by job."""

from collections.abc import Iterable
from typing import assert_never

from app.domain.job import Job
from app.domain.json_text import json_value
from app.domain.query import (
    And,
    DataEquals,
    ExecutorEqual,
    IdEquals,
    IdIn,
    MetadataEquals,
    Not,
    Or,
    Query,
    ScheduledAtAfter,
    ScheduledAtBefore,
    ScheduledAtEqual,
    StatusEqual,
    TagsAllOf,
    TagsOneOf,
)
from tests.json_values import equal_by_value


def found_by(query: Query, jobs: Iterable[Job]) -> list[int]:
    """The ids of the jobs that match, highest first."""
    return sorted((job.id for job in jobs if matches(query, job)), reverse=True)


def matches(query: Query, job: Job) -> bool:
    match query:
        case And(queries):
            return all(matches(each, job) for each in queries)
        case Or(queries):
            return any(matches(each, job) for each in queries)
        case Not(inner):
            return not matches(inner, job)
        case ExecutorEqual(executor):
            return job.executor == executor
        case DataEquals(canonical):
            return equal_by_value(json_value(job.data), json_value(canonical))
        case MetadataEquals(canonical):
            return equal_by_value(json_value(job.metadata), json_value(canonical))
        case IdEquals(job_id):
            return job.id == job_id
        case IdIn(ids):
            return job.id in ids
        case StatusEqual(status):
            return job.status is status
        case TagsAllOf(tags):
            return set(tags) <= set(json_value(job.tags))
        case TagsOneOf(tags):
            return bool(set(tags) & set(json_value(job.tags)))
        case ScheduledAtBefore(instant):
            return job.scheduled_at < instant
        case ScheduledAtAfter(instant):
            return job.scheduled_at > instant
        case ScheduledAtEqual(instant):
            return job.scheduled_at == instant
        case other:
            assert_never(other)
