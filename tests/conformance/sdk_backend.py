"""The Python client as a ``Backend``: only what tells the server's types from the client's stands between."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import and_, or_
from types import TracebackType
from typing import Self, TypeVar, assert_never

import msgspec

import rexecutor_client as sdk
from app.domain.instant import RunAt
from app.domain.job import Ack, EnqueuableJob, Enqueued, EnqueueOutcome, ExecutionError, Job, JobChanges, Page
from app.domain.json_text import json_value
from app.domain.lifecycle import RevokeReason
from app.domain.pruning import MaxAge, MaxLength, Only, PruneSpec
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
from app.domain.status import JobStatus
from app.domain.stream import Drain, Event, Hello, Revoke
from rexecutor_client.events import Drain as SdkDrain
from rexecutor_client.events import Revoke as SdkRevoke
from rexecutor_client.subscription import Subscription as SdkSubscription
from tests.conformance.wire_json import changes_json, enqueuable_json, error_of, job_of

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SdkBackend:
    """A service at a URL, seen through ``AsyncClient``."""

    def __init__(self, url: str) -> None:
        """Speak to the service at this URL, such as ``http://127.0.0.1:8000``."""
        self.url = url
        self._client = sdk.AsyncClient(url, timeout=30)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.close()

    async def subscribe_ready_jobs(
        self, executor: str, *, worker: str | None = None, prefetch: int = 0, resume: str | None = None
    ) -> "SdkStream":
        with Translated():
            return SdkStream(
                await self._client.subscribe_ready_jobs(executor, worker=worker, prefetch=prefetch, resume=resume)
            )

    async def enqueue(self, job: EnqueuableJob) -> Enqueued:
        with Translated():
            enqueued = await self._client.enqueue(msgspec.convert(enqueuable_json(job), sdk.EnqueuableJob))
        return Enqueued(enqueued.id, EnqueueOutcome(enqueued.outcome))

    async def mark_job_complete(self, job_id: int, *, fence: int | None = None) -> Ack:
        with Translated():
            return _ack(await self._client.mark_job_complete(job_id, fence=fence))

    async def mark_job_retryable(
        self, job_id: int, next_scheduled_at: RunAt, error: ExecutionError, *, fence: int | None = None
    ) -> Ack:
        with Translated():
            return _ack(
                await self._client.mark_job_retryable(job_id, _time(next_scheduled_at), _error(error), fence=fence)
            )

    async def mark_job_discarded(self, job_id: int, error: ExecutionError, *, fence: int | None = None) -> Ack:
        with Translated():
            return _ack(await self._client.mark_job_discarded(job_id, _error(error), fence=fence))

    async def mark_job_cancelled(self, job_id: int, error: ExecutionError, *, fence: int | None = None) -> Ack:
        with Translated():
            return _ack(await self._client.mark_job_cancelled(job_id, _error(error), fence=fence))

    async def mark_job_snoozed(self, job_id: int, next_scheduled_at: RunAt, *, fence: int | None = None) -> Ack:
        with Translated():
            return _ack(await self._client.mark_job_snoozed(job_id, _time(next_scheduled_at), fence=fence))

    async def prune_jobs(self, spec: PruneSpec, *, dry_run: bool = False) -> int:
        with Translated():
            return await self._client.prune_jobs(_spec(spec), dry_run=dry_run)

    async def rerun_job(self, job_id: int, *, force: bool = False) -> Ack:
        with Translated():
            return _ack(await self._client.rerun_job(job_id, force=force))

    async def update_job(self, job_id: int, changes: JobChanges, *, if_match: frozenset[int] | None = None) -> Job:
        assert if_match is None, "the client takes one version, the contract's suite none"
        with Translated():
            return _job(await self._client.update_job(job_id, msgspec.convert(changes_json(changes), sdk.JobChanges)))

    async def query(self, query: Query, *, limit: int = 100, before: int | None = None) -> Page:
        assert before is None, "cursors are opaque to clients"
        with Translated():
            page = await self._client.query(_where(query), limit=limit)
        return Page([_job(job) for job in page.jobs], None)


