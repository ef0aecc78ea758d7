"""The SQLite dialect: one writer's thread with group commit, readers beside it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement, FromClause, LargeBinary, cast, event, func, literal, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from ....domain.errors import BackendError, DatabaseUnavailable, InsufficientStorage, QueryTooComplex
from ....domain.idempotency import Idempotency
from ....domain.instant import Instant
from ....domain.job import Ack, EnqueuableJob, Enqueued, Job, JobChanges, LeaseRenewed
from ....domain.leadership import Lead
from ....domain.lifecycle import Acknowledgement
from ....domain.status import JobStatus
from ....observability.loops import GuardedLoop
from ...calls import Audit, Deletion, JobLease, Rerun, SessionAlive, Update, size_of
from ...claim import ClaimCall, Claimed, NewLease, Resume, Resumed
from ...effects import EffectsListener
from ...group_commit import GroupCommit
from ...idempotency import Answered, InsertOnce, RerunOnce
from ...tables import metadata
from ..base import DatabaseUnusable, StoreRules
from .acknowledge import acknowledge, prepare
from .administration import delete_jobs, rerun_jobs, update_jobs
from .audit import audit_sessions
from .claim import claim_jobs, open_leases
from .connection import READER_PRAGMAS, open_writer
from .file_lock import FileLock
from .gauges import SELECT_OLDEST
from .idempotency import forget_answers, insert_once, rerun_once
from .insert import insert_jobs
from .leases import (
    close_sessions,
    confirm_resumes,
    disconnect_all,
    renew_jobs,
    renew_sessions,
    rescue_jobs,
    resume_sessions,
)
from .reserve import Reserve
from .transaction import SqliteTransaction
from .writer import SqliteWriter

Item = TypeVar("Item")
Result = TypeVar("Result")

_READERS = 2
_SQLITE_FULL = 13


class SqliteDialect:
    """Fits :class:`~app.store.dialects.base.Dialect` over one file."""

    fallback_seconds = 30.0
    """A safety net: this process is the only writer, and hears of every commit."""
    shares_transactions = True

    def __init__(self, path: Path, rules: StoreRules, committed: EffectsListener) -> None:
        """Serve ``path``, whose schema is at head; ``committed`` hears of each committed transaction's effects."""
        self._path = path
        self._rules = rules
        self._committed = committed
        self._lock: FileLock | None = None
        self._writer: SqliteWriter
        self._commit: GroupCommit[SqliteTransaction]
        self._lookups: AsyncEngine
        self._searches: AsyncEngine

    def hold(self) -> None:
        """Take the file's lock. Raises DatabaseHeld."""
        self._lock = FileLock(self._path)

    async def start(self) -> None:
        """Open the writer and the readers. Raises DatabaseUnusable."""
        self._commit = GroupCommit()
        try:
            connection = open_writer(self._path)
            reserve = Reserve(self._path, connection, self._rules.reserve_bytes)
            self._writer = SqliteWriter(connection, reserve, self._commit, self._rules, self._committed)
        except sqlite3.Error as error:
            raise DatabaseUnusable(f"cannot use {self._path}: {error}") from error
        self._lookups = _open_readers(self._path)
        self._searches = _open_readers(self._path)
        # Without a schema the service starts all the same, and /readyz says what is missing.
        with suppress(sqlite3.OperationalError, InsufficientStorage):
            await self._commit.submit(disconnect_all, [None])

    async def stop(self) -> None:
        """Close readers first: the writer's close checkpoints, and nobody else ever does."""
        self._commit.close()
        await self._lookups.dispose()
        await self._searches.dispose()
        await self._writer.close()
        if self._lock is not None:
            self._lock.release()

    def loops(self) -> Sequence[GuardedLoop]:
        """Need none."""
        return ()

    def now(self) -> Instant:
        """Return the process's clock."""
        return self._rules.clock()

    async def now_in(self, connection: AsyncConnection) -> Instant:  # noqa: ARG002
        """Return the process's clock."""
        return self._rules.clock()

    def translate(self, error: Exception) -> BackendError | None:
        """Tell a full disk from a database that is away."""
        if isinstance(error, PoolTimeout):
            return DatabaseUnavailable("all connections are busy")
        if isinstance(error, DBAPIError):
            error = error.orig if isinstance(error.orig, Exception) else error
        if not isinstance(error, sqlite3.Error):
            return None
        if getattr(error, "sqlite_errorcode", None) == _SQLITE_FULL:
            return InsufficientStorage("the disk is full")
        return DatabaseUnavailable("the database did not answer")

    async def insert(self, jobs: Sequence[EnqueuableJob]) -> list[Enqueued]:
        """Store jobs in order, all or none."""
        return await self._commit.submit(insert_jobs, jobs)

    def claim(self, calls: Sequence[ClaimCall]) -> asyncio.Future[list[Claimed]]:
        """Hand the best due jobs to the places in line."""
        return self._commit.submit(claim_jobs, calls)

    async def acknowledge(self, calls: Sequence[Acknowledgement]) -> list[Ack | BackendError]:
        """Apply acknowledgements in order, each with an outcome of its own."""
        (caller,) = await self._commit.submit(acknowledge, [prepare(calls)], size=len(calls))
        return list(caller.outcomes)

    async def insert_once(
        self, jobs: Sequence[EnqueuableJob], idempotency: Idempotency
    ) -> Answered[list[Enqueued]] | BackendError:
        """Store jobs in order, all or none, and keep the answer with them."""
        (outcome,) = await self._commit.submit(insert_once, [InsertOnce(idempotency, jobs)], size=len(jobs))
        return outcome

    async def rerun_once(self, job_id: int, idempotency: Idempotency, *, force: bool) -> Answered[Ack] | BackendError:
        """Make a job due now, and keep the answer with the change."""
        return await self._one(rerun_once, RerunOnce(idempotency, job_id, force))

    async def lead(self, seconds: float) -> Lead:
        """Lead: there is no other."""
        return Lead(1, seconds)

    async def sweep(self, term: int) -> int | None:  # noqa: ARG002 - nobody else ever leads
        """Delete kept answers that have expired."""
        return await self._one(forget_answers, None)

    async def open_lease(self, lease: NewLease) -> int:
        """Open a lease; return its id."""
        return await self._one(open_leases, lease)

    async def resume_session(self, resume: Resume) -> Resumed | None:
        """Move a session with its jobs to a new lease."""
        return await self._one(resume_sessions, resume)

    async def confirm_resume(self, lease_id: int) -> None:
        """Forget the token from before a resume."""
        await self._one(confirm_resumes, lease_id)

    async def renew_sessions(self, sessions: Sequence[tuple[int, float, float]]) -> list[bool]:
        """Let sessions hold on from their last sign of life."""
        return await self._commit.submit(renew_sessions, [SessionAlive(*session) for session in sessions])

    async def close_session(self, lease_id: int, lease_seconds: float, seconds_ago: float) -> None:
        """Note that a session has no connection."""
        await self._one(close_sessions, SessionAlive(lease_id, lease_seconds, seconds_ago))

    async def renew_job(self, job_id: int, fence: int, *, seconds: float, is_own: bool) -> LeaseRenewed | BackendError:
        """Hold one job until ``seconds`` from now."""
        return await self._one(renew_jobs, JobLease(job_id, fence, seconds, is_own))

    async def rescue(self) -> int:
        """Take jobs back from leases that have run out."""
        return await self._one(rescue_jobs, None)

    async def audit_sessions(self, audits: Sequence[Audit]) -> None:
        """Compare sessions with their rows."""
        await self._commit.submit(audit_sessions, audits, size=size_of(audits))

    async def rerun(self, job_id: int, *, force: bool) -> Ack | BackendError:
        """Make a job due now."""
        return await self._one(rerun_jobs, Rerun(job_id, force))

    async def update(self, job_id: int, changes: JobChanges, if_match: frozenset[int] | None) -> Job | BackendError:
        """Change a job; return it."""
        return await self._one(update_jobs, Update(job_id, changes, if_match))

    async def delete(self, ids: Sequence[int], status: JobStatus, earliest: Instant, latest: Instant) -> int:
        """Delete those jobs that still are what was searched for."""
        return await self._one(delete_jobs, Deletion(ids, status, earliest, latest))

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Read with one view of the data."""
        async with self._lookups.connect() as connection:
            await connection.exec_driver_sql("BEGIN")
            yield connection

    @asynccontextmanager
    async def searching(self, *, seconds: float | None = None) -> AsyncIterator[AsyncConnection]:
        """Read on connections of its own; a statement still running after ``seconds`` is interrupted."""
        async with self._searches.connect() as connection:
            raw = await connection.get_raw_connection()
            driver: Any = raw.driver_connection
            expired = False

            def expire() -> None:
                nonlocal expired
                expired = True
                # Safe from another thread, and the only way to end a statement that runs.
                driver._conn.interrupt()  # noqa: SLF001

            timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, expire)
            try:
                await connection.exec_driver_sql("BEGIN")
                yield connection
            except DBAPIError as error:
                if expired:
                    raise QueryTooComplex(f"the query took longer than {seconds} s") from error
                raise
            finally:
                if timer is not None:
                    timer.cancel()

    def counts(self) -> FromClause:
        """Return the table of counts."""
        return metadata.tables["executor_counts"]

    async def oldest_ready(self, connection: AsyncConnection, named: Sequence[str]) -> dict[str | None, Instant]:
        """Return the earliest time that waits, for all executors in one statement, by the index jobs_ready."""
        rows = await connection.execute(text(SELECT_OLDEST), {"named": msgspec.json.encode(named).decode()})
        oldest: dict[str | None, Instant] = dict(rows.all())
        return oldest

    def octet_length(self, column: ColumnElement[str]) -> ColumnElement[int]:
        """Measure a text as a blob: SQLite has octet_length only since 3.43."""
        return func.length(cast(column, LargeBinary))

    def is_one_of(self, column: ColumnElement[Any], values: Sequence[int] | Sequence[str]) -> ColumnElement[bool]:
        """Pass the values as one JSON parameter: SQLite bounds how many there may be."""
        return column.in_(select(_each(values)))

    def has_all_tags(self, column: ColumnElement[str], tags: Sequence[str]) -> ColumnElement[bool]:
        """Require that no wanted tag is missing from the job's."""
        wanted = _each(tags)
        return ~select(wanted).where(wanted.not_in(select(_each_of(column)))).exists()

    def has_one_tag(self, column: ColumnElement[str], tags: Sequence[str]) -> ColumnElement[bool]:
        """Require that one of the job's tags is wanted."""
        own = _each_of(column)
        return select(own).where(own.in_(select(_each(tags)))).exists()

    async def _one(self, run: Callable[[SqliteTransaction, list[Item]], list[Result]], item: Item) -> Result:
        (result,) = await self._commit.submit(run, [item])
        return result


def _open_readers(path: Path) -> AsyncEngine:
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{path}", poolclass=AsyncAdaptedQueuePool, pool_size=_READERS, max_overflow=0
    )

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in READER_PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    return engine


def _each(values: Sequence[Any]) -> ColumnElement[Any]:
    return _each_of(literal(msgspec.json.encode(list(values)).decode()))


def _each_of(array: ColumnElement[str]) -> ColumnElement[Any]:
    """Return the column of values of a JSON array."""
    return func.json_each(array).table_valued("value").c.value
