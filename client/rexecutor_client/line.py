"""A worker's place in the line of one executor: connected, or on its way back, or asking by request."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from msgspec import Struct

from .async_client import AsyncClient
from .credits import Credits
from .errors import NotFound, Problem, RexecutorError, Unavailable, UnexpectedAnswer
from .events import Drain, Revoke
from .execution import Executor
from .job import Job
from .leases import Leases
from .pauses import Pauses
from .polling import FOR_GOOD, Polling
from .running import RunningJobs
from .settling import Settling
from .slots import Slots
from .subscription import Subscription, SubscriptionLost, subscribe

_STOP_SECONDS = 5.0
_HEARD_NOTHING = 4408
"""The server's close code for a client that was silent for a lease."""
_FAILURES_BEFORE_POLLING = 3
_FIRST_POLLING_SECONDS = 5.0
_LONGEST_POLLING_SECONDS = 60.0

_log = logging.getLogger("rexecutor")


class LineStatus(Struct, frozen=True, kw_only=True):
    """How a worker does with one executor."""

    executor: str
    connected: bool
    running: int
    done: int
    failed: int
    revoked: int
    """How many were others' before it was said, or the service had taken, what came of them."""
    connections: int
    """How many connections it has had."""


class Line:
    """Takes an executor's jobs, runs each, and says what came of it until the service has answered."""

    def __init__(
        self,
        executor: Executor[Any, Any],
        client: AsyncClient,
        *,
        worker: str,
        api_key: str | None,
        most: int,
        window: int,
        slots: Slots,
        stopping: asyncio.Event,
    ) -> None:
        """Execute ``window`` jobs at once, or as many up to ``most`` as ``slots`` say, until ``stopping``."""
        self._executor = executor
        self._client = client
        self._worker = worker
        self._api_key = api_key
        self.most = most
        self._slots = slots
        self._stopping = stopping
        self._abandoned = asyncio.Event()
        self._settling = Settling(client)
        self._credits = Credits(window)
        self._jobs = RunningJobs(executor, self._settling, freed=self._make_room)
        self._credits.count(self._jobs)
        self._leases = Leases(client, self._jobs)
        self._polling = Polling(client, executor.name, worker, self._jobs, self._leases)
        self._pauses = Pauses()
        self._subscription: Subscription | None = None
        self._token: str | None = None
        self._is_connected = False
        self._is_polling = False
        self._is_ending = False
        self._connections = 0
        self._open: set[Subscription] = set()
        self._old: set[asyncio.Task[None]] = set()
        """Old connections: what still comes over them, and their end."""

    @property
    def status(self) -> LineStatus:
        """How it does."""
        return LineStatus(
            executor=self._executor.name,
            connected=self._is_connected or (self._is_polling and self._polling.is_heard and self._leases.is_heard),
            running=self._jobs.executing,
            done=self._jobs.done,
            failed=self._jobs.failed,
            revoked=self._jobs.revoked,
            connections=self._connections,
        )

    def abandon(self) -> None:
        """End at once; the jobs come back to others when their lease has run out."""
        self._abandoned.set()

    async def run(self, *, drain_seconds: float) -> None:
        """Work until it is to stop and what runs has ended. Raises Problem when the service refuses for good."""
        work = asyncio.create_task(self._work())
        ends = [asyncio.create_task(each.wait()) for each in (self._stopping, self._abandoned)]
        try:
            await asyncio.wait([work, *ends], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await self._drain(drain_seconds)
        finally:
            await self._end(work, *ends)
        if not work.cancelled():
            work.result()

    # Connections.

    async def _work(self) -> None:
        while True:
            subscription = await self._connect() or await self._poll()
            self._adopt(subscription)
            await self._serve(subscription)
            # A server that takes connections only to close them is asked ever less often.
            await self._pauses.wait()

    async def _connect(self) -> Subscription | None:
        """Connect, however long it takes; None when requests get through and WebSockets do not."""
        failures = 0
        while True:
            try:
                return await self._subscribe()
            except RexecutorError as error:
                if isinstance(error, FOR_GOOD) and not isinstance(error, NotFound):
                    raise
                is_news = failures == 0 or isinstance(error, UnexpectedAnswer)
                level = logging.WARNING if is_news else logging.INFO
                _log.log(level, "%s: not connected: %s", self._executor.name, error)
                # What the service itself says came through. A proxy that does not know upgrades makes it a request
                # for a page that there is not.
                failures += not isinstance(error, Unavailable)
                if failures >= _FAILURES_BEFORE_POLLING and await self._hears_requests():
                    return None
                await self._pauses.wait(asked=error.retry_after if isinstance(error, Problem) else None)

    async def _subscribe(self) -> Subscription:
        return await subscribe(
            self._client.url,
            self._executor.name,
            api_key=self._api_key,
            worker=self._worker,
            resume=self._token,
        )

    async def _hears_requests(self) -> bool:
        try:
            return await self._client.is_ready()
        except RexecutorError:
            return False

    def _adopt(self, subscription: Subscription) -> None:
        """Take the session up where it was."""
        self._subscription = subscription
        self._open.add(subscription)
        self._token = subscription.hello.resume
        self._connections += 1
        self._is_connected = True
        self._is_polling = False
        self._settling.goes_over(subscription)
        self._jobs.keep_only(subscription.hello.held)
        self._credits.go_over(subscription)
        again = " again" if subscription.hello.resumed else ""
        _log.info("%s: connected%s, with %d jobs", self._executor.name, again, len(subscription.hello.held))

    async def _serve(self, subscription: Subscription) -> None:
        """Take what comes until the connection is lost or the server leaves."""
        try:
            leaves = False
            while not leaves:
                events = await subscription.next()
                self._pauses.begin_again()
                for event in events:
                    if isinstance(event, Job):
                        self._take(event)
                    elif isinstance(event, Revoke):
                        self._jobs.revoke(event.id, event.fence, event.reason)
                    elif isinstance(event, Drain):
                        leaves = True
            self._leave(subscription)
        except RexecutorError as error:
            _log.info("%s: %s", self._executor.name, error)
            if isinstance(error, SubscriptionLost) and error.code == _HEARD_NOTHING:
                _log.warning("%s: does a coroutine function block? The service heard nothing", self._executor.name)
            self._lose(subscription)

    def _take(self, job: Job) -> None:
        self._credits.take()
        if self._stopping.is_set() or self._is_ending:
            self._jobs.release(job.id, job.fence)
            return
        self._jobs.start(job)
        self._note_if_full()

    def _note_if_full(self) -> None:
        if self._jobs.executing >= self._credits.window:
            self._slots.note_full(self)

    def _lose(self, subscription: Subscription) -> None:
        if self._subscription is subscription:
            self._is_connected = False
            self._subscription = None
            self._settling.lost()
            self._credits.lose()
            self._jobs.lose_connection(subscription.alive_at, subscription.hello.lease)
            self._leases.keep()
        self._go_on_beside(self._close(subscription))

    async def _close(self, subscription: Subscription) -> None:
        await subscription.close()
        self._open.discard(subscription)

    def _leave(self, subscription: Subscription) -> None:
        """Connect elsewhere while the server that leaves still takes acknowledgements."""
        self._is_connected = False
        self._credits.lose()
        self._go_on_beside(self._serve(subscription))

    def _go_on_beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._old.add(task)
        task.add_done_callback(self._old.discard)

    async def _poll(self) -> Subscription:
        """Ask for jobs by request until a WebSocket gets through, which is tried now and then."""
        _log.warning("%s: WebSockets do not get through, asking for jobs by request", self._executor.name)
        self._is_polling = True
        self._settling.goes_by_request()
        seconds = _FIRST_POLLING_SECONDS
        while True:
            await self._polling.claim(self._room, seconds=seconds)
            with suppress(RexecutorError):
                return await self._subscribe()
            seconds = min(2 * seconds, _LONGEST_POLLING_SECONDS)

    def _room(self) -> int:
        self._note_if_full()
        return self._credits.window - len(self._jobs)

    def _make_room(self) -> None:
        self._credits.ask_soon()
        self._polling.wake()

    # Its part of the slots.

    @property
    def window(self) -> int:
        """How many jobs it may execute at once."""
        return self._credits.window

    @property
    def executing(self) -> int:
        """How many jobs it executes."""
        return self._jobs.executing

    @property
    def used(self) -> int:
        """How much of the window is taken: by jobs, by credits, or by a claim that may bring as many."""
        return self._credits.used + self._polling.asked

    def widen(self, window: int) -> None:
        """Take more slots."""
        self._credits.window = window
        self._make_room()

    async def narrow(self, window: int) -> None:
        """Give slots back; those that execute a job, or that a claim has asked for, follow once it has ended."""
        await self._credits.narrow(window)

    # The end.

    async def _drain(self, seconds: float) -> None:
        """Take no more jobs, and wait for those that run; whoever takes longer is told to stop, and tried again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._unless_abandoned(self._until_idle())
                return
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await self._unless_abandoned(self._jobs.stop())

    async def _until_idle(self) -> None:
        await self._take_no_more()
        await self._jobs.until_idle()

    async def _take_no_more(self) -> None:
        await self._credits.stop()
        await self._polling.stop()

    async def _unless_abandoned(self, work: Coroutine[Any, Any, None]) -> None:
        tasks = [asyncio.create_task(work), asyncio.create_task(self._abandoned.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancelled(tasks)

    async def _end(self, *tasks: asyncio.Task[Any]) -> None:
        self._is_ending = True
        if not self._abandoned.is_set():
            # Nothing comes any more that nobody would take, also when this is cancelled: what crossed is given back.
            await self._unless_abandoned(self._take_no_more())
            await asyncio.sleep(0)
        else:
            for each in self._open:
                each.abort()
        await _cancelled(tasks)
        await self._jobs.end()
        await self._leases.close()
        await _cancelled([*self._old])
        await asyncio.gather(*(each.close() for each in self._open))


async def _cancelled(tasks: Any) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
