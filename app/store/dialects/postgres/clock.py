"""The database's clock, as near as this process knows it."""

import asyncio
import time
from collections.abc import Sequence

from ....domain.instant import Instant
from ....observability.loops import GuardedLoop
from .lane import Lane
from .transaction import PostgresTransaction

_PAUSE_SECONDS = 30.0
_TRIES = 5
_SELECT = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


class DatabaseClock:
    """This process's clock, set by the database's: off by at most half of the shortest trip there and back."""

    def __init__(self) -> None:
        """Agree with this process's clock until told otherwise."""
        self._offset = 0

    def now(self) -> Instant:
        """Return the database's now."""
        return _now() + self._offset

    async def set(self, lane: Lane) -> None:
        """Ask the database."""
        (self._offset,) = await lane.submit(_measure, [None])

    def setting(self, lane: Lane) -> GuardedLoop:
        """Return the loop that asks again and again: clocks drift, and databases fail over."""

        async def set_again() -> None:
            await asyncio.sleep(_PAUSE_SECONDS)
            await self.set(lane)

        return GuardedLoop("database_clock", set_again)


async def _measure(transaction: PostgresTransaction, calls: Sequence[None]) -> list[int]:
    """Return by how much the database's clock is ahead."""
    measured: list[tuple[int, int]] = []
    for _ in range(_TRIES):
        before = _now()
        there = await transaction.connection.fetchval(_SELECT)
        after = _now()
        measured.append((after - before, there - (before + after) // 2))
    return [min(measured)[1]] * len(calls)


def _now() -> Instant:
    return time.time_ns() // 1_000
