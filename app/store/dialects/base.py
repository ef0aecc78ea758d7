"""The list of what differs between databases: all else in the store is written once."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, FromClause
from sqlalchemy.ext.asyncio import AsyncConnection

from ...domain.errors import BackendError
from ...domain.idempotency import Idempotency
from ...domain.instant import Instant
from ...domain.job import Ack, EnqueuableJob, Enqueued, Job, JobChanges, LeaseRenewed
from ...domain.leadership import Lead
from ...domain.lifecycle import Acknowledgement
from ...domain.status import JobStatus
from ...observability.failpoints import Failpoints
from ...observability.loops import GuardedLoop
from ..calls import Audit
from ..claim import ClaimCall, Claimed, NewLease, Resume, Resumed
from ..idempotency import Answered


class DatabaseUnusable(RuntimeError):
    """The service cannot begin with this database; the message says why, for people."""


class DatabaseHeld(DatabaseUnusable):
    """Another server process has the database for itself."""


def process_clock() -> Instant:
    """Return the time by this process's clock."""
    return time.time_ns() // 1_000


class StoreRules(Struct, frozen=True, kw_only=True):
    """What the service was set to, as far as it decides writes."""

    owner: str
    """This server process, unlike any other that ever was."""
    require_fence: bool
    payload_bytes: int
    grace_seconds: float
    """How long after its end a lease is let be: a renewal may be on its way."""
    failpoints: Failpoints | None = None
    """Where a test lets the process end."""
    reserve_bytes: int = 0
    """Kept free beside the database for what must go on when the disk is full."""
    clock: Callable[[], Instant] = process_clock
    """The time where the database has no clock of its own."""


