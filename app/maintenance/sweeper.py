"""Forgets what nobody may ask for any more: answers to repeatable calls, and what was meant for servers now gone."""

import asyncio

from ..backend.extensions import Service
from ..observability.logging import get_logger
from ..observability.loops import GuardedLoop
from .leadership import Leadership

_PAUSE_SECONDS = 60.0

_log = get_logger()


class Sweeper:
    """Sweeps each minute while this server leads, a bounded batch at a time."""

    def __init__(self, service: Service, leadership: Leadership, *, pause_seconds: float = _PAUSE_SECONDS) -> None:
        """Forget through the service."""
        self.loop = GuardedLoop("sweeper", self._round)
        self._service = service
        self._leadership = leadership
        self._pause_seconds = pause_seconds

    async def _round(self) -> None:
        await asyncio.sleep(self._pause_seconds)
        term = self._leadership.term
        if term is None:
            return
        while swept := await self._service.sweep(term):
            pass
        if swept is None:
            _log.warning("sweep.refused", term=term)
