"""The jobs that a worker has of one executor: each runs in a task, until the service knows what came of it."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from .events import HeldJob
from .execution import Executor
from .job import ExecutionError, Job
from .results import Retry
from .settlement import Settlement, release_of, settlement_of
from .settling import Settling

_CLEAN_UP_SECONDS = 2.0

_log = logging.getLogger("rexecutor")


class Lease(Struct):
    """A lease that no connection renews; times of the event loop's clock."""

    began_at: float
    seconds: float
    is_its_own: bool
    """Whether the service gave it to this job alone, not to the session of a connection."""
    not_before: float = 0.0
    """When it may be renewed again."""
    renewal: asyncio.Task[None] | None = None
    """The one that is under way."""

    @property
    def ends_at(self) -> float:
        """When it has run out."""
        return self.began_at + self.seconds

    @property
    def renew_at(self) -> float:
        """When to renew it: after a third of it."""
        return max(self.began_at + self.seconds / 3, self.not_before)


class Running(Struct):
    """A job, and how far it is."""

    job: Job
    task: asyncio.Task[None]
    executes: bool = True
    """Whether it is still executed; then it is said what came of it."""
    lease: Lease | None = None
    """None while a connection renews it."""


class RunningJobs:
    """Starts jobs, ends those that are another's by now, and counts what came of them."""

    def __init__(self, executor: Executor[Any, Any], settling: Settling, *, freed: Callable[[], None]) -> None:
        """Run them with ``executor``; tell with ``freed`` when one is executed no more, and when it has left."""
        self._executor = executor
        self._settling = settling
        self._freed = freed
        self._jobs: dict[int, Running] = {}
        self._words: set[asyncio.Task[None]] = set()
        """What is being said of jobs that are here no more."""
        self._has_ended = False
        self.executing = 0
        """How many are executed now; of the others it is being said what came of them."""
        self.done = self.failed = self.revoked = 0

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def leased_alone(self) -> list[tuple[Running, Lease]]:
        """Those whose lease no connection renews."""
        return [(each, each.lease) for each in self._jobs.values() if each.lease is not None]

    def start(self, job: Job, *, lease_seconds: float | None = None) -> None:
        """Run a job that was handed out; with a lease of its own, if it came by request."""
        if (earlier := self._jobs.get(job.id)) is not None:
            # It came back under a new fence before the old execution was told, or before the answer to it.
            self.revoke(job.id, earlier.job.fence, "lost")
            self._keep(earlier.task)
        now = asyncio.get_running_loop().time()
        lease = None if lease_seconds is None else Lease(now, lease_seconds, is_its_own=True)
        self._jobs[job.id] = Running(job, asyncio.create_task(self._run(job)), lease=lease)
        self.executing += 1

    def release(self, job_id: int, fence: int) -> None:
        """Give a job back that was handed out and is not to be started."""
        self._keep(asyncio.create_task(self._release(job_id, fence)))

    def revoke(self, job_id: int, fence: int, reason: str) -> None:
        """End a job that is no longer held under this fence; nothing is said of it.

        Where something has been said already the service's answer tells what that came to.
        """
        running = self._jobs.get(job_id)
        if running is None or running.job.fence != fence or not running.executes:
            return
        running.job.revoked = reason
        del self._jobs[job_id]
        self.revoked += 1
        _log.info("job %d: revoked (%s)", job_id, reason)
        self._free(running)
        running.task.cancel()
        # What it does at its end is waited for.
        self._keep(running.task)

    def lose_connection(self, alive_at: float, lease_seconds: float) -> None:
        """Hear that nothing renews the session's lease any more, which is so long, and when it was alive for sure."""
        for running in self._jobs.values():
            if running.lease is None:
                running.lease = Lease(alive_at, lease_seconds, is_its_own=False)

    def keep_only(self, held: Iterable[HeldJob]) -> None:
        """Agree with the service on what the session holds after a time without a connection."""
        unknown = {job.id: job.fence for job in held}
        for running in [*self._jobs.values()]:
            job = running.job
            if unknown.get(job.id) == job.fence:
                del unknown[job.id]
                running.lease = None
            elif running.lease is None or not running.lease.is_its_own:
                self.revoke(job.id, job.fence, "lost")
        for job_id, fence in unknown.items():
            # It was on its way here when the connection broke.
            self.release(job_id, fence)

    async def stop(self) -> None:
        """Cancel what is still executed; of each it is said that it failed, and may be tried again at once."""
        await asyncio.gather(*(self._stop(each) for each in [*self._jobs.values()] if each.executes))

    async def until_idle(self) -> None:
        """Wait until all have left."""
        # A job may have come right before the stop: it is started in the turn in which it is read.
        await asyncio.sleep(0)
        while tasks := self._tasks():
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)

    async def end(self) -> None:
        """End all without a word, but let what is being given back be said; after a while whatever has not ended."""
        # Nobody hears the results of those that do not let themselves be cancelled.
        self._has_ended = True
        for each in [*self._jobs.values()]:
            each.task.cancel()
        if tasks := self._tasks():
            await asyncio.wait(tasks, timeout=_CLEAN_UP_SECONDS)
        for word in [*self._words]:
            word.cancel()

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [*(each.task for each in self._jobs.values()), *self._words]

    async def _run(self, job: Job) -> None:
        try:
            result = await self._executor.run(job)
            running = self._jobs.get(job.id)
            if running is None or running.job is not job or self._has_ended:
                return
            # Before it is said: the credit for another job goes with the word on this one.
            self._free(running)
            self._count(await self._settling.say(settlement_of(job, result)))
        except Exception:  # noqa: BLE001 - else the job would be held for ever
            _log.exception("job %d: it cannot be said what came of it, and it is given back", job.id)
            self.release(job.id, job.fence)
        finally:
            self._forget(job)

    async def _stop(self, running: Running) -> None:
        running.job.revoked = "stopped"
        running.task.cancel()
        # What it does at its end is not to run beside the next attempt.
        await asyncio.wait([running.task], timeout=_CLEAN_UP_SECONDS)
        if not running.executes and not running.task.cancelled():
            # It came to a result all the same, which is being said.
            await asyncio.wait([running.task])
        elif running.job.revoked == "stopped":
            error = ExecutionError("cancelled", "the worker stopped before it was done")
            await self._settling.say(settlement_of(running.job, Retry(None, error)))

    async def _release(self, job_id: int, fence: int) -> None:
        await self._settling.say(release_of(job_id, fence))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._words.add(task)
        task.add_done_callback(self._words.discard)

    def _count(self, taken: Settlement | None) -> None:
        if taken is None:
            self.revoked += 1
        elif taken.kind == "complete":
            self.done += 1
        elif taken.kind in ("retry", "discard"):
            self.failed += 1

    def _free(self, running: Running) -> None:
        running.executes = False
        self.executing -= 1
        self._freed()

    def _forget(self, job: Job) -> None:
        running = self._jobs.get(job.id)
        if running is not None and running.job is job:
            del self._jobs[job.id]
            if running.executes:
                self._free(running)
            else:
                self._freed()
