"""Reads: one job, and the pages of a query, in SQLAlchemy Core for every database."""

from collections.abc import Sequence
from typing import Any, assert_never

from sqlalchemy import ColumnElement, and_, false, func, literal, not_, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.errors import JobNotFound
from ..domain.job import Job, JobError, Page
from ..domain.json_text import JsonText
from ..domain.limits import MAX_PAGE_BYTES, QUERY_SECONDS
from ..domain.query import (
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
from ..domain.status import JobStatus
from .dialects.base import Dialect
from .tables import metadata

_jobs = metadata.tables["jobs"]
_job = _jobs.c
_leases = metadata.tables["leases"]
_errors = metadata.tables["job_errors"]
_with_lease = _jobs.outerjoin(_leases, _leases.c.id == _job.lease_id)
_COLUMNS = (
    _job.id,
    _job.executor,
    _job.status,
    _job.data,
    _job.metadata,
    _job.attempt,
    _job.max_attempts,
    _job.priority,
    _job.tags,
    _job.error_count,
    _job.inserted_at,
    _job.scheduled_at,
    _job.attempted_at,
    _job.finished_at,
    _job.attempted_by,
    _job.uniqueness_key,
    _job.fence,
    _job.version,
    _leases.c.expires_at,
)
_OVERHEAD_BYTES = 1_000
"""A guess at what a job is on the wire beside its data, metadata and errors."""


async def get_job(dialect: Dialect, job_id: int) -> Job:
    """Return one job by its primary key. Raises JobNotFound."""
    async with dialect.reading() as connection:
        jobs = await _load(connection, [job_id])
    if not jobs:
        raise JobNotFound(job_id)
    return jobs[0]


async def search(dialect: Dialect, query: Query, *, limit: int, before: int | None) -> Page:
    """Return up to ``limit`` matching jobs, highest id first, from below ``before``; ends early at 8 MiB.

    The ids and sizes come first, so that no more is loaded than fits a page.
    """
    condition = _condition(dialect, query)
    if before is not None:
        condition = and_(_job.id < before, condition)
    async with dialect.searching(seconds=QUERY_SECONDS) as connection:
        found = (
            await connection.execute(
                select(_job.id, _size(dialect)).where(condition).order_by(_job.id.desc()).limit(limit + 1)
            )
        ).all()
        ids = _fitting(found[:limit])
        jobs = await _load(connection, ids)
    return Page(jobs, ids[-1] if len(found) > len(ids) else None)


def _size(dialect: Dialect) -> ColumnElement[int]:
    details = (
        select(func.coalesce(func.sum(dialect.octet_length(_errors.c.details)), 0))
        .where(_errors.c.job_id == _job.id, _job.error_count > 0)
        .scalar_subquery()
    )
    texts = (_job.data, _job.metadata, _job.tags, _job.attempted_by, func.coalesce(_job.uniqueness_key, ""))
    return sum(map(dialect.octet_length, texts), details)


def _fitting(found: Sequence[tuple[int, int]]) -> list[int]:
    """Return the ids of the first rows that fit a page; one at least."""
    ids: list[int] = []
    room = MAX_PAGE_BYTES
    for job_id, size in found:
        room -= size + _OVERHEAD_BYTES
        if room < 0 and ids:
            break
        ids.append(job_id)
    return ids


async def _load(connection: AsyncConnection, ids: Sequence[int]) -> list[Job]:
    """Return the jobs with these ids, highest first."""
    if not ids:
        return []
    rows = (
        await connection.execute(
            select(*_COLUMNS).select_from(_with_lease).where(_job.id.in_(ids)).order_by(_job.id.desc())
        )
    ).all()
    errors = await _load_errors(connection, [row.id for row in rows if row.error_count])
    return [_job_of(row, errors.get(row.id, [])) for row in rows]


async def _load_errors(connection: AsyncConnection, ids: Sequence[int]) -> dict[int, list[JobError]]:
    """Return the recorded errors of jobs, oldest first."""
    errors: dict[int, list[JobError]] = {}
    if ids:
        column = _errors.c
        rows = await connection.execute(
            select(column.job_id, column.attempt, column.error_type, column.details, column.recorded_at)
            .where(column.job_id.in_(ids))
            .order_by(column.job_id, column.number)
        )
        for job_id, *error in rows:
            errors.setdefault(job_id, []).append(JobError(*error))
    return errors


def _job_of(row: Any, errors: list[JobError]) -> Job:
    return Job(
        id=row.id,
        executor=row.executor,
        status=JobStatus(row.status),
        data=JsonText(row.data),
        metadata=JsonText(row.metadata),
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        priority=row.priority,
        tags=JsonText(row.tags),
        errors=errors,
        error_count=row.error_count,
        inserted_at=row.inserted_at,
        scheduled_at=row.scheduled_at,
        attempted_at=row.attempted_at,
        finished_at=row.finished_at,
        attempted_by=JsonText(row.attempted_by),
        uniqueness_key=None if row.uniqueness_key is None else JsonText(row.uniqueness_key),
        fence=row.fence,
        lease_expires_at=row.expires_at,
        version=row.version,
    )


def _condition(dialect: Dialect, query: Query) -> ColumnElement[bool]:
    """Return the SQL condition of a query tree."""
    match query:
        case And(queries):
            return and_(true(), *(_condition(dialect, each) for each in queries))
        case Or(queries):
            return or_(false(), *(_condition(dialect, each) for each in queries))
        case Not(inner):
            return not_(_condition(dialect, inner))
        case TagsAllOf(tags):
            return dialect.has_all_tags(_job.tags, tags)
        case TagsOneOf(tags):
            return dialect.has_one_tag(_job.tags, tags)
        case IdIn(ids):
            return dialect.is_one_of(_job.id, ids)
        case _:
            return _comparison(query)


def _comparison(
    query: ExecutorEqual
    | DataEquals
    | MetadataEquals
    | IdEquals
    | StatusEqual
    | ScheduledAtBefore
    | ScheduledAtAfter
    | ScheduledAtEqual,
) -> ColumnElement[bool]:
    match query:
        case ExecutorEqual(executor):
            return _job.executor == executor
        case DataEquals(canonical):
            return func.coalesce(_job.data_canonical, _job.data) == literal(canonical)
        case MetadataEquals(canonical):
            return func.coalesce(_job.metadata_canonical, _job.metadata) == literal(canonical)
        case IdEquals(job_id):
            return _job.id == job_id
        case StatusEqual(status):
            return _job.status == status.value
        case ScheduledAtBefore(instant):
            return _job.scheduled_at < instant
        case ScheduledAtAfter(instant):
            return _job.scheduled_at > instant
        case ScheduledAtEqual(instant):
            return _job.scheduled_at == instant
        case _:
            assert_never(query)
