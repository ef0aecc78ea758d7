"""Forgets the answers to repeatable calls once nobody may ask for them any more."""

import asyncio

from ..backend.extensions import Service
from ..observability.loops import GuardedLoop

_PAUSE_SECONDS = 60.0


class Sweeper:
    """Looks each minute for answers that have expired, and forgets them a bounded batch at a time."""

    def __init__(self, service: Service, *, pause_seconds: float = _PAUSE_SECONDS) -> None:
        """Forget through the service."""
        self.loop = GuardedLoop("sweeper", self._round)
        self._service = service
        self._pause_seconds = pause_seconds

    async def _round(self) -> None:
        await asyncio.sleep(self._pause_seconds)
        while await self._service.forget_answers():
            pass
