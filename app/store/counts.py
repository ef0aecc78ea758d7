"""What is known of each executor: counts that every change keeps, connections, the oldest ready job."""

from sqlalchemy import func, select

from ..domain.job import ExecutorSummary
from ..domain.status import READY, JobStatus
from .dialects.base import Dialect
from .tables import metadata

_leases = metadata.tables["leases"].c


async def list_executors(dialect: Dialect) -> list[ExecutorSummary]:
    """Return the executors that have jobs or connections, by name; every status has a count."""
    async with dialect.reading() as connection:
        now = await dialect.now_in(connection)
        stored = dialect.counts().c
        counts: dict[str, dict[JobStatus, int]] = {}
        for executor, status, count in await connection.execute(
            select(stored.executor, stored.status, stored.count).where(stored.count > 0)
        ):
            counts.setdefault(executor, {})[JobStatus(status)] = count
        connected: dict[str, int] = dict(
            (
                await connection.execute(
                    select(_leases.executor, func.count(_leases.session.distinct()))
                    .where(_leases.connected == 1, _leases.expires_at > now)
                    .group_by(_leases.executor)
                )
            ).all()
        )
        waiting = [executor for executor, by_status in counts.items() if any(status in by_status for status in READY)]
        oldest = await dialect.oldest_ready(connection, waiting)
        due = {executor: at for executor, at in oldest.items() if at <= now}
    return [
        ExecutorSummary(
            executor=executor,
            counts={status: counts.get(executor, {}).get(status, 0) for status in JobStatus},
            oldest_ready_at=due.get(executor),
            connections=connected.get(executor, 0),
        )
        for executor in sorted(counts.keys() | connected.keys())
    ]
