"""The contract over a SQL store and the delivery of this process."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from ..delivery.registry import Registry
from ..domain.errors import BackendError
from ..domain.idempotency import Idempotency
from ..domain.instant import RunAt
from ..domain.job import (
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
from ..domain.leadership import Lead
from ..domain.lifecycle import Acknowledgement, Operation
from ..domain.pruning import PruneSpec
from ..domain.query import Query
from ..observability.meter import Meter
from ..store import counts, health, prune, search
from ..store.dialects.base import Dialect
from ..store.idempotency import Answered
from .contract import Subscription
from .extensions import Health, Service
from .operation import Guarded
from .scrape import Scrape

Result = TypeVar("Result")


class SqlBackend:
    """Fits :class:`~app.backend.extensions.Service`. The SQL stands in the store, the waiting in delivery."""

    def __init__(
        self,
        dialect: Dialect,
        registry: Registry,
        meter: Meter,
        *,
        lease_seconds: float,
        schema_fits: Callable[[str], bool],
    ) -> None:
        """Serve a started dialect; ``schema_fits`` tells of a revision whether this version works with it."""
        self._dialect = dialect
        self._registry = registry
        self._scrape = Scrape(dialect, registry, meter)
        self._lease_seconds = lease_seconds
        self._schema_fits = schema_fits
        self.loops: list[Callable[[], Sequence[str]]] = [lambda: registry.dead_loops]
        """Each tells which of its loops are dead."""

    # The trait.

    async def subscribe_ready_jobs(
        self, executor: str, *, worker: str | None = None, prefetch: int = 0, resume: str | None = None
    ) -> Subscription:
        """Join the line for an executor's ready jobs."""
        with self._operation():
            return await self._registry.subscribe(executor, worker=worker, prefetch=prefetch, resume=resume)

    async def enqueue(self, job: EnqueuableJob, *, idempotency: Idempotency | None = None) -> Enqueued:
        """Store a job, or find its duplicate."""
        with self._operation():
            if job.scheduled_at is None:
                self._registry.expect(job.executor)
            if idempotency is not None:
                return _once(await self._dialect.insert_once([job], idempotency), idempotency)[0]
            return (await self._dialect.insert([job]))[0]

    async def mark_job_complete(self, job_id: int, *, fence: int | None = None) -> Ack:
        """Mark a job as completed."""
        return await self._mark(Acknowledgement(operation=Operation.COMPLETE, job_id=job_id, fence=fence))

    async def mark_job_retryable(
        self, job_id: int, next_scheduled_at: RunAt, error: ExecutionError, *, fence: int | None = None
    ) -> Ack:
        """Record the error and run the job again."""
        return await self._mark(
            Acknowledgement(
                operation=Operation.RETRY, job_id=job_id, fence=fence, run_at=next_scheduled_at, error=error
            )
        )

    async def mark_job_discarded(self, job_id: int, error: ExecutionError, *, fence: int | None = None) -> Ack:
        """Record the error and give the job up."""
        return await self._mark(Acknowledgement(operation=Operation.DISCARD, job_id=job_id, fence=fence, error=error))

    async def mark_job_cancelled(self, job_id: int, error: ExecutionError, *, fence: int | None = None) -> Ack:
        """Record the error and cancel the job."""
        return await self._mark(Acknowledgement(operation=Operation.CANCEL, job_id=job_id, fence=fence, error=error))

    async def mark_job_snoozed(self, job_id: int, next_scheduled_at: RunAt, *, fence: int | None = None) -> Ack:
        """Run the job at the given time instead."""
        return await self._mark(
            Acknowledgement(operation=Operation.SNOOZE, job_id=job_id, fence=fence, run_at=next_scheduled_at)
        )

    async def prune_jobs(self, spec: PruneSpec, *, dry_run: bool = False) -> int:
        """Delete the jobs that the spec names."""
        with self._operation():
            return await prune.prune(self._dialect, spec, dry_run=dry_run)

    async def rerun_job(self, job_id: int, *, force: bool = False, idempotency: Idempotency | None = None) -> Ack:
        """Make a job due now."""
        with self._operation():
            if idempotency is not None:
                return _once(await self._dialect.rerun_once(job_id, idempotency, force=force), idempotency)
            return _outcome(await self._dialect.rerun(job_id, force=force))

    async def update_job(self, job_id: int, changes: JobChanges, *, if_match: frozenset[int] | None = None) -> Job:
        """Change members of a job."""
        with self._operation():
            return _outcome(await self._dialect.update(job_id, changes, if_match))

    async def query(self, query: Query, *, limit: int = 100, before: int | None = None) -> Page:
        """Return the jobs that match."""
        with self._operation():
            return await search.search(self._dialect, query, limit=limit, before=before)

    # The extensions.

    async def enqueue_many(
        self, jobs: Sequence[EnqueuableJob], *, idempotency: Idempotency | None = None
    ) -> list[Enqueued]:
        """Store all of the jobs or none."""
        with self._operation():
            if idempotency is not None:
                return _once(await self._dialect.insert_once(jobs, idempotency), idempotency)
            return await self._dialect.insert(jobs) if jobs else []

    async def get_job(self, job_id: int) -> Job:
        """Return a job."""
        with self._operation():
            return await search.get_job(self._dialect, job_id)

    async def acknowledge(self, calls: Sequence[Acknowledgement]) -> list[Ack | BackendError]:
        """Apply many acknowledgements in order."""
        with self._operation():
            return await self._dialect.acknowledge(calls)

    async def release_job(self, job_id: int, *, fence: int) -> Ack:
        """Give a job back that was not started."""
        return await self._mark(Acknowledgement(operation=Operation.RELEASE, job_id=job_id, fence=fence))

    async def renew_lease(self, job_id: int, *, fence: int, lease: timedelta | None = None) -> LeaseRenewed:
        """Let the job be held longer."""
        with self._operation():
            seconds = self._lease_seconds if lease is None else lease.total_seconds()
            return _outcome(await self._dialect.renew_job(job_id, fence, seconds=seconds, is_own=lease is not None))

    async def claim_jobs(
        self,
        executor: str,
        *,
        limit: int = 1,
        wait: timedelta = timedelta(0),
        worker: str | None = None,
        lease: timedelta | None = None,
    ) -> list[Job]:
        """Claim jobs as soon as there is one."""
        with self._operation():
            return await self._registry.poll(executor, limit=limit, wait=wait, worker=worker, lease=lease)

    async def give_back(self, jobs: Sequence[Job]) -> None:
        """Release jobs that never reached their worker."""
        with self._operation():
            self._registry.give_back(jobs)

    async def clock_moved(self) -> None:
        """Hear that the clock was set."""
        with self._operation():
            await self._registry.clock_moved()

    async def list_executors(self) -> list[ExecutorSummary]:
        """Return each executor that has jobs or connections."""
        with self._operation():
            return await counts.list_executors(self._dialect)

    async def rescue(self) -> int:
        """Take jobs back whose leases have run out."""
        with self._operation():
            return await self._dialect.rescue()

    async def lead(self, seconds: float) -> Lead:
        """Lead unless another does."""
        with self._operation():
            return await self._dialect.lead(seconds)

    async def sweep(self, term: int) -> int | None:
        """Forget what nobody may ask for any more."""
        with self._operation():
            return await self._dialect.sweep(term)

    async def drain(self, seconds: float) -> None:
        """Hand out no more jobs, and wait until none is held here."""
        await self._registry.drain(seconds)

    async def health(self) -> Health:
        """Ask the database, look after the loops, and tell of a drain."""
        revision = await health.schema_revision(self._dialect)
        return Health(
            database=revision is not None,
            schema_fits=revision is not None and self._schema_fits(revision),
            dead_loops=tuple(name for loops in self.loops for name in loops()),
            draining=self._registry.is_draining,
        )

    async def metrics(self) -> bytes:
        """Return all metrics as text."""
        return await self._scrape.page()

    async def _mark(self, call: Acknowledgement) -> Ack:
        with self._operation():
            return _outcome((await self._dialect.acknowledge([call]))[0])

    def _operation(self) -> Guarded:
        return Guarded(self._dialect.translate)


def _outcome(outcome: Result | BackendError) -> Result:
    if isinstance(outcome, BackendError):
        raise outcome
    return outcome


def _once(outcome: Answered[Result] | BackendError, idempotency: Idempotency) -> Result:
    answered = _outcome(outcome)
    idempotency.is_replay = answered.is_replay
    return answered.answer


def _fits(backend: SqlBackend) -> Service:
    """Let the type checker see that the backend fits the contract."""
    return backend
