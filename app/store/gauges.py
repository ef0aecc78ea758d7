"""What only the database knows of the metrics: read when they are asked for, added up there, so that they stay few."""

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.status import JobStatus
from ..observability.meter import OTHER, ExecutorLabels
from ..observability.metrics import JOBS, OLDEST_READY
from ..observability.tally import Series
from .dialects.base import Dialect


async def read_gauges(dialect: Dialect, labels: ExecutorLabels) -> list[tuple[Series, float]]:
    """Return the jobs by executor and status, and since when the oldest ready one waits.

    Executors get labels while there is room; all others together are ``other``.
    """
    async with dialect.reading() as connection:
        if labels.room:
            await _name_executors(dialect, connection, labels)
        # An executor's statuses are shown together, zeros too: a series that comes and goes is hard to read.
        jobs: dict[Series, float] = {}
        counts = dialect.counts().c
        labelled = (
            select(
                case((dialect.is_one_of(counts.executor, labels.named), counts.executor), else_=OTHER).label(
                    "executor"
                ),
                counts.status,
                counts.count,
            )
            .where(counts.count > 0)
            .subquery()
            .c
        )
        for executor, status, count in await connection.execute(
            select(labelled.executor, labelled.status, func.sum(labelled.count)).group_by(
                labelled.executor, labelled.status
            )
        ):
            if (JOBS, (executor, status)) not in jobs:
                jobs |= {(JOBS, (executor, each)): jobs.get((JOBS, (executor, each)), 0) for each in JobStatus}
            jobs[JOBS, (executor, status)] = int(count)
        now = await dialect.now_in(connection)
        oldest = await dialect.oldest_ready(connection, labels.named)
    ages = [
        ((OLDEST_READY, (executor or OTHER,)), (now - scheduled_at) / 1_000_000)
        for executor, scheduled_at in oldest.items()
        if scheduled_at <= now
    ]
    return [*jobs.items(), *ages]


async def _name_executors(dialect: Dialect, connection: AsyncConnection, labels: ExecutorLabels) -> None:
    """Give executors that have jobs their own labels, by name."""
    counts = dialect.counts().c
    new = (
        select(counts.executor)
        .where(counts.count > 0, ~dialect.is_one_of(counts.executor, labels.named))
        .distinct()
        .order_by(counts.executor)
        .limit(labels.room)
    )
    for executor in (await connection.execute(new)).scalars():
        labels.label(executor)
