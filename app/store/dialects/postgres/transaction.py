"""One write transaction: its now, and what it leaves behind besides rows."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, TypeAlias

import asyncpg

from ....domain.instant import Instant
from ....domain.status import JobStatus
from ...effects import Effects
from ..base import StoreRules

NOW = "(extract(epoch FROM now()) * 1000000)::bigint"
"""The database's clock at the transaction's begin, in microseconds."""

Connection: TypeAlias = asyncpg.Connection

_SELECT_NOW = f"SELECT {NOW}"
_COUNT = """
INSERT INTO executor_count_deltas (executor, status, count) SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
"""
# To the servers of connections that are not this one's.
_TELL = f"""
INSERT INTO notices (owner, lease_id, job_id, fence, reason, new_lease_id, inserted_at)
SELECT leases.owner, lease_id, job_id, fence, reason, new_lease_id, {NOW}
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[]) WITH ORDINALITY
  AS given (lease_id, job_id, fence, reason, new_lease_id, number) JOIN leases ON leases.id = given.lease_id
WHERE leases.connected = 1 AND leases.owner <> $6
ORDER BY number RETURNING owner
"""
HAS_JOBS = "((SELECT 1 FROM jobs WHERE jobs.lease_id = leases.id LIMIT 1) IS NOT NULL)"
"""Whether a lease has jobs. With EXISTS the planner may join all jobs of all leases, for it makes its plans early."""

# Polls would leave a lease for each of their answers. Whoever holds one of these in a lock is about to change it.
FORGET_LEASES = f"""
DELETE FROM leases WHERE id IN (
  SELECT id FROM leases
  WHERE id = ANY($1::bigint[]) AND resume_hash IS NULL
    AND NOT {HAS_JOBS}
  FOR UPDATE SKIP LOCKED)
"""


class PostgresTransaction:
    """Given to every function that writes.

    One statement alone is a transaction by itself, and spares two trips; whatever takes more begins with :meth:`begin`.
    """

    __slots__ = ("_begin", "_told", "connection", "counts", "effects", "has_begun", "is_open", "now", "others", "rules")

    def __init__(self, connection: Connection, rules: StoreRules, begin: str = "BEGIN") -> None:
        """Begin to collect."""
        self.connection = connection
        self.rules = rules
        self.effects = Effects()
        self._begin = begin
        self.is_open = False
        """Whether the server was told that what follows is one transaction."""
        self.has_begun = False
        """Whether what the changes add up to is left to the commit."""
        self.now: Instant = 0
        """Known from the begin on."""
        self.counts: defaultdict[tuple[str, JobStatus], int] = defaultdict(int)
        self.others: set[str] = set()
        """The servers for which there are notices."""
        self._told = 0

    @property
    def grace(self) -> int:
        """How long after its end a lease is let be, in microseconds."""
        return int(self.rules.grace_seconds * 1_000_000)

    async def begin(self) -> None:
        """Let all further statements be one transaction."""
        if not self.has_begun:
            await self.open()
            self.has_begun = True
            self.now = await self.connection.fetchval(_SELECT_NOW)

    async def open(self) -> None:
        """Let even a statement that would be a transaction by itself be part of this one."""
        if not self.is_open:
            await self.connection.execute(self._begin)
            self.is_open = True

    async def row(self, statement: str, *parameters: Any) -> Any:
        """Return the only row of a statement that always has one."""
        return await self.connection.fetchrow(statement, *parameters)

    def count_move(self, executor: str, before: JobStatus, after: JobStatus) -> None:
        """Note that a job went from one status to another."""
        if before is not after:
            self.counts[executor, before] -= 1
            self.counts[executor, after] += 1

    async def commit(self) -> None:
        """Write what the changes add up to, and make all durable."""
        if self.has_begun:
            await self._write_counts()
            await self.tell_settled()
            await self._forget_leases({settlement.lease_id for settlement in self.effects.settled})
        if self.is_open:
            await self.connection.execute("COMMIT")

    async def tell_settled(self) -> None:
        """Write notices of the jobs that were taken from other servers' connections; before their leases are ended."""
        settled = self.effects.settled[self._told :]
        self._told = len(self.effects.settled)
        await self.tell([(each.lease_id, each.job_id, each.fence, each.reason, None) for each in settled])

    async def tell(self, notices: Iterable[tuple[int, int | None, int | None, str | None, int | None]]) -> None:
        """Write notices: lease, job, fence, reason, new lease."""
        rows = list(notices)
        if rows:
            told = await self.connection.fetch(_TELL, *columns(rows, 5), self.rules.owner)
            self.others.update(row["owner"] for row in told)

    async def _write_counts(self) -> None:
        rows = [(executor, status, count) for (executor, status), count in self.counts.items() if count]
        if rows:
            await self.connection.execute(_COUNT, *columns(rows, 3))

    async def _forget_leases(self, lease_ids: set[int]) -> None:
        if lease_ids:
            await self.connection.execute(FORGET_LEASES, list(lease_ids))


def columns(rows: Iterable[tuple[object, ...]], width: int) -> list[list[object]]:
    """Return rows as arrays for unnest."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]
