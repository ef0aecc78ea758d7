"""Jobs by request, where WebSockets do not get through: long polls."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from .async_client import AsyncClient
from .errors import Forbidden, InvalidRequest, NotFound, Problem, RexecutorError, Unauthorized
from .job import Job
from .leases import Leases
from .pauses import Pauses
from .running import RunningJobs

FOR_GOOD = (Unauthorized, Forbidden, NotFound, InvalidRequest)
"""Refusals that no later attempt changes."""

_WAIT = timedelta(seconds=2)
"""Not longer: a claim that is out is never given up, since its answer may be on its way."""
_MAX_CLAIM = 1_000

_log = logging.getLogger("rexecutor")


class Polling:
    """Claims for an executor while it is asked to."""

    def __init__(self, client: AsyncClient, executor: str, worker: str, jobs: RunningJobs, leases: Leases) -> None:
        """Claim for this executor under the worker's name, and start what comes among ``jobs``."""
        self._client = client
        self._executor = executor
        self._worker = worker
        self._jobs = jobs
        self._leases = leases
        self._room_changed = asyncio.Event()
        self._claim: asyncio.Task[list[Job]] | None = None
        self._stopped = False
        self.asked = 0
        """For how many jobs it has asked."""
        self.is_heard = True
        """Whether the last claim had an answer."""

    def wake(self) -> None:
        """Hear that there may be room for more jobs."""
        self._room_changed.set()

    async def stop(self) -> None:
        """Claim no more; what the claim that is out still brings is given back."""
        self._stopped = True
        if self._claim is not None and not self._claim.done():
            await asyncio.wait([self._claim], timeout=_WAIT.total_seconds() + 1)
            self._claim.cancel()
            # Whoever reads it has been woken.
            await asyncio.sleep(0)

    async def claim(self, room: Callable[[], int], *, seconds: float) -> None:
        """Claim for about so long what there is ``room`` for, and start it. Raises what refuses it for good."""
        ends_at = asyncio.get_running_loop().time() + seconds
        pauses = Pauses()
        while (left := ends_at - asyncio.get_running_loop().time()) > 0:
            free = 0 if self._stopped else room()
            if free <= 0:
                await self._wait_for_room(left)
                continue
            try:
                await self._claim_once(min(free, _MAX_CLAIM), min(_WAIT, timedelta(seconds=left)))
                pauses.begin_again()
                self.is_heard = True
            except FOR_GOOD:
                raise
            except RexecutorError as error:
                self.is_heard = False
                _log.info("%s: no jobs by request: %s", self._executor, error)
                await pauses.wait(asked=error.retry_after if isinstance(error, Problem) else None)

    async def _wait_for_room(self, seconds: float) -> None:
        self._room_changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._room_changed.wait()

    async def _claim_once(self, limit: int, wait: timedelta) -> None:
        self._claim = asyncio.create_task(
            self._client.claim_jobs(
                self._executor,
                limit=limit,
                wait=wait,
                worker=self._worker,
                lease=timedelta(seconds=self._leases.seconds),
            )
        )
        self.asked = limit
        try:
            await asyncio.wait([self._claim])
            if not self._claim.cancelled():
                for job in self._claim.result():
                    if self._stopped:
                        self._jobs.release(job.id, job.fence)
                    else:
                        self._jobs.start(job, lease_seconds=self._leases.seconds)
                self._leases.keep()
        finally:
            self._claim.cancel()
            self.asked = 0
