"""The leases that no connection renews: those of jobs that came by request, and of all while a connection is lost."""

import asyncio
import logging
from datetime import timedelta
from math import inf

from .async_client import AsyncClient
from .errors import JobProblem, RexecutorError
from .running import Lease, Running, RunningJobs

_LEASE_SECONDS = 60.0
_SHORTEST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0

_log = logging.getLogger("rexecutor")


class Leases:
    """Renews each by request when a third of it is over; a job whose lease has run out meanwhile is another's."""

    def __init__(self, client: AsyncClient, jobs: RunningJobs) -> None:
        """Keep those of ``jobs``."""
        self._client = client
        self._jobs = jobs
        self.seconds = _LEASE_SECONDS
        """How long one is that is asked for by request."""
        self.is_heard = True
        """Whether the last renewal had an answer."""
        self._keeping: asyncio.Task[None] | None = None
        self._renewals: set[asyncio.Task[None]] = set()

    def keep(self) -> None:
        """See to them for as long as there are any."""
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Let them run out."""
        tasks = [*self._renewals, *filter(None, [self._keeping])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self) -> None:
        clock = asyncio.get_running_loop().time
        while leased := self._jobs.leased_alone:
            for running, lease in leased:
                if clock() >= lease.ends_at:
                    self._jobs.revoke(running.job.id, running.job.fence, "lost")
                    if lease.renewal is not None:
                        # It would hold a job that nobody works on.
                        lease.renewal.cancel()
                elif clock() >= lease.renew_at and lease.renewal is None and (self.is_heard or not self._renewals):
                    # Without an answer to one the others need not ask.
                    self._renew_soon(running, lease)
            pause = min(lease.renew_at for _, lease in leased) - clock()
            await asyncio.sleep(min(max(pause, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS))
        self.is_heard = True

    def _renew_soon(self, running: Running, lease: Lease) -> None:
        lease.renewal = asyncio.create_task(self._renew(running, lease))
        self._renewals.add(lease.renewal)
        lease.renewal.add_done_callback(self._renewals.discard)

    async def _renew(self, running: Running, lease: Lease) -> None:
        job = running.job
        clock = asyncio.get_running_loop().time
        began_at = clock()
        try:
            await self._client.renew_lease(job.id, fence=job.fence, lease=timedelta(seconds=self.seconds))
        except JobProblem:
            self._jobs.revoke(job.id, job.fence, "lost")
            lease.not_before = inf
        except RexecutorError as error:
            self.is_heard = False
            _log.info("job %d: lease not renewed: %s", job.id, error)
            lease.not_before = clock() + lease.seconds / 12
        else:
            self.is_heard = True
            lease.began_at, lease.seconds, lease.is_its_own = began_at, self.seconds, True
        finally:
            lease.renewal = None
