"""What this server's writes mean for connections of other servers: written with them, read there after the commit.

A notice names a lease. With a job it says that the lease no longer holds it, with a new lease that a job went there;
with neither, that the session went on at another connection.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from ....domain.lifecycle import RevokeReason, Settlement
from ....observability.loops import GuardedLoop
from ...claim import Resumed
from ...effects import LeaseSplit
from .lane import Lane
from .transaction import NOW, PostgresTransaction

_BATCH = 1_000
_KEPT_MICROSECONDS = 2 * 60 * 60 * 1_000_000
"""Twice the longest lease: whoever has not read its notices by then has no living session any more."""

# In the order of their writing: what follows from something is written after it.
SELECT_OWN = f"""
SELECT id, lease_id, job_id, fence, reason, new_lease_id FROM notices WHERE owner = $1 ORDER BY id LIMIT {_BATCH}
"""
_DELETE = "DELETE FROM notices WHERE id = ANY($1::bigint[])"
# Ids rise with time: the oldest stand at their beginning.
_FORGET = f"""
WITH oldest AS MATERIALIZED (SELECT id, inserted_at FROM notices ORDER BY id LIMIT {_BATCH})
DELETE FROM notices WHERE id IN (SELECT id FROM oldest WHERE inserted_at < {NOW} - {_KEPT_MICROSECONDS}) RETURNING id
"""


class NoticeReader:
    """Reads this server's notices when it is told that there are some, and again and again."""

    def __init__(self, settlements: Lane, rest: Lane, *, poll_seconds: float) -> None:
        """Read in the lane of what takes jobs from leases, so that all of that is told of in its order."""
        self._poll_seconds = poll_seconds
        self.loop = GuardedLoop("notice_reading", self._read)
        self._settlements = settlements
        self._rest = rest
        self._noticed = asyncio.Event()

    def noticed(self) -> None:
        """Hear that there may be notices."""
        self._noticed.set()

    async def _read(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._poll_seconds):
                await self._noticed.wait()
        self._noticed.clear()
        (ids,) = await self._settlements.submit(read_notices, [None])
        if ids:
            await self._rest.submit(delete_notices, ids)
        if len(ids) == _BATCH:
            self._noticed.set()


async def read_notices(transaction: PostgresTransaction, calls: Sequence[None]) -> list[list[int]]:
    """Read the notices for this server; return their ids. They are told as this transaction's effects."""
    rows = await transaction.connection.fetch(SELECT_OWN, transaction.rules.owner)
    effects = transaction.effects
    for row in rows:
        if row["job_id"] is not None:
            reason = None if row["reason"] is None else RevokeReason(row["reason"])
            effects.settled.append(Settlement(row["lease_id"], row["job_id"], row["fence"], reason))
        elif row["new_lease_id"] is not None:
            effects.moves.append(LeaseSplit(row["lease_id"], row["new_lease_id"]))
        else:
            effects.moves.append(
                Resumed(resume_hash="", worker="", old_lease=row["lease_id"], leases=[], held=[]),
            )
    return [[row["id"] for row in rows]] * len(calls)


async def delete_notices(transaction: PostgresTransaction, ids: Sequence[int]) -> list[None]:
    """Delete notices that were told: one that is read twice does no harm, one that is lost would."""
    await transaction.connection.execute(_DELETE, list(ids))
    return [None for _ in ids]


async def forget_notices(transaction: PostgresTransaction) -> int:
    """Delete notices for servers that are no more, a batch at most; return how many."""
    return len(await transaction.connection.fetch(_FORGET))
