"""The PostgreSQL dialect: lanes of group commit with connections of their own, readers beside them."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import asyncpg
import msgspec
from sqlalchemy import BigInteger, ColumnElement, FromClause, Text, any_, cast, false, func, literal, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ....domain.errors import BackendError, DatabaseUnavailable, InsufficientStorage
from ....domain.idempotency import Idempotency
from ....domain.instant import Instant
from ....domain.job import Ack, EnqueuableJob, Enqueued, Job, JobChanges, LeaseRenewed
from ....domain.leadership import Lead
from ....domain.lifecycle import Acknowledgement
from ....domain.status import JobStatus
from ....observability.loops import GuardedLoop
from ...calls import Audit, Deletion, JobLease, Rerun, SessionAlive, Update, size_of
from ...claim import ClaimCall, Claimed, NewLease, Resume, Resumed
from ...effects import Effects, EffectsListener
from ...idempotency import Answered, InsertOnce, RerunOnce
from ..base import DatabaseUnusable, StoreRules
from .acknowledge import acknowledge, complete_held, usual_ones
from .administration import delete_jobs, rerun_jobs, update_jobs
from .audit import audit_sessions
from .claim import claim_jobs
from .clock import DatabaseClock
from .connection import Road
from .counts import current_counts, folding
from .gauges import SELECT_OLDEST
from .hints import HintListener, HintSender
from .idempotency import insert_once, rerun_once
from .insert import insert_jobs
from .lane import Lane, Write, is_unavailable
from .leadership import lead
from .leases import close_sessions, confirm_resumes, open_leases, renew_jobs, renew_sessions
from .notices import NoticeReader
from .readers import open_readers, reading
from .sessions import rescue_jobs, resume_sessions
from .sweep import sweep
from .transaction import NOW, PostgresTransaction
from .unique import insert_unique

Item = TypeVar("Item")
Result = TypeVar("Result")

_CLAIMS_AT_ONCE = 2
_POLL_SECONDS = 1.0
_POLL_WITHOUT_HINTS_SECONDS = 0.25
_DISK_FULL = "53100"
_MISTAKES = ("21", "22", "23502", "23514", "42601", "428")
"""What a statement of ours does wrong: wrong values, missing ones, wrong syntax or types. To wait would not help."""


class PostgresDialect:
    """Fits :class:`~app.store.dialects.base.Dialect` over one database, beside any number of other processes.

    What takes jobs from leases, or moves them between leases, shares a lane: it is told of in the order of its commits.
    """

    shares_transactions = False

    def __init__(self, url: str, rules: StoreRules, committed: EffectsListener, *, behind_pooler: bool = False) -> None:
        """Serve a database whose schema is at head; ``committed`` hears of each committed transaction's effects.

        Behind a pooler there are no hints: nobody can listen there. Then polls come more often.
        """
        self.fallback_seconds = _POLL_WITHOUT_HINTS_SECONDS if behind_pooler else _POLL_SECONDS
        self._road = Road(url, behind_pooler)
        self._rules = rules
        self._committed = committed
        self._clock = DatabaseClock()
        self._inserts, self._unique_inserts, self._settlements, self._leases = (self._lane() for _ in range(4))
        self._rest = self._lane(moves_jobs=False)
        self._claims = self._lane(width=_CLAIMS_AT_ONCE, alone=True)
        self._hints = self._lane(moves_jobs=False)
        self._notices = NoticeReader(self._settlements, self._rest, poll_seconds=self.fallback_seconds)
        self._sender = HintSender(self._hints, rules.owner)
        self._listener = HintListener(self._road, rules.owner, ready=self._heard, noticed=self._notices.noticed)
        self._lookups: AsyncEngine = open_readers(self._road)
        self._searches: AsyncEngine = open_readers(self._road)

    def hold(self) -> None:
        """Take nothing: the database is for many."""

    async def start(self) -> None:
        """See whether the database is there. Raises DatabaseUnusable."""
        try:
            await self._clock.set(self._rest)
        except Exception as error:
            reason = str(error.__cause__ or error) or type(error).__name__
            raise DatabaseUnusable(f"cannot use the database: {reason}") from error

    async def stop(self) -> None:
        """Finish what was begun and close."""
        await self._listener.close()
        for lane in (self._inserts, self._unique_inserts, self._claims, self._settlements, self._leases, self._rest):
            await lane.close()
        await self._hints.close()
        await self._lookups.dispose()
        await self._searches.dispose()

    def loops(self) -> Sequence[GuardedLoop]:
        """Add up counts, look at the clock, and keep in touch with other servers."""
        return (
            folding(self._rest),
            self._clock.setting(self._rest),
            *(() if self._road.is_pooled else (self._sender.loop, self._listener.loop)),
            self._notices.loop,
        )

    def now(self) -> Instant:
        """Return the database's now, as near as is known here."""
        return self._clock.now()

    async def now_in(self, connection: AsyncConnection) -> Instant:
        """Return the now of the reading transaction."""
        return Instant(await connection.scalar(text(f"SELECT {NOW}")) or 0)

    def translate(self, error: Exception) -> BackendError | None:
        """Tell a full disk, and a mistake of ours, from a database that is away."""
        if isinstance(error, PoolTimeout):
            return DatabaseUnavailable("all connections are busy")
        original = error.orig if isinstance(error, DBAPIError) else error
        state = getattr(original, "sqlstate", None) or ""
        if state == _DISK_FULL:
            return InsufficientStorage("the disk is full")
        if state.startswith(_MISTAKES):
            return None
        if isinstance(error, DBAPIError | asyncpg.PostgresError) or is_unavailable(error):
            return DatabaseUnavailable("the database did not answer")
        return None

    async def insert(self, jobs: Sequence[EnqueuableJob]) -> list[Enqueued]:
        """Store jobs in order, all or none."""
        if _has_unique(jobs):
            return await self._unique_inserts.submit(insert_unique, jobs)
        return await self._inserts.submit(insert_jobs, jobs)

    def claim(self, calls: Sequence[ClaimCall]) -> asyncio.Future[list[Claimed]]:
        """Hand the best due jobs to the places in line."""
        return asyncio.ensure_future(self._claims.submit(claim_jobs, calls))

    async def acknowledge(self, calls: Sequence[Acknowledgement]) -> list[Ack | BackendError]:
        """Apply acknowledgements in order, each with an outcome of its own.

        The usual ones are durable before the others are begun: no outcome depends on another job's.
        """
        usual = usual_ones(calls)
        acks = await self._settlements.submit(complete_held, usual) if usual else []
        completed = {ack.id: ack for ack in acks if ack is not None}
        left = [call for call in calls if call.job_id not in completed]
        others = iter(await self._settlements.submit(acknowledge, left) if left else ())
        return [completed[call.job_id] if call.job_id in completed else next(others) for call in calls]

    async def insert_once(
        self, jobs: Sequence[EnqueuableJob], idempotency: Idempotency
    ) -> Answered[list[Enqueued]] | BackendError:
        """Store jobs in order, all or none, and keep the answer with them."""
        lane = self._unique_inserts if _has_unique(jobs) else self._inserts
        (outcome,) = await lane.submit(insert_once, [InsertOnce(idempotency, jobs)], size=len(jobs))
        return outcome

    async def rerun_once(self, job_id: int, idempotency: Idempotency, *, force: bool) -> Answered[Ack] | BackendError:
        """Make a job due now, and keep the answer with the change."""
        return await _one(self._settlements, rerun_once, RerunOnce(idempotency, job_id, force))

    async def lead(self, seconds: float) -> Lead:
        """Lead unless another server does."""
        return await _one(self._rest, lead, seconds)

    async def sweep(self, term: int) -> int | None:
        """Delete kept answers that have expired, and notices for servers that are no more."""
        return await _one(self._rest, sweep, term)

    async def open_lease(self, lease: NewLease) -> int:
        """Open a lease; return its id."""
        return await _one(self._leases, open_leases, lease)

    async def resume_session(self, resume: Resume) -> Resumed | None:
        """Move a session with its jobs to a new lease."""
        return await _one(self._settlements, resume_sessions, resume)

    async def confirm_resume(self, lease_id: int) -> None:
        """Forget the token from before a resume."""
        await _one(self._leases, confirm_resumes, lease_id)

    async def renew_sessions(self, sessions: Sequence[tuple[int, float, float]]) -> list[bool]:
        """Let sessions hold on from their last sign of life."""
        return await self._leases.submit(renew_sessions, [SessionAlive(*session) for session in sessions])

    async def close_session(self, lease_id: int, lease_seconds: float, seconds_ago: float) -> None:
        """Note that a session has no connection."""
        await _one(self._leases, close_sessions, SessionAlive(lease_id, lease_seconds, seconds_ago))

    async def renew_job(self, job_id: int, fence: int, *, seconds: float, is_own: bool) -> LeaseRenewed | BackendError:
        """Hold one job until ``seconds`` from now."""
        return await _one(self._settlements, renew_jobs, JobLease(job_id, fence, seconds, is_own))

    async def rescue(self) -> int:
        """Take jobs back from leases that have run out by now: whenever the database gets to it, no later ones."""
        return await _one(self._settlements, rescue_jobs, self.now())

    async def audit_sessions(self, audits: Sequence[Audit]) -> None:
        """Compare sessions with their rows."""
        await self._settlements.submit(audit_sessions, audits, size=size_of(audits))

    async def rerun(self, job_id: int, *, force: bool) -> Ack | BackendError:
        """Make a job due now."""
        return await _one(self._settlements, rerun_jobs, Rerun(job_id, force))

    async def update(self, job_id: int, changes: JobChanges, if_match: frozenset[int] | None) -> Job | BackendError:
        """Change a job; return it."""
        return await _one(self._rest, update_jobs, Update(job_id, changes, if_match))

    async def delete(self, ids: Sequence[int], status: JobStatus, earliest: Instant, latest: Instant) -> int:
        """Delete those jobs that still are what was searched for."""
        return await _one(self._rest, delete_jobs, Deletion(ids, status, earliest, latest))

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Read with one view of the data."""
        return reading(self._lookups, self._road)

    def searching(self, *, seconds: float | None = None) -> AbstractAsyncContextManager[AsyncConnection]:
        """Read on connections of its own; a statement still running after ``seconds`` is ended."""
        return reading(self._searches, self._road, seconds=seconds)

    def counts(self) -> FromClause:
        """Add what was appended to what was added up."""
        return current_counts()

    async def oldest_ready(self, connection: AsyncConnection, named: Sequence[str]) -> dict[str | None, Instant]:
        """Return the earliest time that waits, for all executors in one statement."""
        rows = await connection.execute(text(SELECT_OLDEST), {"named": list(named)})
        oldest: dict[str | None, Instant] = dict(rows.all())
        return oldest

    def octet_length(self, column: ColumnElement[str]) -> ColumnElement[int]:
        """Measure a text; what is stored compressed knows its length."""
        return func.octet_length(column)

    def is_one_of(self, column: ColumnElement[Any], values: Sequence[int] | Sequence[str]) -> ColumnElement[bool]:
        """Pass the values as one array."""
        return column == any_(_array(values)) if values else false()

    def has_all_tags(self, column: ColumnElement[str], tags: Sequence[str]) -> ColumnElement[bool]:
        """Require that the job's tags contain the wanted."""
        return cast(column, JSONB).contains(cast(literal(msgspec.json.encode(list(tags)).decode(), Text), JSONB))

    def has_one_tag(self, column: ColumnElement[str], tags: Sequence[str]) -> ColumnElement[bool]:
        """Require that one of the job's tags is wanted."""
        return cast(column, JSONB).has_any(_array(tags)) if tags else false()

    def _lane(self, *, width: int = 1, alone: bool = False, moves_jobs: bool = True) -> Lane:
        """Return a lane; what it does leaves doubts of sessions only if it gives jobs to them, or takes some."""
        doubted = self._doubted if moves_jobs else _ignore
        return Lane(self._road, self._rules, self._told, doubted, width=width, alone=alone)

    def _told(self, transaction: PostgresTransaction) -> None:
        """Tell of a committed transaction, here and at the other servers."""
        self._committed(transaction.effects)
        if not self._road.is_pooled and (transaction.effects.ready or transaction.others):
            self._sender.add(transaction.effects.ready, transaction.others)

    def _doubted(self) -> None:
        """Tell that the outcome of a transaction is unknown."""
        self._committed(Effects(in_doubt=True))

    def _heard(self, ready: Mapping[str, Instant]) -> None:
        self._committed(Effects(ready=dict(ready)))


def _ignore() -> None:
    """Leave no doubt."""


def _has_unique(jobs: Sequence[EnqueuableJob]) -> bool:
    return any(job.uniqueness_criteria is not None for job in jobs)


def _array(values: Sequence[int] | Sequence[str]) -> ColumnElement[Any]:
    of_text = isinstance(values[0], str)
    return literal(list(values), ARRAY(Text if of_text else BigInteger))


async def _one(lane: Lane, run: Write[Item, Result], item: Item) -> Result:
    (result,) = await lane.submit(run, [item])
    return result