class SdkStream:
    """One of the client's subscriptions."""

    def __init__(self, subscription: SdkSubscription) -> None:
        """Wrap it."""
        self._subscription = subscription
        hello = subscription.hello
        self.hello = Hello(
            session=hello.session,
            resume=hello.resume,
            resumed=hello.resumed,
            held=[(held.id, held.fence) for held in hello.held],
            credits=hello.credits,
            lease_seconds=hello.lease,
        )

    async def next(self) -> list[Event]:
        return [_event(event) for event in await self._subscription.next()]

    def request(self, credits: int) -> None:
        self._subscription.request(credits)

    def stop(self, reference: str | None = None) -> None:
        assert reference is None, "the client awaits the result of a stop itself"
        self._subscription.stop()

    def acknowledging(self) -> None:
        """Nothing: acknowledgements go by REST here."""

    def confirm(self) -> None:
        """Nothing: the server hears it."""

    def alive(self) -> None:
        self._subscription.alive()

    async def close(self) -> None:
        await self._subscription.close()

    async def __aiter__(self) -> AsyncIterator[Job]:
        async for job in self._subscription:
            yield _job(job)


class Translated:
    """Raises the domain's error for a problem of the client's."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if isinstance(error, sdk.Problem):
            raise error_of(error.document) from error


def _event(event: sdk.Job | SdkRevoke | SdkDrain) -> Event:
    match event:
        case sdk.Job():
            return _job(event)
        case SdkRevoke(id, fence, reason):
            return Revoke(id, fence, RevokeReason(reason))
        case SdkDrain():
            return Drain()


def _job(job: sdk.Job) -> Job:
    return job_of(msgspec.to_builtins(job))


def _ack(ack: sdk.Ack) -> Ack:
    return Ack(ack.id, JobStatus(ack.status), ack.duplicate)


def _error(error: ExecutionError) -> sdk.ExecutionError:
    return sdk.ExecutionError(error.error_type, error.message)


def _time(run_at: RunAt) -> datetime | timedelta:
    return run_at if isinstance(run_at, timedelta) else _EPOCH + timedelta(microseconds=run_at)


def _spec(spec: PruneSpec) -> sdk.PruneSpec:
    match spec.prune_by:
        case MaxAge(age):
            prune_by: sdk.MaxAge | sdk.MaxLength = sdk.MaxAge(age)
        case MaxLength(length):
            prune_by = sdk.MaxLength(length)
        case other:
            assert_never(other)
    kind = sdk.Only if isinstance(spec.executors, Only) else sdk.Except
    return sdk.PruneSpec(spec.status, prune_by, kind(tuple(spec.executors.executors)))


def _where(query: Query) -> sdk.Where:
    where = sdk.Where
    match query:
        case And(queries):
            return reduce(and_, map(_where, queries), where.everything())
        case Or(queries):
            return reduce(or_, map(_where, queries), where.id_in())
        case Not(inner):
            return ~_where(inner)
        case ExecutorEqual(executor):
            return where.executor_equals(executor)
        case DataEquals(canonical):
            return where.data_equals(json_value(canonical))
        case MetadataEquals(canonical):
            return where.metadata_equals(json_value(canonical))
        case IdEquals(job_id):
            return where.id_equals(job_id)
        case IdIn(ids):
            return where.id_in(*ids)
        case StatusEqual(status):
            return where.status_equals(status)
        case TagsAllOf(tags):
            return where.tagged_by_all_of(*tags)
        case TagsOneOf(tags):
            return where.tagged_by_one_of(*tags)
        case ScheduledAtBefore(instant):
            return where.scheduled_at_before(_EPOCH + timedelta(microseconds=instant))
        case ScheduledAtAfter(instant):
            return where.scheduled_at_after(_EPOCH + timedelta(microseconds=instant))
        case ScheduledAtEqual(instant):
            return where.scheduled_at_equals(_EPOCH + timedelta(microseconds=instant))
        case other:
            assert_never(other)
