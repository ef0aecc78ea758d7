"""The service's operations as values: what is sent, whether it may be sent again, and how the answer is read.

Pure: the two clients only carry them there and back.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar
from urllib.parse import quote
from uuid import uuid4

import msgspec
from msgspec import UNSET, Struct, UnsetType

from .job import (
    Ack,
    EnqueuableJob,
    Enqueued,
    ExecutionError,
    ExecutorSummary,
    Job,
    JobChanges,
    LeaseRenewed,
    Page,
)
from .json_text import encode
from .pruning import PruneSpec
from .where import Where

Answer = TypeVar("Answer")
_PRUNE_SECONDS = 600.0
Headers = dict[str, str]


class Call(Struct, Generic[Answer], frozen=True, kw_only=True):
    """One request."""

    method: str
    path: str
    body: bytes | None
    decode: Callable[[bytes], Answer]
    headers: Headers = {}
    repeatable: bool = True
    """Whether sending it twice comes to the same as once; else it is repeated only if it cannot have arrived."""
    wait_seconds: float = 0.0
    """How long the service may take beyond the usual."""


class _Many(Struct):
    results: list[Enqueued]


class _Deleted(Struct):
    deleted: int


class _Claimed(Struct):
    jobs: list[Job]


class _Executors(Struct):
    executors: list[ExecutorSummary]


class _Mark(Struct, kw_only=True):
    next_scheduled_at: datetime | UnsetType = UNSET
    delay: timedelta | UnsetType = UNSET
    error: ExecutionError | UnsetType = UNSET
    fence: int | UnsetType = UNSET


class _Prune(PruneSpec, frozen=True, kw_only=True):
    dry_run: bool


_ack = msgspec.json.Decoder(Ack).decode
_enqueued = msgspec.json.Decoder(Enqueued).decode
_job: Callable[[bytes], Job] = msgspec.json.Decoder(Job).decode
_page = msgspec.json.Decoder(Page).decode
_renewed = msgspec.json.Decoder(LeaseRenewed).decode
_many = msgspec.json.Decoder(_Many).decode
_deleted = msgspec.json.Decoder(_Deleted).decode
_claimed = msgspec.json.Decoder(_Claimed).decode
_executors = msgspec.json.Decoder(_Executors).decode
_object = msgspec.json.Decoder(dict[str, Any]).decode


def enqueue(job: EnqueuableJob, *, idempotency_key: str | None = None) -> Call[Enqueued]:
    """Store a job; the key lets it be sent again without storing it twice."""
    return Call(method="POST", path="/v1/jobs", body=encode(job), headers=_keyed(idempotency_key), decode=_enqueued)


def enqueue_many(jobs: Sequence[EnqueuableJob], *, idempotency_key: str | None = None) -> Call[list[Enqueued]]:
    """Store all of the jobs or none."""
    return enqueue_texts([encode(job) for job in jobs], idempotency_key=idempotency_key)


def enqueue_texts(texts: Iterable[bytes], *, idempotency_key: str | None = None) -> Call[list[Enqueued]]:
    """Store all of the jobs whose JSON texts these are, or none."""
    return Call(
        method="POST",
        path="/v1/jobs/bulk",
        body=b'{"jobs":[%b]}' % b",".join(texts),
        headers=_keyed(idempotency_key),
        decode=lambda answer: _many(answer).results,
    )


def get_job(job_id: int) -> Call[Job]:
    """Return a job."""
    return Call(method="GET", path=f"/v1/jobs/{job_id:d}", body=None, decode=_job)


def update_job(job_id: int, changes: JobChanges, *, if_match: int | None = None) -> Call[Job]:
    """Change members of a job, if it has this version still."""
    return Call(
        method="PATCH",
        path=f"/v1/jobs/{job_id:d}",
        body=encode(changes),
        headers={} if if_match is None else {"If-Match": f'"{if_match:d}"'},
        decode=_job,
        # Under a version the repeat of what was done is refused; a delay would begin anew.
        repeatable=if_match is None and changes.delay is UNSET,
    )


def complete(job_id: int, *, fence: int | None) -> Call[Ack]:
    """Mark a job as completed."""
    return _mark(job_id, "complete", _Mark(fence=_given(fence)), repeatable=True)


def retry(
    job_id: int, next_scheduled_at: datetime | timedelta, error: ExecutionError, *, fence: int | None
) -> Call[Ack]:
    """Record the error and run the job again; without a fence a repeat would record it twice."""
    return _mark(job_id, "retry", _at(next_scheduled_at, fence, error), repeatable=fence is not None)


def discard(job_id: int, error: ExecutionError, *, fence: int | None) -> Call[Ack]:
    """Record the error and give the job up."""
    return _mark(job_id, "discard", _Mark(error=error, fence=_given(fence)), repeatable=True)


def cancel(job_id: int, error: ExecutionError, *, fence: int | None) -> Call[Ack]:
    """Record the error and cancel the job."""
    return _mark(job_id, "cancel", _Mark(error=error, fence=_given(fence)), repeatable=True)


def snooze(job_id: int, next_scheduled_at: datetime | timedelta, *, fence: int | None) -> Call[Ack]:
    """Run the job later; without a fence a repeat would take a second attempt back."""
    return _mark(job_id, "snooze", _at(next_scheduled_at, fence), repeatable=fence is not None)


def release(job_id: int, *, fence: int) -> Call[Ack]:
    """Give a job back that was not started."""
    return _mark(job_id, "release", _Mark(fence=fence), repeatable=True)


def renew_lease(job_id: int, *, fence: int, lease: timedelta | None) -> Call[LeaseRenewed]:
    """Hold a job for longer."""
    body = {"fence": fence} if lease is None else {"fence": fence, "lease": lease}
    return Call(method="POST", path=f"/v1/jobs/{job_id:d}/heartbeat", body=encode(body), decode=_renewed)


def rerun(job_id: int, *, force: bool, idempotency_key: str | None) -> Call[Ack]:
    """Make a job due now."""
    return Call(
        method="POST",
        path=f"/v1/jobs/{job_id:d}/rerun",
        body=encode({"force": force}),
        headers=_keyed(idempotency_key),
        decode=_ack,
    )


def prune(spec: PruneSpec, *, dry_run: bool) -> Call[int]:
    """Delete jobs, or tell how many it would be."""
    body = _Prune(spec.status, spec.prune_by, spec.executors, dry_run=dry_run)
    return Call(
        method="POST",
        path="/v1/jobs/prune",
        body=encode(body),
        decode=lambda answer: _deleted(answer).deleted,
        # It deletes batch after batch: a repeat would run beside the first, and count only what that left.
        wait_seconds=_PRUNE_SECONDS,
    )


def query(where: Where, *, limit: int, cursor: str | None) -> Call[Page]:
    """Return a page of jobs."""
    body = {"query": where.query, "limit": limit} | ({} if cursor is None else {"cursor": cursor})
    return Call(method="POST", path="/v1/jobs/query", body=encode(body), decode=_page)


def list_executors() -> Call[list[ExecutorSummary]]:
    """Return each executor that has jobs or connections."""
    return Call(method="GET", path="/v1/executors", body=None, decode=lambda answer: _executors(answer).executors)


def claim_jobs(
    executor: str, *, limit: int, wait: timedelta, worker: str | None, lease: timedelta | None
) -> Call[list[Job]]:
    """Claim jobs as soon as there is one. What a lost answer brought lapses with its lease."""
    body: dict[str, Any] = {"limit": limit, "wait": wait}
    if worker is not None:
        body["worker"] = worker
    if lease is not None:
        body["lease"] = lease
    return Call(
        method="POST",
        path=f"/v1/executors/{quote(executor, safe='')}/claim",
        body=encode(body),
        decode=lambda answer: _claimed(answer).jobs,
        wait_seconds=wait.total_seconds(),
    )


def service_info() -> Call[dict[str, Any]]:
    """Return what the service is and can do."""
    return Call(method="GET", path="/v1", body=None, decode=_object)


def readiness() -> Call[dict[str, Any]]:
    """Return how the service is."""
    return Call(method="GET", path="/readyz", body=None, decode=_object)


def _mark(job_id: int, verb: str, body: _Mark, *, repeatable: bool) -> Call[Ack]:
    return Call(
        method="POST", path=f"/v1/jobs/{job_id:d}/{verb}", body=encode(body), decode=_ack, repeatable=repeatable
    )


def _at(run_at: datetime | timedelta, fence: int | None, error: ExecutionError | UnsetType = UNSET) -> _Mark:
    if isinstance(run_at, timedelta):
        return _Mark(delay=run_at, error=error, fence=_given(fence))
    return _Mark(next_scheduled_at=run_at, error=error, fence=_given(fence))


def _given(fence: int | None) -> int | UnsetType:
    return UNSET if fence is None else fence


def _keyed(idempotency_key: str | None) -> Headers:
    return {"Idempotency-Key": uuid4().hex if idempotency_key is None else idempotency_key}
