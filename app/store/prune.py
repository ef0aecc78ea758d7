"""Which jobs a prune deletes, found by a reader; deleted in batches, each a transaction of its own."""

from sqlalchemy import BigInteger, ColumnElement, and_, func, literal, not_, or_, select

from ..domain.instant import MAX_INSTANT, MICROSECOND, Instant
from ..domain.pruning import MaxAge, MaxLength, Only, PruneSpec
from ..domain.status import READY
from .dialects.base import Dialect
from .tables import metadata

BATCH = 1_000

_job = metadata.tables["jobs"].c


async def prune(dialect: Dialect, spec: PruneSpec, *, dry_run: bool) -> int:
    """Delete, or count, the jobs that a spec names; what changes meanwhile is left alone.

    The search is one pass over the ids, on a reader: it blocks no writer and needs no index that every write would pay.
    """
    earliest, latest = await _range(dialect, spec)
    condition = and_(_matched(dialect, spec), _job.scheduled_at.between(earliest, latest))
    if isinstance(spec.prune_by, MaxLength):
        boundary = await _boundary(dialect, spec, spec.prune_by.length)
        if boundary is None:
            return 0
        condition, earliest, latest = _beyond(dialect, spec, boundary)
    if dry_run:
        async with dialect.searching() as connection:
            return await connection.scalar(select(func.count()).select_from(_job.id.table).where(condition)) or 0
    deleted = 0
    last_id = 0
    while True:
        async with dialect.searching() as connection:
            ids = (
                await connection.scalars(
                    select(_job.id).where(_job.id > last_id, condition).order_by(_job.id).limit(BATCH)
                )
            ).all()
        if not ids:
            return deleted
        deleted += await dialect.delete(ids, spec.status, earliest, latest)
        last_id = ids[-1]


def _matched(dialect: Dialect, spec: PruneSpec) -> ColumnElement[bool]:
    if isinstance(spec.executors, Only):
        condition = dialect.is_one_of(_job.executor, spec.executors.executors)
    else:
        condition = not_(dialect.is_one_of(_job.executor, spec.executors.executors))
    return and_(_job.status == spec.status.value, condition)


async def _range(dialect: Dialect, spec: PruneSpec) -> tuple[Instant, Instant]:
    """Return the first and last ``scheduled_at`` that a ``max_age`` deletes: strictly beyond the age."""
    if not isinstance(spec.prune_by, MaxAge):
        return 0, MAX_INSTANT
    age = spec.prune_by.age // MICROSECOND
    async with dialect.searching() as connection:
        now = await dialect.now_in(connection)
    return (now + age + 1, MAX_INSTANT) if spec.status in READY else (0, now - age - 1)


async def _boundary(dialect: Dialect, spec: PruneSpec, length: int) -> tuple[Instant, int] | None:
    """Return (scheduled_at, id) of the first job beyond the ``length`` that a ``max_length`` keeps."""
    soonest = _job.scheduled_at.asc(), _job.id.asc()
    latest = _job.scheduled_at.desc(), _job.id.desc()
    order = soonest if spec.status in READY else latest
    async with dialect.searching() as connection:
        row = (
            await connection.execute(
                select(_job.scheduled_at, _job.id)
                .where(_matched(dialect, spec))
                .order_by(*order)
                .offset(literal(length, BigInteger))
                .limit(1)
            )
        ).first()
    return None if row is None else (row.scheduled_at, row.id)


def _beyond(
    dialect: Dialect, spec: PruneSpec, boundary: tuple[Instant, int]
) -> tuple[ColumnElement[bool], Instant, Instant]:
    """Return the condition for the boundary and all jobs beyond it, with their range of ``scheduled_at``."""
    at, job_id = boundary
    if spec.status in READY:
        beyond = or_(_job.scheduled_at > at, and_(_job.scheduled_at == at, _job.id >= job_id))
        return and_(_matched(dialect, spec), beyond), at, MAX_INSTANT
    beyond = or_(_job.scheduled_at < at, and_(_job.scheduled_at == at, _job.id <= job_id))
    return and_(_matched(dialect, spec), beyond), 0, at
