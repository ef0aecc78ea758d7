"""Jobs by request, where WebSockets do not get through: long polls, and leases that are renewed one by one."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import timedelta

from .async_client import AsyncClient
from .errors import JobProblem, RexecutorError
from .job import Job

_PERIOD_SECONDS = 60.0
_WAIT = timedelta(seconds=20)
_MAX_CLAIM = 1_000
_LEASE = timedelta(seconds=60)
_RENEW_SECONDS = 20.0
_PAUSE_SECONDS = 1.0

_log = logging.getLogger("rexecutor")


class Polling:
    """Claims for an executor while it is asked to, and keeps what it claimed leased until that has ended."""

    def __init__(self, client: AsyncClient, executor: str, worker: str) -> None:
        """Claim for this executor under the worker's name."""
        self._client = client
        self._executor = executor
        self._worker = worker
        self._room_changed = asyncio.Event()

    def wake(self) -> None:
        """Hear that there may be room for more jobs."""
        self._room_changed.set()

    async def claim(self, room: Callable[[], int], start: Callable[[Job], None]) -> None:
        """Claim what there is ``room`` for and ``start`` it, for a minute; then WebSockets are worth another try."""
        ends_at = asyncio.get_running_loop().time() + _PERIOD_SECONDS
        while asyncio.get_running_loop().time() < ends_at:
            free = room()
            if free <= 0:
                self._room_changed.clear()
                await self._room_changed.wait()
                continue
            try:
                jobs = await self._client.claim_jobs(
                    self._executor, limit=min(free, _MAX_CLAIM), wait=_WAIT, worker=self._worker, lease=_LEASE
                )
            except RexecutorError as error:
                _log.info("%s: no jobs by request: %s", self._executor, error)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            for job in jobs:
                start(job)

    async def renew(self, held: Callable[[], Iterable[Job]], lost: Callable[[Job], None]) -> None:
        """Renew the leases of what is held, as long as anything is; tell of each job that is another's by now."""
        while jobs := [*held()]:
            for job in jobs:
                try:
                    await self._client.renew_lease(job.id, fence=job.fence, lease=_LEASE)
                except JobProblem:
                    lost(job)
                except RexecutorError as error:
                    _log.info("job %d: lease not renewed: %s", job.id, error)
            await asyncio.sleep(_RENEW_SECONDS)