class Dialect(Protocol):
    """One database. Writes are durable when they return; what they mean for others is told to the effects listener."""

    @property
    def fallback_seconds(self) -> float:
        """How long a claim may wait for what it was not woken for: others may write here too."""

    @property
    def shares_transactions(self) -> bool:
        """Whether a claim sees the inserts and acknowledgements that are submitted in the same turn of the loop."""

    def hold(self) -> None:
        """Claim the database for this process where only one may have it. Raises DatabaseHeld, DatabaseUnusable."""

    async def start(self) -> None:
        """Open connections. Raises DatabaseUnusable."""

    async def stop(self) -> None:
        """Finish what was begun and close."""

    def loops(self) -> Sequence[GuardedLoop]:
        """Return what is to be run beside the calls, from the start on."""

    def now(self) -> Instant:
        """Return the database's now as near as is known here, to wait for an instant."""

    async def now_in(self, connection: AsyncConnection) -> Instant:
        """Return the database's now, to compare what is read with."""

    def translate(self, error: Exception) -> BackendError | None:
        """Return what a driver's error means, or None if it is not the driver's."""

    # Hot writes.

    async def insert(self, jobs: Sequence[EnqueuableJob]) -> list[Enqueued]:
        """Store jobs in order, all or none."""

    def claim(self, calls: Sequence[ClaimCall]) -> asyncio.Future[list[Claimed]]:
        """Hand the best due jobs to the places in line; the claims are submitted when this returns."""

    async def acknowledge(self, calls: Sequence[Acknowledgement]) -> list[Ack | BackendError]:
        """Apply acknowledgements in order, each with an outcome of its own."""

    # Repeatable calls: a key whose call was answered changes nothing again, also within one transaction.

    async def insert_once(
        self, jobs: Sequence[EnqueuableJob], idempotency: Idempotency
    ) -> Answered[list[Enqueued]] | BackendError:
        """Store jobs in order, all or none, and keep the answer with them."""

    async def rerun_once(self, job_id: int, idempotency: Idempotency, *, force: bool) -> Answered[Ack] | BackendError:
        """Make a job due now, and keep the answer with the change."""

    # Leadership: of the servers over one database one does what is to be done once.

    async def lead(self, seconds: float) -> Lead:
        """Lead for ``seconds`` from now by the database's clock, unless another server does."""

    async def sweep(self, term: int) -> int | None:
        """Delete what nobody may ask for any more, kept answers that have expired, a bounded number; return how many.

        None, and nothing was deleted, where another server has led since the term began.
        """

    # Leases.

    async def open_lease(self, lease: NewLease) -> int:
        """Open a lease; return its id."""

    async def resume_session(self, resume: Resume) -> Resumed | None:
        """Move a session with its jobs to a new lease; None where no session has the token.

        From then on the old lease is unknown: what it served can neither renew nor claim.
        """

    async def confirm_resume(self, lease_id: int) -> None:
        """Forget the token from before a resume: the client has spoken on its new connection."""

    async def renew_sessions(self, sessions: Sequence[tuple[int, float, float]]) -> list[bool]:
        """Let sessions hold on: (lease of the connection, lease seconds, seconds since its last sign of life).

        Return for each whether the connection still had its lease.
        """

    async def close_session(self, lease_id: int, lease_seconds: float, seconds_ago: float) -> None:
        """Note that the session with this lease has no connection.

        Its jobs stay leased for ``lease_seconds`` from its last sign of life, which came ``seconds_ago``.
        """

    async def renew_job(self, job_id: int, fence: int, *, seconds: float, is_own: bool) -> LeaseRenewed | BackendError:
        """Hold one job until ``seconds`` from now; with ``is_own``, without the other jobs of its session."""

    async def rescue(self) -> int:
        """Take jobs back from leases that had run out at this call, a bounded number; return how many."""

    async def audit_sessions(self, audits: Sequence[Audit]) -> None:
        """Release the jobs of sessions that their server does not know of, and tell of those that they hold no more."""

    # Administration.

    async def rerun(self, job_id: int, *, force: bool) -> Ack | BackendError:
        """Make a job due now."""

    async def update(self, job_id: int, changes: JobChanges, if_match: frozenset[int] | None) -> Job | BackendError:
        """Change a job; return it."""

    async def delete(self, ids: Sequence[int], status: JobStatus, earliest: Instant, latest: Instant) -> int:
        """Delete those jobs that still have the status and are still scheduled in the range; return how many."""

    # Reads.

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a read-only transaction with one view of the data, for what an index answers."""

    def searching(self, *, seconds: float | None = None) -> AbstractAsyncContextManager[AsyncConnection]:
        """Do the same for what may take long, on connections of its own: it never keeps a lookup waiting.

        A statement that runs longer than ``seconds`` raises QueryTooComplex.
        """

    def counts(self) -> FromClause:
        """Return what to select executor, status and count from: how many jobs there are now."""

    async def oldest_ready(self, connection: AsyncConnection, named: Sequence[str]) -> dict[str | None, Instant]:
        """Return the earliest ``scheduled_at`` that waits, due or not, of each named executor; None is all others."""

    def octet_length(self, column: ColumnElement[str]) -> ColumnElement[int]:
        """Return the length of a text in bytes of UTF-8."""

    def is_one_of(self, column: ColumnElement[Any], values: Sequence[int] | Sequence[str]) -> ColumnElement[bool]:
        """Return the condition that a column's value is one of many, however many."""

    def has_all_tags(self, column: ColumnElement[str], tags: Sequence[str]) -> ColumnElement[bool]:
        """Return the condition that a list of tags has all of these."""

    def has_one_tag(self, column: ColumnElement[str], tags: Sequence[str]) -> ColumnElement[bool]:
        """Return the condition that a list of tags has one of these."""


class Copying(Protocol):
    """What it takes to copy a whole database, on the connection of a transaction."""

    def freeze(self, connection: Connection) -> None:
        """Let nobody write before the end of the transaction."""

    def now(self, connection: Connection) -> Instant:
        """Return the database's now."""

    def last_id(self, connection: Connection, table: str) -> int:
        """Return the highest id that a table has given; 0 where it has given none."""

    def set_last_id(self, connection: Connection, table: str, last_id: int) -> None:
        """Let a table give ids above this."""

    def forget_counts(self, connection: Connection) -> None:
        """Delete the counts of jobs that are no more."""
