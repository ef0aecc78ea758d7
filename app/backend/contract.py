"""The seed's eleven operations, in its order, with its rules (rexecutor's ``Backend`` trait).

What the service adds to the trait stands in keyword-only arguments here and in :mod:`.extensions`.
"""

from collections.abc import AsyncIterator
from typing import Protocol

from ..domain.idempotency import Idempotency
from ..domain.instant import RunAt
from ..domain.job import Ack, EnqueuableJob, Enqueued, ExecutionError, Job, JobChanges, Page
from ..domain.pruning import PruneSpec
from ..domain.query import Query
from ..domain.stream import Event, Hello


class Subscription(Protocol):
    """One subscriber's place in an executor's line. Iterating over it asks for one job after the other."""

    @property
    def hello(self) -> Hello:
        """What the subscription began with."""

    async def next(self) -> list[Event]:
        """Wait for events and return all there are, in the order in which they must be sent.

        A revoke never comes before its job. Raises SubscriptionClosed when none can follow,
        SubscriptionReplaced when that is because the session was resumed elsewhere.
        """

    def request(self, credits: int) -> None:
        """Add credits; 10,000 are open at most, more are cut. Resumes what ``stop`` took."""

    def stop(self, reference: str | None = None) -> None:
        """Take all open credits and their return: no job follows until the next request.

        With a reference ``Stopped`` tells from where on.
        """

    def acknowledging(self) -> None:
        """Hear that acknowledgements of jobs held here are about to be made.

        Called right before them, it lets one transaction apply them and claim the jobs for which they make room.
        """

    def alive(self) -> None:
        """Note a sign of life: it renews the lease of all jobs held here."""

    def confirm(self) -> None:
        """Hear that the client has spoken here: the token with which it resumed its session is void."""

    async def close(self) -> None:
        """Leave the line; jobs never sent go back, their attempts refunded. What was sent stays leased."""

    def __aiter__(self) -> AsyncIterator[Job]:
        """Return the jobs one by one, each asked for when it is wanted, as the seed's stream gives them."""


class Backend(Protocol):
    """rexecutor's ``Backend``. Each method raises DatabaseUnavailable when the database does not answer."""

    async def subscribe_ready_jobs(
        self, executor: str, *, worker: str | None = None, prefetch: int = 0, resume: str | None = None
    ) -> Subscription:
        """Join the line for an executor's ready jobs; no job is given to two subscribers.

        Raises NotReady while the server leaves.
        """

    async def enqueue(self, job: EnqueuableJob, *, idempotency: Idempotency | None = None) -> Enqueued:
        """Store a job, or find the duplicate that its uniqueness criteria name; wakes the executor after the commit.

        With ``idempotency`` the result is kept for 24 hours in the transaction of the change: a repeat gets it, changes
        nothing, and raises IdempotencyMismatch when it asks for something else. What was refused is not kept.
        """

    async def mark_job_complete(self, job_id: int, *, fence: int | None = None) -> Ack:
        """Mark a job as completed.

        Raises JobNotFound, StaleFence, InvalidTransition or FenceRequired, as all marks do.
        """

    async def mark_job_retryable(
        self, job_id: int, next_scheduled_at: RunAt, error: ExecutionError, *, fence: int | None = None
    ) -> Ack:
        """Record the error and run the job again at the given time, whatever its ``max_attempts``."""

    async def mark_job_discarded(self, job_id: int, error: ExecutionError, *, fence: int | None = None) -> Ack:
        """Record the error and give the job up."""

    async def mark_job_cancelled(self, job_id: int, error: ExecutionError, *, fence: int | None = None) -> Ack:
        """Record the error and cancel the job; a worker that holds it is told."""

    async def mark_job_snoozed(self, job_id: int, next_scheduled_at: RunAt, *, fence: int | None = None) -> Ack:
        """Run the job at the given time instead; the attempt does not count."""

    async def prune_jobs(self, spec: PruneSpec, *, dry_run: bool = False) -> int:
        """Delete the jobs that the spec names, in batches; return how many, or would be."""

    async def rerun_job(self, job_id: int, *, force: bool = False, idempotency: Idempotency | None = None) -> Ack:
        """Make a job due now, with one attempt more. Raises JobNotFound; JobExecuting unless forced.

        Repeatable as an enqueue is.
        """

    async def update_job(self, job_id: int, changes: JobChanges, *, if_match: frozenset[int] | None = None) -> Job:
        """Change members of a job in any state. Raises JobNotFound, VersionMismatch."""

    async def query(self, query: Query, *, limit: int = 100, before: int | None = None) -> Page:
        """Return the jobs that match, highest id first, from below ``before``. Raises QueryTooComplex after 5 s."""
