"""Seeks to lead the servers over one database, for what is to be done once."""

import asyncio
from contextlib import suppress

from ..backend.extensions import Service
from ..domain.errors import BackendError
from ..observability.logging import get_logger
from ..observability.loops import GuardedLoop

_TERM_SECONDS = 10.0
"""Within this another server leads once a leader is gone."""
_RESIGNING_SECONDS = 1.0
"""A database that does not answer holds no server back that stops."""

_log = get_logger()


class Leadership:
    """Renews its term thrice before that runs out, or waits for the end of another's.

    A process that stalls goes on to believe that it leads. So whoever does what a leader does hands the term on, and
    the database refuses it in that very transaction if another has led since.
    """

    def __init__(self, service: Service, *, term_seconds: float = _TERM_SECONDS) -> None:
        """Lead through the service."""
        self.loop = GuardedLoop("leadership", self._round)
        self.term: int | None = None
        """What this server last knew of itself; None while another leads."""
        self._service = service
        self._term_seconds = term_seconds

    async def resign(self) -> None:
        """Let another lead at once, if this server does; for a server that stops, whose loop has ended."""
        if self.term is not None:
            with suppress(BackendError, TimeoutError):
                async with asyncio.timeout(_RESIGNING_SECONDS):
                    await self._service.lead(0)
            _log.info("leader.resigned", term=self.term)

    async def _round(self) -> None:
        lead = await self._service.lead(self._term_seconds)
        if lead.term != self.term:
            _log.info("leader.lost" if lead.term is None else "leader.elected", term=lead.term or self.term)
            self.term = lead.term
        pause = self._term_seconds / 3
        await asyncio.sleep(pause if lead.term is not None else min(pause, max(0.0, lead.seconds)))
