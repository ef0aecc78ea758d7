"""The dispatchers by executor, started with the first place in line, ended after the last; and who has which lease."""

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from datetime import timedelta
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any

from msgspec import Struct
from uuid_utils import uuid7

from ..domain.errors import NotReady
from ..domain.job import Job
from ..domain.lifecycle import Acknowledgement, Operation
from ..domain.stream import Hello
from ..observability.failpoints import Failpoints
from ..observability.logging import get_logger
from ..observability.loops import GuardedLoop
from ..observability.meter import Meter
from ..observability.metrics import CONNECTIONS, CREDITS, DRAINING, HELD_JOBS, TASKS
from ..observability.tally import Series
from ..store.claim import NewLease, Resume, Resumed
from ..store.dialects.base import Dialect
from ..store.effects import Effects
from .dispatcher import Dispatcher
from .place import Place
from .poll import Poll
from .subscription import Subscription

_STOP_SECONDS = 5.0
_DRAIN_PAUSE_SECONDS = 0.05

_log = get_logger()


class _ResumeWish(Struct):
    """Somebody who waits for the commit of a resume."""

    executor: str
    token: str
    prefetch: int
    subscription: Subscription | None = None


class Registry:
    """Who waits for jobs in this process. Hears of each committed transaction and tells those whom it concerns."""

    def __init__(
        self,
        dialect: Dialect,
        tasks: asyncio.TaskGroup,
        *,
        meter: Meter,
        lease_seconds: float,
        fallback_seconds: float,
        failpoints: Failpoints | None = None,
    ) -> None:
        """Run loops in ``tasks`` until :meth:`stop`."""
        self._dialect = dialect
        self._tasks = tasks
        self._meter = meter
        self._lease_seconds = lease_seconds
        self._fallback_seconds = fallback_seconds
        self._dispatchers: dict[str, Dispatcher] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._by_lease: dict[int, Subscription] = {}
        self._resuming: dict[str, _ResumeWish] = {}
        """By the hash of the new token."""
        self._polls: set[Poll] = set()
        self._draining = False
        self._failpoints = failpoints
        self._renewal_pause_seconds = min(1.0, lease_seconds / 6)
        self._renewal = GuardedLoop("lease_renewal", self._renew_leases)
        self._renewal_task = tasks.create_task(self._renewal.run())

    @property
    def dead_loops(self) -> list[str]:
        """The names of the loops that do not do their work."""
        loops = [self._renewal, *(dispatcher.loop for dispatcher in self._dispatchers.values())]
        return [loop.name for loop in loops if loop.is_dead]

    @property
    def is_draining(self) -> bool:
        """Whether this server has begun to leave."""
        return self._draining

    def readings(self) -> Iterator[tuple[Series, int]]:
        """Return what there is of connections, their credits and their jobs."""
        yield (DRAINING, ()), int(self._draining)
        yield (TASKS, ()), len(asyncio.all_tasks())
        for subscription in set(self._by_lease.values()):
            labels = (subscription.executor,)
            yield (CONNECTIONS, labels), 1
            yield (CREDITS, labels), subscription.open_credits
            yield (HELD_JOBS, labels), subscription.held_jobs

    async def subscribe(self, executor: str, *, worker: str | None, prefetch: int, resume: str | None) -> Subscription:
        """Open a lease and stand in line with it, or go on with the session whose token ``resume`` is.

        Raises NotReady while draining.
        """
        self._refuse_while_draining()
        subscription = None if resume is None else await self._resume(executor, resume, worker, prefetch)
        if subscription is None:
            subscription = await self._open(executor, worker, prefetch)
        self._join(executor, subscription)
        if self._draining:
            # The drain began while the lease was being opened, and has not seen this subscription.
            await subscription.close()
            self._refuse_while_draining()
        return subscription

    async def _open(self, executor: str, worker: str | None, prefetch: int) -> Subscription:
        """Begin a session."""
        session = str(uuid7())
        token = _new_token(session)
        lease = NewLease(
            session=session,
            executor=executor,
            worker=worker or session,
            seconds=self._lease_seconds,
            connected=True,
            resume_hash=_hash(token),
        )
        lease_id = await self._dialect.open_lease(lease)
        hello = Hello(
            session=session, resume=token, resumed=False, held=[], credits=prefetch, lease_seconds=self._lease_seconds
        )
        return self._admit(hello, executor, leases=[lease_id], worker=lease.worker, prefetch=prefetch)

    async def _resume(self, executor: str, token: str, worker: str | None, prefetch: int) -> Subscription | None:
        """Go on with a session; None where the token is unknown."""
        session = token.partition(".")[0]
        wish = _ResumeWish(executor, _new_token(session), prefetch)
        resume_hash = _hash(wish.token)
        self._resuming[resume_hash] = wish
        try:
            await self._dialect.resume_session(
                Resume(
                    session=session,
                    executor=executor,
                    worker=worker,
                    seconds=self._lease_seconds,
                    presented_hash=_hash(token),
                    resume_hash=resume_hash,
                )
            )
        except BaseException:
            if wish.subscription is not None:
                self._start(wish.subscription.close())
            raise
        finally:
            del self._resuming[resume_hash]
        return wish.subscription

    def _resumed(self, resumed: Resumed) -> None:
        """Let a session go on at its new connection, and end its old one if that is here.

        In the turn in which the commit is told of: what happens to its jobs from then on is told to the new one.
        """
        replaced = self._by_lease.pop(resumed.old_lease, None)
        if replaced is not None:
            for lease_id in replaced.leases:
                self._by_lease.pop(lease_id, None)
            self._take_out(replaced.executor, replaced)
            replaced.replace()
        wish = self._resuming.get(resumed.resume_hash)
        if wish is None:
            # Whoever asked is gone. The jobs stay leased, and may be resumed again.
            return
        hello = Hello(
            session=wish.token.partition(".")[0],
            resume=wish.token,
            resumed=True,
            held=resumed.held,
            credits=max(0, wish.prefetch - len(resumed.held)),
            lease_seconds=self._lease_seconds,
        )
        wish.subscription = self._admit(
            hello, wish.executor, leases=resumed.leases, worker=resumed.worker, prefetch=wish.prefetch
        )

    def _admit(self, hello: Hello, executor: str, *, leases: Sequence[int], worker: str, prefetch: int) -> Subscription:
        """Make a session's subscription, which from now on hears of its jobs."""
        subscription = Subscription(
            hello=hello,
            leases=leases,
            worker=worker,
            prefetch=prefetch,
            executor=executor,
            demand_changed=lambda: self._demand_changed(executor),
            give_back=self.give_back,
            left=self._leave,
            confirm=lambda resumed: self._start(self._confirm(resumed)),
        )
        for lease_id in leases:
            self._by_lease[lease_id] = subscription
        return subscription

    async def _confirm(self, subscription: Subscription) -> None:
        try:
            await self._dialect.confirm_resume(subscription.lease)
        except Exception as error:  # noqa: BLE001 - the old token stays good, which harms nobody
            _log.warning("resume.confirm_failed", session=subscription.hello.session, exc_info=error)

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
        poll = Poll(new_lease, limit, once=not wait_seconds)
        self._join(executor, poll)
        self._polls.add(poll)
        try:
            return list(await poll.answer(wait_seconds or None))
        except asyncio.CancelledError:
            self.give_back(poll.withdraw())
            raise
        finally:
            self._polls.discard(poll)
            self._take_out(executor, poll)

    def give_back(self, jobs: Sequence[Job]) -> None:
        """Release jobs that never reached their worker, in a task of its own; if that fails their lease runs out."""
        if jobs:
            self._start(self._release(jobs))

    def expect(self, executor: str) -> bool:
        """Hear that a due job is about to be submitted; return whether a claim for it will be in the next turn.

        A hint: the commit tells for sure.
        """
        dispatcher = self._dispatchers.get(executor)
        return dispatcher is not None and dispatcher.expect()

    def committed(self, effects: Effects) -> None:
        """Hear what a transaction did: wake executors, settle jobs with those who held them."""
        for executor, instant in effects.ready.items():
            dispatcher = self._dispatchers.get(executor)
            if dispatcher is not None:
                dispatcher.wake_at(instant)
        for old_lease, new_lease in effects.leases:
            if (holder := self._by_lease.get(old_lease)) is not None:
                self._by_lease[new_lease] = holder
                holder.leases.append(new_lease)
        for resumed in effects.resumed:
            self._resumed(resumed)
        freed: set[str] = set()
        for settlement in effects.settled:
            subscription = self._by_lease.get(settlement.lease_id)
            if subscription is not None and subscription.settled(settlement):
                freed.add(subscription.executor)
        for executor in freed:
            self._demand_changed(executor)

    async def drain(self, seconds: float) -> None:
        """Hand out no more jobs; wait until none is held here, at most for ``seconds``. Acknowledgements go on."""
        self._draining = True
        for poll in self._polls:
            poll.withdraw()
        for subscription in set(self._by_lease.values()):
            subscription.drain()
        self._passed("drain.begun")
        deadline = asyncio.get_running_loop().time() + seconds
        while any(subscription.holds_jobs for subscription in self._by_lease.values()):
            if asyncio.get_running_loop().time() >= deadline:
                return
            self._passed("drain.waiting")
            await asyncio.sleep(_DRAIN_PAUSE_SECONDS)

    async def stop(self) -> None:
        """End all loops; a claim that is under way is finished first, and what nobody was sent is given back."""
        self._renewal_task.cancel()
        for dispatcher in self._dispatchers.values():
            dispatcher.close()
        for subscription in set(self._by_lease.values()):
            await subscription.close()
        while self._running:
            _, late = await asyncio.wait(self._running, timeout=_STOP_SECONDS)
            for task in late:
                task.cancel()

    def _passed(self, point: str) -> None:
        if self._failpoints is not None:
            self._failpoints.passed(point)

    def _refuse_while_draining(self) -> None:
        if self._draining:
            raise NotReady("The server is leaving.")

    def _join(self, executor: str, place: Place) -> None:
        dispatcher = self._dispatchers.get(executor)
        if dispatcher is None:
            dispatcher = Dispatcher(
                executor,
                self._dialect,
                meter=self._meter,
                fallback_seconds=self._fallback_seconds,
                give_back=self.give_back,
                emptied=lambda: self._dispatchers.pop(executor, None),
            )
            self._dispatchers[executor] = dispatcher
            self._start(dispatcher.loop.run())
        dispatcher.join(place)

    def _take_out(self, executor: str, place: Place) -> None:
        dispatcher = self._dispatchers.get(executor)
        if dispatcher is not None:
            dispatcher.leave(place)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _leave(self, subscription: Subscription, unsent: Sequence[Job]) -> None:
        """Take a subscription out of the line; its lease stays while it holds jobs, for a resume or for rescue."""
        for lease_id in subscription.leases:
            self._by_lease.pop(lease_id, None)
        self._take_out(subscription.executor, subscription)
        if unsent:
            await self._release(unsent)
        seconds_ago = asyncio.get_running_loop().time() - subscription.alive_at
        await self._dialect.close_session(subscription.lease, self._lease_seconds, seconds_ago)

    def _demand_changed(self, executor: str) -> None:
        dispatcher = self._dispatchers.get(executor)
        if dispatcher is not None:
            dispatcher.demand_changed()

    async def _release(self, jobs: Sequence[Job]) -> None:
        calls = [Acknowledgement(operation=Operation.RELEASE, job_id=job.id, fence=job.fence) for job in jobs]
        try:
            await self._dialect.acknowledge(calls)
        except Exception as error:  # noqa: BLE001 - the leases of these jobs run out, and rescue finds them
            _log.error("jobs.give_back_failed", count=len(jobs), exc_info=error)

    async def _renew_leases(self) -> None:
        """Write the leases of the living: each at most every third of a lease, all that are due at once."""
        await asyncio.sleep(self._renewal_pause_seconds)
        now = asyncio.get_running_loop().time()
        due = [
            subscription
            for subscription in set(self._by_lease.values())
            if subscription.alive_at > subscription.renewed_at
            and now - subscription.renewed_at >= self._lease_seconds / 3
        ]
        if not due:
            return
        renewed = await self._dialect.renew_sessions(
            [(each.lease, self._lease_seconds, now - each.alive_at) for each in due]
        )
        for subscription, is_held in zip(due, renewed, strict=True):
            if not is_held:
                _log.warning("lease.lost", session=subscription.hello.session)
                self._start(subscription.close())
            subscription.renewed_at = now


def _new_token(session: str) -> str:
    """Return a token that leads to its session and that nobody can guess."""
    return f"{session}.{token_urlsafe(24)}"


def _hash(token: str) -> str:
    return sha256(token.encode()).hexdigest()
