"""What the contract says that a service does, written down a second time: plainly, slowly, in memory.

Made from ``docs/contract.md`` alone, and free of the service's code. Instants and durations are microseconds. A call
that is refused raises Refused and has changed nothing.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import ANY

from tests.json_values import equal_by_value

READY = {"scheduled", "retryable"}
FINISHED = {"complete": "completed_at", "cancelled": "cancelled_at", "discarded": "discarded_at"}
STATUSES = [*READY, "executing", *FINISHED]
# The contract's table for calls without a fence: where the operation acts, and where it was made before.
ACTS = {*READY, "executing"}
MADE_BEFORE = {"complete": "complete", "discard": "discarded", "cancel": "cancelled"}
KEPT = 24 * 60 * 60 * 1_000_000


class Refused(Exception):
    """The call is answered with this problem."""

    def __init__(self, status: int, slug: str) -> None:
        super().__init__(status, slug)


@dataclass(frozen=True)
class Once:
    """What an Idempotency-Key makes of a call."""

    path: str
    key: str
    body: bytes


@dataclass
class ModelJob:
    """A job, as the wire shows it, and the little that it remembers besides."""

    id: int
    executor: str
    data: Any
    metadata: Any
    max_attempts: int
    priority: int
    tags: list[str]
    uniqueness_key: str | int | None
    inserted_at: int
    scheduled_at: int
    status: str = "scheduled"
    attempt: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    error_count: int = 0
    attempted_at: int | None = None
    ended_at: int | None = None
    attempted_by: list[str] = field(default_factory=list)
    fence: int = 0
    lease_expires_at: int | None = None
    version: int = 1
    refunded: bool = False
    last_fenced: tuple[int, str] | None = None

    def row(self) -> dict[str, Any]:
        """All members on the wire."""
        hidden = {"ended_at", "refunded", "last_fenced"}
        members = {name: deepcopy(value) for name, value in vars(self).items() if name not in hidden}
        return members | {name: self.ended_at if self.status == end else None for end, name in FINISHED.items()}


class Model:
    """A service, seen through its operations; ``now`` is its database's clock."""

    def __init__(self, *, now: int, lease: int, grace: int, payload_bytes: int, require_fence: bool) -> None:
        self.now, self.lease, self.grace = now, lease, grace
        self.payload_bytes, self.require_fence = payload_bytes, require_fence
        self.jobs: dict[int, ModelJob] = {}
        self.last_id = 0
        self.kept: dict[tuple[str, str], tuple[int, bytes, Any]] = {}
        """Until when, for which body, and the answer, by path and key."""
        self.replayed = False
        """Whether the latest call that may bear a key changed nothing and has the answer of the one before it."""

    def _once(self, once: Once | None, call: Callable[[], Any]) -> Any:
        """Make a call, or give the answer that is kept; a refusal is not."""
        self.replayed = False
        if once is None:
            return call()
        until, body, answer = self.kept.get((once.path, once.key), (0, b"", None))
        if self.now < until:
            if once.body != body:
                raise Refused(422, "idempotency-mismatch")
            self.replayed = True
            return answer
        answer = call()
        self.kept[once.path, once.key] = self.now + KEPT, once.body, answer
        return answer

    def enqueue_many(
        self, bodies: list[dict[str, Any]], ids: list[int], once: Once | None = None
    ) -> list[dict[str, Any]]:
        """All or nothing; ``ids`` are those that the service gave."""
        if any(not constrains(body["criteria"]) or self.too_large(body) for body in bodies):
            raise Refused(422, "validation-error")
        enqueued: list[dict[str, Any]] = self._once(once, lambda: self._enqueue_many(bodies, ids))
        return enqueued

    def _enqueue_many(self, bodies: list[dict[str, Any]], ids: list[int]) -> list[dict[str, Any]]:
        before = deepcopy(self.jobs), self.last_id
        try:
            return [self._enqueue(body, new_id) for body, new_id in zip(bodies, ids, strict=True)]
        except Refused:
            self.jobs, self.last_id = before
            raise

    def _enqueue(self, body: dict[str, Any], new_id: int) -> dict[str, Any]:
        criteria = body["criteria"]
        duplicates = [job for job in self.jobs.values() if criteria is not None and self._meets(job, criteria, body)]
        if duplicates:
            job = min(duplicates, key=lambda job: (abs(job.scheduled_at - body["scheduled_at"]), job.id))
            replace = criteria.get("on_conflict", "do_nothing")
            if replace == "do_nothing" or job.status not in replace.get("for_statuses", ["scheduled"]):
                return {"id": job.id, "outcome": "existing"}
            self._change(job, {name: body[name] for name in replace["replace"]})
            return {"id": job.id, "outcome": "replaced"}
        assert new_id > self.last_id, "ids rise"
        self.last_id = new_id
        members = {name: value for name, value in body.items() if name != "criteria"}
        key = None if criteria is None else criteria.get("key")
        self.jobs[new_id] = ModelJob(id=new_id, uniqueness_key=key, inserted_at=self.now, **deepcopy(members))
        return {"id": new_id, "outcome": "inserted"}

    def _meets(self, job: ModelJob, criteria: dict[str, Any], body: dict[str, Any]) -> bool:
        key, duration = criteria.get("key"), criteria.get("duration")
        return (
            (key is None or (type(key) is type(job.uniqueness_key) and key == job.uniqueness_key))
            and (not criteria.get("executor") or job.executor == body["executor"])
            and (duration is None or abs(job.scheduled_at - body["scheduled_at"]) <= duration)
            and job.status in criteria.get("statuses", ["scheduled"])
        )

    def _change(self, job: ModelJob, changes: dict[str, Any]) -> None:
        if self.too_large({"data": job.data, "metadata": job.metadata} | changes):
            raise Refused(422, "validation-error")
        for name, value in changes.items():
            setattr(job, name, deepcopy(value))
        job.max_attempts = max(job.max_attempts, job.attempt) if "max_attempts" in changes else job.max_attempts
        job.version += 1

    def too_large(self, body: dict[str, Any]) -> bool:
        """Only the machine's large value is ever near the limit."""
        return sum(len(text) for text in (body.get("data"), body.get("metadata")) if isinstance(text, str)) > (
            self.payload_bytes
        )

    def get(self, job_id: int) -> ModelJob:
        if job_id not in self.jobs:
            raise Refused(404, "job-not-found")
        return self.jobs[job_id]

    def claim(self, executor: str, limit: int, worker: str | None, lease: int | None) -> list[dict[str, Any]]:
        """Hand out the best due jobs; what goes to workers bears the last three errors."""
        due = [
            job
            for job in self.jobs.values()
            if job.executor == executor and job.status in READY and job.scheduled_at <= self.now
        ]
        handed = sorted(due, key=lambda job: (job.priority, job.scheduled_at, job.id))[:limit]
        for job in handed:
            job.status, job.refunded = "executing", False
            job.attempt, job.fence, job.version = min(job.attempt + 1, 65_535), job.fence + 1, job.version + 1
            job.attempted_at = self.now
            job.attempted_by = [*job.attempted_by, worker or ANY][-10:]
            job.lease_expires_at = self.now + (self.lease if lease is None else lease)
        return [job.row() | {"errors": job.row()["errors"][-3:]} for job in handed]

    def acknowledge(
        self, operation: str, job_id: int, fence: int | None, at: int | None, error: dict[str, str] | None
    ) -> dict[str, Any]:
        """The contract's table."""
        job = self.get(job_id)
        holds = job.status == "executing" and fence == job.fence
        if fence is None:
            if self.require_fence and job.status == "executing" and operation != "cancel":
                raise Refused(428, "fence-required")
            if job.status == MADE_BEFORE.get(operation):
                return {"id": job_id, "status": job.status, "duplicate": True}
            if job.status not in ACTS:
                raise Refused(409, "invalid-transition")
        elif not holds:
            if job.last_fenced == (fence, operation):
                return {"id": job_id, "status": job.status, "duplicate": True}
            raise Refused(409, "stale-fence")
        if holds:
            job.last_fenced = (job.fence, operation)
        elif job.status == "executing":
            job.fence += 1
        if error is not None:
            self._record(
                job, error["error_type"].replace("\0", "\ufffd")[:128], error["message"].replace("\0", "\ufffd")
            )
        if at is not None:
            job.scheduled_at = at
        if operation in {"snooze", "release"} and not job.refunded:
            job.attempt, job.refunded = max(job.attempt - 1, 0), True
        self._move(job, MADE_BEFORE.get(operation) or self._waiting(job, operation))
        return {"id": job_id, "status": job.status, "duplicate": False}

    def _waiting(self, job: ModelJob, operation: str) -> str:
        return "scheduled" if operation != "retry" and job.attempt == 0 else "retryable"

    def _record(self, job: ModelJob, error_type: str, details: Any) -> None:
        error = {"attempt": job.attempt, "error_type": error_type, "details": details, "recorded_at": self.now}
        job.error_count += 1
        job.errors = [*job.errors, error] if len(job.errors) < 50 else [job.errors[0], *job.errors[2:], error]

    def _move(self, job: ModelJob, status: str) -> None:
        job.status, job.lease_expires_at = status, None
        job.ended_at = self.now if status in FINISHED else None
        job.version += 1

    def renew_lease(self, job_id: int, fence: int, lease: int | None) -> dict[str, Any]:
        job = self.get(job_id)
        if job.status != "executing" or job.fence != fence:
            raise Refused(409, "stale-fence")
        job.lease_expires_at = self.now + (self.lease if lease is None else lease)
        return {"id": job_id, "lease_expires_at": job.lease_expires_at}

    def rerun(self, job_id: int, *, force: bool, once: Once | None = None) -> dict[str, Any]:
        ack: dict[str, Any] = self._once(once, lambda: self._rerun(job_id, force=force))
        return ack

    def _rerun(self, job_id: int, *, force: bool) -> dict[str, Any]:
        job = self.get(job_id)
        if job.status == "executing":
            if not force:
                raise Refused(409, "job-executing")
            job.fence += 1
        job.scheduled_at, job.max_attempts = self.now, min(job.max_attempts + 1, 65_535)
        self._move(job, "scheduled" if job.attempt <= 1 else "retryable")
        return {"id": job_id, "status": job.status, "duplicate": False}

    def update(self, job_id: int, changes: dict[str, Any], versions: list[int] | None) -> dict[str, Any]:
        if self.too_large(changes):
            raise Refused(422, "validation-error")
        job = self.get(job_id)
        if versions is not None and job.version not in versions:
            raise Refused(412, "version-mismatch")
        if changes:
            self._change(job, changes)
        return job.row()

    def rescue(self) -> int:
        """Take back the jobs whose leases ran out, once the living have had their grace."""
        lost = [
            job
            for job in self.jobs.values()
            if job.lease_expires_at is not None and job.lease_expires_at + self.grace <= self.now
        ]
        for job in lost:
            job.fence += 1
            self._record(job, "lost", ANY)
            is_last = job.attempt >= job.max_attempts
            job.scheduled_at = job.scheduled_at if is_last else self.now
            self._move(job, "discarded" if is_last else "retryable")
        return len(lost)

    def prune(self, spec: dict[str, Any]) -> int:
        status, by, executors = spec["status"], spec["prune_by"], spec.get("executors", {"except": []})
        if status == "executing":
            raise Refused(422, "validation-error")
        matched = [
            job
            for job in sorted(self.jobs.values(), key=lambda job: (job.scheduled_at, job.id))
            if job.status == status
            and (job.executor in executors["only"] if "only" in executors else job.executor not in executors["except"])
        ]
        if status in FINISHED:
            kept = max(len(matched) - by["max_length"], 0) if "max_length" in by else None
            doomed = matched[:kept] if kept is not None else []
            doomed += [job for job in matched if "max_age" in by and job.scheduled_at < self.now - by["max_age"]]
        else:
            doomed = matched[by["max_length"] :] if "max_length" in by else []
            doomed += [job for job in matched if "max_age" in by and job.scheduled_at > self.now + by["max_age"]]
        if not spec.get("dry_run"):
            for job in doomed:
                del self.jobs[job.id]
        return len(doomed)

    def query(self, tree: dict[str, Any]) -> list[dict[str, Any]]:
        """The jobs that match, highest id first."""
        return [job.row() for job in sorted(self.jobs.values(), key=lambda job: -job.id) if matches(tree, job)]

    def list_executors(self) -> list[dict[str, Any]]:
        return [
            {
                "executor": executor,
                "counts": {status: sum(job.status == status for job in jobs) for status in STATUSES},
                "oldest_ready_at": min(
                    (job.scheduled_at for job in jobs if job.status in READY and job.scheduled_at <= self.now),
                    default=None,
                ),
                "connections": 0,
            }
            for executor in sorted({job.executor for job in self.jobs.values()})
            if (jobs := [job for job in self.jobs.values() if job.executor == executor])
        ]


def constrains(criteria: dict[str, Any] | None) -> bool:
    """Whether criteria, if there are any, constrain anything."""
    return criteria is None or bool(criteria.get("executor")) or bool({"key", "duration", "statuses"} & criteria.keys())


def matches(tree: dict[str, Any], job: ModelJob) -> bool:
    """Whether a job meets a query; instants in the tree are microseconds."""
    ((name, operand),) = tree.items()
    match name:
        case "and":
            return all(matches(each, job) for each in operand)
        case "or":
            return any(matches(each, job) for each in operand)
        case "not":
            return not matches(operand, job)
        case "data_equals" | "metadata_equals":
            return equal_by_value(getattr(job, name.removesuffix("_equals")), operand)
        case "id_in":
            return job.id in operand
        case "tags_all_of":
            return set(operand) <= set(job.tags)
        case "tags_one_of":
            return bool(set(operand) & set(job.tags))
        case "scheduled_at_before":
            return job.scheduled_at < operand
        case "scheduled_at_after":
            return job.scheduled_at > operand
        case "executor_equal" | "id_equals" | "status_equal" | "scheduled_at_equal":
            return bool(getattr(job, name.removesuffix("_equals").removesuffix("_equal")) == operand)
    raise AssertionError(name)
