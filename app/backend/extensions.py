"""What the service offers beyond the seed's trait."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from msgspec import Struct

from ..domain.errors import BackendError
from ..domain.idempotency import Idempotency
from ..domain.job import Ack, EnqueuableJob, Enqueued, ExecutorSummary, Job, LeaseRenewed
from ..domain.leadership import Lead
from ..domain.lifecycle import Acknowledgement
from .contract import Backend


class Health(Struct, frozen=True, kw_only=True):
    """Whether this server can do its work."""

    database: bool
    schema_fits: bool
    dead_loops: tuple[str, ...]
    draining: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether all is well."""
        return self.database and self.schema_fits and not self.dead_loops and not self.draining


class Extensions(Protocol):
    """Operations without a counterpart in the trait."""

    async def enqueue_many(
        self, jobs: Sequence[EnqueuableJob], *, idempotency: Idempotency | None = None
    ) -> list[Enqueued]:
        """Store all of the jobs or none; the results stand in their order, and later jobs see earlier ones.

        Repeatable as an enqueue is.
        """

    async def get_job(self, job_id: int) -> Job:
        """Return a job. Raises JobNotFound."""

    async def acknowledge(self, calls: Sequence[Acknowledgement]) -> list[Ack | BackendError]:
        """Apply many acknowledgements in order, each with an outcome of its own, durable when this returns."""

    async def release_job(self, job_id: int, *, fence: int) -> Ack:
        """Give a job back that was not started: its attempt does not count."""

    async def renew_lease(self, job_id: int, *, fence: int, lease: timedelta | None = None) -> LeaseRenewed:
        """Let the job be held for ``lease`` from now, the service's default if None.

        Raises JobNotFound, StaleFence.
        """

    async def claim_jobs(
        self,
        executor: str,
        *,
        limit: int = 1,
        wait: timedelta = timedelta(0),
        worker: str | None = None,
        lease: timedelta | None = None,
    ) -> list[Job]:
        """Claim up to ``limit`` jobs as soon as there is one, waiting at most ``wait``; no connection renews the lease.

        When cancelled, what was claimed goes back, refunded.
        """

    async def give_back(self, jobs: Sequence[Job]) -> None:
        """Release jobs that never reached their worker."""

    async def list_executors(self) -> list[ExecutorSummary]:
        """Return each executor that has jobs or connections, by name."""

    async def clock_moved(self) -> None:
        """Hear that the clock, which this process has, was set: whoever waits for an instant looks at it again."""

    async def rescue(self) -> int:
        """Take jobs back whose leases have run out; return how many."""

    async def lead(self, seconds: float) -> Lead:
        """Lead the servers over this database for ``seconds`` from now, unless another does."""

    async def sweep(self, term: int) -> int | None:
        """Forget answers to repeatable calls whose 24 hours are over, a bounded number; return how many rows went.

        For the leader. None, and nothing is forgotten, where another has led since the term began.
        """

    async def drain(self, seconds: float) -> None:
        """Hand out no more jobs, and wait until none is held here, at most for ``seconds``.

        From then on new subscriptions and claims raise NotReady; everything else goes on.
        """

    async def health(self) -> Health:
        """Ask the database, look after the loops, and tell of a drain."""

    async def metrics(self) -> bytes:
        """Return all metrics in Prometheus' text format; without those of the database when it does not answer."""


class Service(Backend, Extensions, Protocol):
    """All that the wire may call."""
