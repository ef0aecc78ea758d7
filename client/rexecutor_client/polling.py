"""Jobs by request, where WebSockets do not get through: long polls, and leases that are renewed one by one."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from .async_client import AsyncClient
from .errors import Forbidden, InvalidRequest, JobProblem, NotFound, RexecutorError, Unauthorized
from .job import Job
from .pauses import Pauses
from .running import RunningJobs

FOR_GOOD = (Unauthorized, Forbidden, NotFound, InvalidRequest)
"""Refusals that no later attempt changes."""

_WAIT = timedelta(seconds=20)
_MAX_CLAIM = 1_000
_LEASE = timedelta(seconds=60)
_RENEW_SECONDS = 20.0

_log = logging.getLogger("rexecutor")


class Polling:
    """Claims for an executor while it is asked to, and keeps what it claimed leased until that has ended."""

    def __init__(self, client: AsyncClient, executor: str, worker: str, jobs: RunningJobs) -> None:
        """Claim for this executor under the worker's name, and start what comes among ``jobs``."""
        self._client = client
        self._executor = executor
        self._worker = worker
        self._jobs = jobs
        self._room_changed = asyncio.Event()
        self._renewal: asyncio.Task[None] | None = None
        self._claim: asyncio.Task[list[Job]] | None = None
        self._stopped = False

    def wake(self) -> None:
        """Hear that there may be room for more jobs."""
        self._room_changed.set()

    def stop(self) -> None:
        """Claim no more. A claim that is given up gives back what it brings."""
        self._stopped = True
        if self._claim is not None:
            self._claim.cancel()

    async def close(self) -> None:
        """Let leases run out."""
        if self._renewal is not None:
            self._renewal.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewal

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
            except FOR_GOOD:
                raise
            except RexecutorError as error:
                _log.info("%s: no jobs by request: %s", self._executor, error)
                await pauses.wait()

    async def _wait_for_room(self, seconds: float) -> None:
        self._room_changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._room_changed.wait()

    async def _claim_once(self, limit: int, wait: timedelta) -> None:
        self._claim = asyncio.create_task(
            self._client.claim_jobs(self._executor, limit=limit, wait=wait, worker=self._worker, lease=_LEASE)
        )
        try:
            await asyncio.wait([self._claim])
        finally:
            self._claim.cancel()
        if self._claim.cancelled():
            return
        for job in self._claim.result():
            self._jobs.start(job, polled=True)
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        """Renew the leases of what came by request, as long as anything did."""
        while self._jobs.polled:
            await asyncio.sleep(_RENEW_SECONDS)
            await asyncio.gather(*map(self._renew_one, self._jobs.polled))

    async def _renew_one(self, job: Job) -> None:
        try:
            await self._client.renew_lease(job.id, fence=job.fence, lease=_LEASE)
        except JobProblem:
            self._jobs.revoke(job.id, job.fence, "lost")
        except RexecutorError as error:
            _log.info("job %d: lease not renewed: %s", job.id, error)
