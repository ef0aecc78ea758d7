"""The contract's JSON from and to the domain, as a client of the service sees it."""

from datetime import timedelta
from typing import Any

from app.domain.errors import (
    BackendError,
    FenceRequired,
    InvalidTransition,
    JobExecuting,
    JobNotFound,
    NotReady,
    QueryTooComplex,
    StaleFence,
    VersionMismatch,
)
from app.domain.instant import Instant, RunAt, format_instant, parse_instant
from app.domain.job import EnqueuableJob, Job, JobChanges, JobError
from app.domain.json_text import JsonText, json_document, json_value
from app.domain.status import JobStatus
from app.domain.uniqueness import UniquenessCriteria

Json = dict[str, Any]

_REFUSALS = {
    "invalid-transition": InvalidTransition,
    "stale-fence": StaleFence,
    "job-executing": JobExecuting,
    "fence-required": FenceRequired,
}


class UnexpectedProblem(BackendError):
    """An answer that no method of the contract promises."""


def error_of(problem: Json, *, job_id: int = 0) -> BackendError:
    """The domain's error behind a problem."""
    slug = problem["type"].removeprefix("/problems/")
    job_id = problem.get("job_id", job_id)
    if slug in _REFUSALS:
        return _REFUSALS[slug](job_id, JobStatus(problem["current_status"]))
    match slug:
        case "job-not-found":
            return JobNotFound(job_id)
        case "version-mismatch":
            return VersionMismatch(job_id, problem.get("version", 0))
        case "query-too-complex":
            return QueryTooComplex(problem["detail"])
        case "not-ready":
            return NotReady(problem["detail"])
    return UnexpectedProblem(problem)


def job_of(json: Json) -> Job:
    """A job of the domain; checks that of the end times only the one that fits the status is set."""
    status = JobStatus(json["status"])
    ends = {name: json[f"{name}_at"] for name in ("completed", "cancelled", "discarded")}
    fitting = {"complete": "completed"}.get(status, status.value)
    assert {name for name, end in ends.items() if end is not None} == ({fitting} & ends.keys()), json
    return Job(
        id=json["id"],
        executor=json["executor"],
        status=status,
        data=_text(json["data"]),
        metadata=_text(json["metadata"]),
        attempt=json["attempt"],
        max_attempts=json["max_attempts"],
        priority=json["priority"],
        tags=_text(json["tags"]),
        errors=[
            JobError(error["attempt"], error["error_type"], error["details"], parse_instant(error["recorded_at"]))
            for error in json["errors"]
        ],
        error_count=json["error_count"],
        inserted_at=parse_instant(json["inserted_at"]),
        scheduled_at=parse_instant(json["scheduled_at"]),
        attempted_at=_instant(json["attempted_at"]),
        finished_at=_instant(ends.get(fitting)),
        attempted_by=_text(json["attempted_by"]),
        uniqueness_key=None if json["uniqueness_key"] is None else _text(json["uniqueness_key"]),
        fence=json["fence"],
        lease_expires_at=_instant(json["lease_expires_at"]),
        version=json["version"],
    )


def enqueuable_json(job: EnqueuableJob) -> Json:
    json: Json = {
        "executor": job.executor,
        "data": json_value(job.data.text),
        "metadata": json_value(job.metadata.text),
        "max_attempts": job.max_attempts,
        "tags": job.tags,
        "priority": job.priority,
    }
    if job.scheduled_at is not None:
        json |= run_at_json(job.scheduled_at, "scheduled_at")
    if job.uniqueness_criteria is not None:
        json["uniqueness_criteria"] = _criteria_json(job.uniqueness_criteria)
    return json


def changes_json(changes: JobChanges) -> Json:
    json: Json = {
        name: getattr(changes, name)
        for name in ("max_attempts", "priority", "tags")
        if getattr(changes, name) is not None
    }
    if changes.data is not None:
        json["data"] = json_value(changes.data.text)
    if changes.metadata is not None:
        json["metadata"] = json_value(changes.metadata.text)
    if changes.scheduled_at is not None:
        json |= run_at_json(changes.scheduled_at, "scheduled_at")
    return json


def run_at_json(run_at: RunAt, name: str) -> Json:
    """A time to run: an instant under its name, or a delay."""
    if isinstance(run_at, timedelta):
        return {"delay": _duration(run_at)}
    return {name: format_instant(run_at)}


def _criteria_json(criteria: UniquenessCriteria) -> Json:
    json: Json = {"executor": criteria.executor}
    if criteria.key is not None:
        json["key"] = criteria.key
    if criteria.duration is not None:
        json["duration"] = _duration(criteria.duration)
    if criteria.statuses is not None:
        json["statuses"] = criteria.statuses
    if criteria.on_conflict is not None:
        json["on_conflict"] = {
            "replace": sorted(criteria.on_conflict.fields),
            "for_statuses": sorted(criteria.on_conflict.for_statuses),
        }
    return json


def _duration(duration: timedelta) -> str:
    seconds, microseconds = divmod(duration // timedelta(microseconds=1), 1_000_000)
    return f"PT{seconds}.{microseconds:06d}S"


def _text(value: Any) -> JsonText:
    return json_document(value).text


def _instant(text: str | None) -> Instant | None:
    return None if text is None else parse_instant(text)
