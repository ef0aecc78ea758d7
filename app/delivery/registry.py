"""Who waits for jobs in this process, by stream or by poll, from the first claim to the drain."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta

from uuid_utils import uuid7

from ..domain.errors import NotReady
from ..domain.job import Job
from ..observability.failpoints import Failpoints
from ..observability.loops import GuardedLoop
from ..observability.meter import Meter
from ..observability.metrics import CONNECTIONS, CREDITS, DRAINING, HELD_JOBS, TASKS
from ..observability.tally import Series
from ..store.claim import NewLease
from ..store.dialects.base import Dialect
from ..store.effects import Effects
from .lines import Lines
from .poll import Poll
from .sessions import Sessions
from .subscription import Subscription

_DRAIN_PAUSE_SECONDS = 0.05


class Registry:
    """Hears of each committed transaction and tells those whom it concerns."""

    def __init__(
        self,
        dialect: Dialect,
        tasks: asyncio.TaskGroup,
        *,
        meter: Meter,
        lease_seconds: float,
        failpoints: Failpoints | None = None,
    ) -> None:
        """Run loops in ``tasks`` until :meth:`stop`."""
        self._lease_seconds = lease_seconds
        self._lines = Lines(dialect, tasks, meter=meter, kept_in_vain=self._doubt)
        self._sessions = Sessions(dialect, self._lines, lease_seconds=lease_seconds)
        self._polls: set[Poll] = set()
        self._draining = False
        self._failpoints = failpoints
        self._renewal_pause_seconds = min(1.0, lease_seconds / 6)
        # Once the database is back, the living must have renewed before anybody rescues.
        self._renewal = GuardedLoop(
            "lease_renewal", self._renew_leases, longest_pause_seconds=self._renewal_pause_seconds
        )
        self._loops = tuple(tasks.create_task(loop.run()) for loop in (self._renewal, self._sessions.auditing))

    @property
    def dead_loops(self) -> list[str]:
        """The names of the loops that do not do their work."""
        return [loop.name for loop in (self._renewal, self._sessions.auditing, *self._lines.loops) if loop.is_dead]

    @property
    def is_draining(self) -> bool:
        """Whether this server has begun to leave."""
        return self._draining

    def readings(self) -> Iterator[tuple[Series, int]]:
        """Return what there is of connections, their credits and their jobs."""
        yield (DRAINING, ()), int(self._draining)
        yield (TASKS, ()), len(asyncio.all_tasks())
        for subscription in self._sessions.subscriptions():
            labels = (subscription.executor,)
            yield (CONNECTIONS, labels), 1
            yield (CREDITS, labels), subscription.open_credits
            yield (HELD_JOBS, labels), subscription.held_jobs

    async def subscribe(self, executor: str, *, worker: str | None, prefetch: int, resume: str | None) -> Subscription:
        """Open a lease and stand in line with it, or go on with the session whose token ``resume`` is.

        Raises NotReady while draining.
        """
        self._refuse_while_draining()
        subscription = None
        if resume is not None:
            subscription = await self._sessions.resume(executor, resume, worker, prefetch)
        if subscription is None:
            subscription = await self._sessions.open(executor, worker, prefetch)
        if self._draining:
            # The drain may have begun while the lease was being opened, and has not seen this subscription.
            await subscription.close()
            self._refuse_while_draining()
        return subscription

    async def poll(
        self, executor: str, *, limit: int, wait: timedelta, worker: str | None, lease: timedelta | None
    ) -> list[Job]:
        """Stand in line until there is one job, at most for ``wait``; when cancelled, what arrives goes back.

        Raises NotReady while draining.
        """
        self._refuse_while_draining()
        session = str(uuid7())
        seconds = self._lease_seconds if lease is None else lease.total_seconds()
        new_lease = NewLease(
            session=session, executor=executor, worker=worker or session, seconds=seconds, connected=False
        )
        wait_seconds = wait.total_seconds()
        poll = Poll(new_lease, limit, once=not wait_seconds, abandon=self._sessions.abandon)
        self._lines.join(executor, poll)
        self._polls.add(poll)
        try:
            return list(await poll.answer(wait_seconds or None))
        except asyncio.CancelledError:
            self.give_back(poll.withdraw())
            raise
        finally:
            self._polls.discard(poll)
            self._lines.leave(executor, poll)

    def give_back(self, jobs: Sequence[Job]) -> None:
        """Release jobs that never reached their worker, in a task of its own."""
        self._lines.give_back(jobs)

    def expect(self, executor: str) -> None:
        """Hear that a due job is about to be submitted: a hint, for the commit tells for sure."""
        self._lines.expect(executor)

    async def clock_moved(self) -> None:
        """Hear that the clock was set: the living keep their leases, and all look again."""
        await self._sessions.renew_all()
        self._lines.clock_moved()

    def committed(self, effects: Effects) -> None:
        """Hear what a transaction did: wake executors, settle jobs with those who held them."""
        for executor, instant in effects.ready.items():
            self._lines.wake_at(executor, instant)
        self._sessions.moved(effects.moves)
        if effects.in_doubt:
            self._sessions.doubt()
        for executor in self._sessions.settled(effects.settled):
            self._lines.demand_changed(executor)

    async def drain(self, seconds: float) -> None:
        """Hand out no more jobs; wait until none is held here, at most for ``seconds``. Acknowledgements go on."""
        self._draining = True
        for poll in self._polls:
            poll.withdraw()
        for subscription in self._sessions.subscriptions():
            subscription.drain()
        self._passed("drain.begun")
        deadline = asyncio.get_running_loop().time() + seconds
        while any(subscription.holds_jobs for subscription in self._sessions.subscriptions()):
            if asyncio.get_running_loop().time() >= deadline:
                return
            self._passed("drain.waiting")
            await asyncio.sleep(_DRAIN_PAUSE_SECONDS)

    async def stop(self) -> None:
        """End all loops; a claim that is under way is finished first, and what nobody was sent is given back."""
        for loop in self._loops:
            loop.cancel()
        self._lines.close()
        for subscription in self._sessions.subscriptions():
            await subscription.close()
        await self._lines.stop()

    def _doubt(self) -> None:
        self._sessions.doubt()

    def _passed(self, point: str) -> None:
        if self._failpoints is not None:
            self._failpoints.passed(point)

    def _refuse_while_draining(self) -> None:
        if self._draining:
            raise NotReady("The server is leaving.")

    async def _renew_leases(self) -> None:
        await asyncio.sleep(self._renewal_pause_seconds)
        await self._sessions.renew()
