"""The executors' lines: a dispatcher for each, started with the first place in line, ended after the last."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from ..domain.instant import MIN_INSTANT, Instant
from ..domain.job import Job
from ..domain.lifecycle import Acknowledgement, Operation
from ..observability.logging import cause, get_logger
from ..observability.loops import GuardedLoop
from ..observability.meter import Meter
from ..store.dialects.base import Dialect
from .dispatcher import Dispatcher
from .place import Place

_STOP_SECONDS = 5.0

_log = get_logger()


class Lines:
    """Leads each executor's places and hints to its dispatcher, and gives back what no place takes any more."""

    def __init__(
        self, dialect: Dialect, tasks: asyncio.TaskGroup, *, meter: Meter, kept_in_vain: Callable[[], None]
    ) -> None:
        """Run dispatchers in ``tasks`` until :meth:`stop`; ``kept_in_vain`` hears when a release has failed."""
        self._dialect = dialect
        self._tasks = tasks
        self._meter = meter
        self._kept_in_vain = kept_in_vain
        self._dispatchers: dict[str, Dispatcher] = {}
        self._running: set[asyncio.Task[None]] = set()

    @property
    def loops(self) -> Iterator[GuardedLoop]:
        """The dispatchers' loops."""
        return (dispatcher.loop for dispatcher in self._dispatchers.values())

    def join(self, executor: str, place: Place) -> None:
        """Let a place stand at the end of an executor's line."""
        dispatcher = self._dispatchers.get(executor)
        if dispatcher is None:
            dispatcher = Dispatcher(
                executor,
                self._dialect,
                meter=self._meter,
                fallback_seconds=self._dialect.fallback_seconds,
                give_back=self.give_back,
                emptied=lambda: self._dispatchers.pop(executor, None),
            )
            self._dispatchers[executor] = dispatcher
            self.start(dispatcher.loop.run())
        dispatcher.join(place)

    def leave(self, executor: str, place: Place) -> None:
        """Take a place out of its line."""
        dispatcher = self._dispatchers.get(executor)
        if dispatcher is not None:
            dispatcher.leave(place)

    def expect(self, executor: str) -> None:
        """Hear that a due job is about to be submitted: a claim may share its transaction."""
        dispatcher = self._dispatchers.get(executor)
        if dispatcher is not None and self._dialect.shares_transactions:
            dispatcher.expect()

    def expect_credits(self, executor: str) -> None:
        """Hear that acknowledgements are about to be submitted: a claim may share their transaction."""
        dispatcher = self._dispatchers.get(executor)
        if dispatcher is not None:
            dispatcher.expect_credits()

    def wake_at(self, executor: str, instant: Instant) -> None:
        """Hear that a job of the executor waits for this instant."""
        dispatcher = self._dispatchers.get(executor)
        if dispatcher is not None:
            dispatcher.wake_at(instant)

    def clock_moved(self) -> None:
        """Hear that the clock was set: whoever waits for an instant looks at it again."""
        for dispatcher in self._dispatchers.values():
            dispatcher.wake_at(MIN_INSTANT)

    def demand_changed(self, executor: str) -> None:
        """Hear that somebody in line may want jobs."""
        dispatcher = self._dispatchers.get(executor)
        if dispatcher is not None:
            dispatcher.demand_changed()

    def give_back(self, jobs: Sequence[Job]) -> None:
        """Release jobs that never reached their worker, in a task of its own."""
        if jobs:
            self.start(self.release(jobs))

    async def release(self, jobs: Sequence[Job]) -> None:
        """Release jobs that never reached their worker."""
        calls = [Acknowledgement(operation=Operation.RELEASE, job_id=job.id, fence=job.fence) for job in jobs]
        try:
            await self._dialect.acknowledge(calls)
        except Exception as error:  # noqa: BLE001 - an audit of their sessions finds these jobs, or else rescue
            _log.warning("jobs.give_back_failed", count=len(jobs), **cause(error))
            self._kept_in_vain()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in a task that :meth:`stop` waits for."""
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def close(self) -> None:
        """Send everybody away; each loop ends after the claim that is under way."""
        for dispatcher in self._dispatchers.values():
            dispatcher.close()

    async def stop(self) -> None:
        """Wait until all tasks have ended; what nobody was sent is given back."""
        while self._running:
            _, late = await asyncio.wait(self._running, timeout=_STOP_SECONDS)
            for task in late:
                task.cancel()
