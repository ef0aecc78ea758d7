"""The service, for asyncio: every operation of the contract as a method."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2

from . import calls
from .bulk import Bulk
from .calls import Call
from .errors import Problem, RexecutorError, ServiceUnreachable
from .fences import Fences
from .job import Ack, EnqueuableJob, Enqueued, ExecutionError, ExecutorSummary, Job, JobChanges, LeaseRenewed, Page
from .pruning import PruneSpec
from .subscription import Subscription, subscribe
from .transport import (
    MAX_CONNECTIONS,
    RETRY_SECONDS,
    TIMEOUT_SECONDS,
    answer_of,
    headers_of,
    limits_of,
    may_repeat,
    repeats,
    time_limits,
    unreachable,
    url_of,
)
from .where import Where

Answer = TypeVar("Answer")


class AsyncClient:
    """Speaks to the service at a URL over connections that it keeps; fits the server's ``Backend`` in its shape.

    Calls raise the service's :class:`~rexecutor_client.errors.Problem`, ServiceUnreachable or NotJson. Those that
    failed for want of an answer are made again, with pauses, for ``retry_seconds``, where that cannot do them twice.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """Speak to ``url``, else ``REXECUTOR_URL``, else this machine's port 8000; ``timeout`` in seconds.

        More calls at once than ``max_connections`` wait for each other. Raises InvalidUrl.
        """
        self.url = url_of(url)
        self._api_key = api_key
        self._timeout = timeout
        self._retry_seconds = retry_seconds
        self._http = httpx2.AsyncClient(headers=headers_of(api_key), timeout=timeout, limits=limits_of(max_connections))
        self._fences = Fences()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # The seed's operations, in its order.

    async def subscribe_ready_jobs(
        self, executor: str, *, worker: str | None = None, prefetch: int = 0, resume: str | None = None
    ) -> Subscription:
        """Join the line for an executor's ready jobs over a WebSocket; it is not opened again when it is lost."""
        return await subscribe(
            self.url,
            executor,
            api_key=self._api_key,
            worker=worker,
            prefetch=prefetch,
            resume=resume,
            timeout=self._timeout,
            fences=self._fences,
        )

    async def enqueue(self, job: EnqueuableJob, *, idempotency_key: str | None = None) -> Enqueued:
        """Store a job, or find the duplicate that its uniqueness criteria name.

        Sent again, it does not enqueue twice: a key of its own goes with each call, or ``idempotency_key``.
        """
        return await self._send(calls.enqueue(job, idempotency_key=idempotency_key))

    async def mark_job_complete(self, job_id: int, *, fence: int | None = None) -> Ack:
        """Mark a job as completed; under its fence, if this client was handed the job."""
        fence = self._fences.of(job_id, fence)
        return await self._settle(calls.complete(job_id, fence=fence), job_id, fence)

    async def mark_job_retryable(
        self,
        job_id: int,
        next_scheduled_at: datetime | timedelta,
        error: ExecutionError,
        *,
        fence: int | None = None,
    ) -> Ack:
        """Record the error and run the job again at the given time, whatever its ``max_attempts``."""
        fence = self._fences.of(job_id, fence)
        return await self._settle(calls.retry(job_id, next_scheduled_at, error, fence=fence), job_id, fence)

    async def mark_job_discarded(self, job_id: int, error: ExecutionError, *, fence: int | None = None) -> Ack:
        """Record the error and give the job up."""
        fence = self._fences.of(job_id, fence)
        return await self._settle(calls.discard(job_id, error, fence=fence), job_id, fence)

    async def mark_job_cancelled(self, job_id: int, error: ExecutionError, *, fence: int | None = None) -> Ack:
        """Record the error and cancel the job; another worker that holds it is told."""
        fence = self._fences.of(job_id, fence)
        return await self._settle(calls.cancel(job_id, error, fence=fence), job_id, fence)

    async def mark_job_snoozed(
        self, job_id: int, next_scheduled_at: datetime | timedelta, *, fence: int | None = None
    ) -> Ack:
        """Run the job at the given time instead; the attempt does not count."""
        fence = self._fences.of(job_id, fence)
        return await self._settle(calls.snooze(job_id, next_scheduled_at, fence=fence), job_id, fence)

    async def prune_jobs(self, spec: PruneSpec, *, dry_run: bool = False) -> int:
        """Delete the jobs that the spec names; return how many, or would be."""
        return await self._send(calls.prune(spec, dry_run=dry_run))

    async def rerun_job(self, job_id: int, *, force: bool = False, idempotency_key: str | None = None) -> Ack:
        """Make a job due now, with one attempt more; with ``force`` also one that is executing."""
        return await self._send(calls.rerun(job_id, force=force, idempotency_key=idempotency_key))

    async def update_job(self, job_id: int, changes: JobChanges, *, if_match: int | None = None) -> Job:
        """Change members of a job in any status, only at version ``if_match`` if that is given."""
        return await self._send(calls.update_job(job_id, changes, if_match=if_match))

    async def query(self, where: Where, *, limit: int = 100, cursor: str | None = None) -> Page:
        """Return a page of the jobs that match, highest id first."""
        return await self._send(calls.query(where, limit=limit, cursor=cursor))

    # What the service adds to them.

    async def enqueue_many(
        self, jobs: Sequence[EnqueuableJob], *, idempotency_key: str | None = None
    ) -> list[Enqueued]:
        """Store all of the jobs or none; the results stand in their order, and later jobs see earlier ones."""
        return await self._send(calls.enqueue_many(jobs, idempotency_key=idempotency_key))

    def bulk(self, *, max_jobs: int = 1_000) -> Bulk:
        """Return a context that collects single enqueues into bulks: while one is on its way, the next collects."""
        return Bulk(self._send, max_jobs=max_jobs)

    async def get_job(self, job_id: int) -> Job:
        """Return a job."""
        return await self._send(calls.get_job(job_id))

    async def jobs(self, where: Where, *, page_size: int = 100) -> AsyncIterator[Job]:
        """Yield all jobs that match, highest id first; pages see the changes that are made between them."""
        cursor: str | None = None
        while True:
            page = await self.query(where, limit=page_size, cursor=cursor)
            for job in page.jobs:
                yield job
            if page.next_cursor is None:
                return
            cursor = page.next_cursor

    async def release_job(self, job_id: int, *, fence: int) -> Ack:
        """Give a job back that was not started: its attempt does not count."""
        return await self._settle(calls.release(job_id, fence=fence), job_id, fence)

    async def renew_lease(self, job_id: int, *, fence: int, lease: timedelta | None = None) -> LeaseRenewed:
        """Hold a claimed job for ``lease`` from now, the service's default if None."""
        return await self._send(calls.renew_lease(job_id, fence=fence, lease=lease))

    async def claim_jobs(
        self,
        executor: str,
        *,
        limit: int = 1,
        wait: timedelta = timedelta(0),
        worker: str | None = None,
        lease: timedelta | None = None,
    ) -> list[Job]:
        """Claim up to ``limit`` jobs as soon as there is one, waiting at most ``wait``; nothing renews their lease."""
        claimed = await self._send(calls.claim_jobs(executor, limit=limit, wait=wait, worker=worker, lease=lease))
        for job in claimed:
            self._fences.remember(job.id, job.fence)
        return claimed

    async def list_executors(self) -> list[ExecutorSummary]:
        """Return each executor that has jobs or connections, by name."""
        return await self._send(calls.list_executors())

    async def service_info(self) -> dict[str, Any]:
        """Return the service's version, protocol, features and limits."""
        return await self._send(calls.service_info())

    async def is_ready(self) -> bool:
        """Return whether the service can do its work now; it is asked once."""
        try:
            await self._once(calls.readiness())
        except (Problem, ServiceUnreachable):
            return False
        return True

    async def _settle(self, call: Call[Ack], job_id: int, fence: int | None) -> Ack:
        ack = await self._send(call)
        if fence is not None:
            self._fences.forget(job_id, fence)
        return ack

    async def _send(self, call: Call[Answer]) -> Answer:
        try:
            return await self._once(call)
        except RexecutorError as error:
            if not self._retry_seconds or not may_repeat(call, error):
                raise
            first: RexecutorError | None = error
        async for attempt in repeats(call, self._retry_seconds):
            with attempt:
                if first is not None:
                    # It was made above: nearly all calls need no more.
                    failure, first = first, None
                    raise failure
                return await self._once(call)
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, call: Call[Answer]) -> Answer:
        try:
            response = await self._http.request(
                call.method,
                f"{self.url}{call.path}",
                content=call.body,
                headers=call.headers,
                timeout=time_limits(call, self._timeout),
            )
        except httpx2.TransportError as error:
            raise unreachable(error, self.url) from error
        return answer_of(call, response)
