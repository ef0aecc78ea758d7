"""Takes jobs back from workers that vanished, once their leases have run out."""

import asyncio
import time

from ..backend.extensions import Service
from ..observability.logging import get_logger
from ..observability.loops import GuardedLoop

_log = get_logger()


class Rescuer:
    """Looks after leases each second, but not while the living may have been unable to renew.

    After this server's start, a database outage or a stall of the process it waits one lease first.
    """

    def __init__(self, service: Service, *, lease_seconds: float) -> None:
        """Rescue through the service."""
        self.loop = GuardedLoop("rescuer", self._round)
        self._service = service
        self._lease_seconds = lease_seconds
        self._pause_seconds = min(1.0, lease_seconds / 4)
        self._patience_seconds = min(2.0, lease_seconds / 4)
        self._not_before = asyncio.get_running_loop().time() + lease_seconds
        self._is_away = False
        """Whether the database was away at the last look."""

    async def _round(self) -> None:
        loop = asyncio.get_running_loop()
        before, wall_before = loop.time(), time.time()
        await asyncio.sleep(self._pause_seconds)
        # The monotonic clock stands still while a machine sleeps, the other one may be set: either may run ahead.
        slept = max(loop.time() - before, time.time() - wall_before)
        if slept > self._pause_seconds + self._patience_seconds:
            _log.warning("rescue.postponed", reason="stall", slept_seconds=round(slept, 1))
            self._not_before = loop.time() + self._lease_seconds
        if self._is_away:
            if not (await self._service.health()).database:
                return
            self._is_away = False
            self._not_before = loop.time() + self._lease_seconds
        if loop.time() < self._not_before:
            return
        try:
            while rescued := await self._rescue():
                _log.warning("jobs.rescued", count=rescued)
        except Exception:
            # A lease from its return on, which is not seen by trying to rescue.
            self._is_away = True
            raise

    async def _rescue(self) -> int:
        """Rescue once; where the database let wait for it, renewals had to wait too."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        rescued = await self._service.rescue()
        waited = loop.time() - asked_at
        if waited <= self._patience_seconds:
            return rescued
        _log.warning("rescue.postponed", reason="database", waited_seconds=round(waited, 1))
        self._not_before = loop.time() + self._lease_seconds
        return 0
