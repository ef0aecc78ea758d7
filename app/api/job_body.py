"""The bodies that bring jobs and changes of jobs, and the domain's words for them."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ..domain.job import EnqueuableJob, JobChanges
from ..domain.json_text import NULL, JsonDocument
from ..domain.limits import MAX_KEY_CHARACTERS, Limits
from ..domain.status import JobStatus
from ..domain.uniqueness import Replace, ReplaceField, UniquenessCriteria
from .request_errors import ValidationFailed, invalid
from .wire_types import (
    Duration,
    ExecutorName,
    Int64,
    MaxAttempts,
    Payload,
    Priority,
    Tags,
    Time,
    check_payload,
    is_executor_name,
    read_document,
    read_duration,
    read_executor,
    read_run_at,
    read_string,
    read_tags,
)

Statuses = Annotated[list[JobStatus], Meta(min_length=1)]


class ReplaceBody(Struct, forbid_unknown_fields=True):
    """Replace members of the duplicate while its status is one of `for_statuses`."""

    replace: Annotated[list[ReplaceField], Meta(min_length=1)]
    for_statuses: (
        Annotated[list[JobStatus], Meta(min_length=1, description='Default: `["scheduled"]`.')] | UnsetType
    ) = UNSET


class UniquenessCriteriaBody(Struct, forbid_unknown_fields=True):
    """A stored job that meets every criterion given is a duplicate. At least one must be given."""

    key: (
        Annotated[
            Int64 | Annotated[str, Meta(max_length=MAX_KEY_CHARACTERS)],
            Meta(description='The stored job has this uniqueness key; `"7"` is not 7.'),
        ]
        | UnsetType
    ) = UNSET
    executor: Annotated[bool, Meta(description="The stored job has the same executor.")] = False
    duration: Duration | UnsetType = UNSET
    statuses: Annotated[Statuses, Meta(description='Default: `["scheduled"]`.')] | UnsetType = UNSET
    on_conflict: Literal["do_nothing"] | ReplaceBody = "do_nothing"


class EnqueuableJobBody(Struct, forbid_unknown_fields=True):
    """A job to enqueue."""

    executor: ExecutorName
    data: Payload = None
    metadata: Payload = None
    max_attempts: MaxAttempts = 5
    scheduled_at: Time | UnsetType = UNSET
    delay: Duration | UnsetType = UNSET
    tags: Tags = []
    priority: Priority = 0
    uniqueness_criteria: UniquenessCriteriaBody | UnsetType = UNSET


class EnqueuableJobsBody(Struct, forbid_unknown_fields=True):
    """Jobs to enqueue, all or none."""

    jobs: Annotated[list[EnqueuableJobBody], Meta(description="At most 10,000.")]


class JobChangesBody(Struct, forbid_unknown_fields=True):
    """What to change of a job; what is not there stays as it is."""

    data: Payload = UNSET
    metadata: Payload = UNSET
    max_attempts: MaxAttempts | UnsetType = UNSET
    scheduled_at: Time | UnsetType = UNSET
    delay: Duration | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET


ENQUEUE = msgspec.json.Decoder(EnqueuableJobBody)
ENQUEUE_MANY = msgspec.json.Decoder(EnqueuableJobsBody)
UPDATE = msgspec.json.Decoder(JobChangesBody)


def read_job(body: EnqueuableJobBody, limits: Limits) -> EnqueuableJob:
    """Return the job that a body describes. Raises ValidationFailed."""
    if not is_executor_name(body.executor):
        read_executor(body.executor, "/executor")
    data = NULL if body.data is None else read_document(body.data, "/data")
    metadata = NULL if body.metadata is None else read_document(body.metadata, "/metadata")
    check_payload(data, metadata, limits)
    return EnqueuableJob(
        executor=body.executor,
        data=data,
        metadata=metadata,
        max_attempts=body.max_attempts,
        scheduled_at=read_run_at(body.scheduled_at, body.delay, name="scheduled_at"),
        tags=read_tags(body.tags, limits, "/tags") if body.tags else (),
        priority=body.priority,
        uniqueness_criteria=None if body.uniqueness_criteria is UNSET else _read_criteria(body.uniqueness_criteria),
    )


def read_jobs(bodies: Sequence[EnqueuableJobBody], limits: Limits) -> list[EnqueuableJob]:
    """Return the jobs of a bulk, in their order. Raises ValidationFailed for the first that is wrong."""
    if len(bodies) > limits.bulk_jobs:
        raise invalid("/jobs", f"must be at most {limits.bulk_jobs} jobs")
    jobs: list[EnqueuableJob] = []
    try:
        jobs.extend(read_job(body, limits) for body in bodies)
    except ValidationFailed as error:
        raise error.under(f"/jobs/{len(jobs)}") from None
    return jobs


def read_changes(body: JobChangesBody, limits: Limits) -> JobChanges:
    """Return the changes that a body describes. Raises ValidationFailed."""
    data = _read_given(body.data, "/data")
    metadata = _read_given(body.metadata, "/metadata")
    check_payload(data, metadata, limits)
    return JobChanges(
        data=data,
        metadata=metadata,
        max_attempts=None if body.max_attempts is UNSET else body.max_attempts,
        scheduled_at=read_run_at(body.scheduled_at, body.delay, name="scheduled_at"),
        priority=None if body.priority is UNSET else body.priority,
        tags=None if body.tags is UNSET else read_tags(body.tags, limits, "/tags"),
    )


def _read_given(value: Any, pointer: str) -> JsonDocument | None:
    return None if value is UNSET else read_document(value, pointer)


def _read_criteria(body: UniquenessCriteriaBody) -> UniquenessCriteria:
    pointer = "/uniqueness_criteria"
    criteria = UniquenessCriteria(
        key=_read_key(body.key, f"{pointer}/key"),
        executor=body.executor,
        duration=None if body.duration is UNSET else read_duration(body.duration, f"{pointer}/duration"),
        statuses=None if body.statuses is UNSET else tuple(dict.fromkeys(body.statuses)),
        on_conflict=None if body.on_conflict == "do_nothing" else _read_replace(body.on_conflict),
    )
    if not criteria.constrains:
        raise invalid(pointer, "must have at least one of key, executor, duration and statuses")
    return criteria


def _read_key(key: str | int | UnsetType, pointer: str) -> str | int | None:
    if key is UNSET:
        return None
    return read_string(key, pointer) if isinstance(key, str) else key


def _read_replace(body: ReplaceBody) -> Replace:
    if body.for_statuses is UNSET:
        return Replace(frozenset(body.replace))
    return Replace(frozenset(body.replace), frozenset(body.for_statuses))
