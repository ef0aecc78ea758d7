"""A worker's place in the line of one executor: connected, or on its way back; its jobs, and what is said of them."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from typing import Any

from msgspec import Struct

from .async_client import AsyncClient
from .errors import (
    Forbidden,
    InvalidRequest,
    JobProblem,
    NotFound,
    Problem,
    RexecutorError,
    Unauthorized,
    UnexpectedAnswer,
)
from .events import Drain, Revoke
from .execution import Executor
from .job import ExecutionError, Job
from .polling import Polling
from .results import Discard, Done, Result, Retry
from .settlement import Settlement, by_request, over_stream, release_of, repaired, settlement_of
from .subscription import Subscription, SubscriptionLost, subscribe

_FOR_GOOD = (Unauthorized, Forbidden, NotFound, InvalidRequest)
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_STOP_SECONDS = 5.0
_REFUSED_UPGRADES = 3
"""So often something between refuses WebSockets before jobs are asked for by request instead."""

_log = logging.getLogger("rexecutor")


class LineStatus(Struct, frozen=True, kw_only=True):
    """How a worker does with one executor."""

    executor: str
    connected: bool
    running: int
    done: int
    failed: int
    revoked: int
    connections: int
    """How many connections it has had."""


class _Running(Struct):
    job: Job
    task: asyncio.Task[None]
    executes: bool = True
    """Whether it is still executed; then it is said what came of it."""
    polled: bool = False
    """Whether it came by request: no connection holds it."""


class Line:
    """Takes an executor's jobs, runs each, and says what came of it until the service has answered."""

    def __init__(
        self,
        executor: Executor[Any, Any],
        client: AsyncClient,
        *,
        worker: str,
        api_key: str | None,
        concurrency: int,
        stopping: asyncio.Event,
    ) -> None:
        """Run at most ``concurrency`` jobs at once, until ``stopping``."""
        self._executor = executor
        self._client = client
        self._worker = worker
        self._api_key = api_key
        self._concurrency = concurrency
        self._stopping = stopping
        self._abandoned = asyncio.Event()
        self._subscription: Subscription | None = None
        self._polling = Polling(client, executor.name, worker)
        self._polls = False
        self._connected = asyncio.Event()
        self._token: str | None = None
        self._leased_until = 0.0
        self._jobs: dict[int, _Running] = {}
        self._beside: set[asyncio.Task[None]] = set()
        """What goes on beside: old connections, and the renewal of leases."""
        self._releases: set[asyncio.Task[None]] = set()
        self._connections = self._done = self._failed = self._revoked = 0

    @property
    def status(self) -> LineStatus:
        """How it does."""
        return LineStatus(
            executor=self._executor.name,
            connected=self._connected.is_set(),
            running=sum(each.executes for each in self._jobs.values()),
            done=self._done,
            failed=self._failed,
            revoked=self._revoked,
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
            await _cancelled([work, *ends])
            await _cancelled([*(each.task for each in self._jobs.values()), *self._releases, *self._beside])
            if self._subscription is not None:
                await self._subscription.close()
        if not work.cancelled():
            work.result()

    # Connections.

    async def _work(self) -> None:
        refused_upgrades = 0
        while True:
            try:
                subscription = await self._connect()
                refused_upgrades = 0
            except UnexpectedAnswer as error:
                refused_upgrades += 1
                _log.warning("%s: no WebSocket: %s", self._executor.name, error)
                if refused_upgrades >= _REFUSED_UPGRADES:
                    await self._poll()
                continue
            await self._serve(subscription)
            # A server that takes connections only to close them is not asked again in the same moment.
            await asyncio.sleep(_spread(_FIRST_PAUSE_SECONDS))

    async def _connect(self) -> Subscription:
        """Connect, however long it takes, and take the session up where it was."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                subscription = await subscribe(
                    self._client.url,
                    self._executor.name,
                    api_key=self._api_key,
                    worker=self._worker,
                    prefetch=0 if self._stopping.is_set() else max(1, self._concurrency - self._polled),
                    resume=self._token,
                )
            except _FOR_GOOD:
                raise
            except UnexpectedAnswer:
                await asyncio.sleep(_spread(pause))
                raise
            except RexecutorError as error:
                _log.info("%s: not connected: %s", self._executor.name, error)
                self._revoke_what_lapsed()
                asked = error.retry_after if isinstance(error, Problem) else None
                await asyncio.sleep(_spread(min(asked or pause, _LONGEST_PAUSE_SECONDS)))
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
                continue
            self._adopt(subscription)
            return subscription

    def _adopt(self, subscription: Subscription) -> None:
        hello = subscription.hello
        self._subscription = subscription
        self._token = hello.resume
        self._connections += 1
        self._connected.set()
        held = {job.id: job.fence for job in hello.held}
        for job_id, running in [*self._jobs.items()]:
            if held.get(job_id) == running.job.fence:
                del held[job_id]
            elif running.executes and not running.polled:
                self._revoke(job_id, running.job.fence, "lost")
        for job_id, fence in held.items():
            # It was on its way here when the connection broke.
            _keep(self._releases, self._say(release_of(job_id, fence)))
        if hello.resumed:
            _log.info("%s: connected again, with %d jobs", self._executor.name, len(hello.held))

    async def _serve(self, subscription: Subscription) -> None:
        """Take what comes until the connection is lost or the server leaves."""
        try:
            leaves = False
            while not leaves:
                for event in await subscription.next():
                    if isinstance(event, Job):
                        self._start(event)
                    elif isinstance(event, Revoke):
                        self._revoke(event.id, event.fence, event.reason)
                    elif isinstance(event, Drain):
                        leaves = True
            self._leave(subscription)
        except RexecutorError as error:
            _log.info("%s: %s", self._executor.name, error)
            self._lose(subscription)

    def _lose(self, subscription: Subscription) -> None:
        if self._subscription is subscription:
            self._connected.clear()
            self._subscription = None
            self._leased_until = asyncio.get_running_loop().time() + subscription.hello.lease
        _keep(self._beside, subscription.close())

    def _leave(self, subscription: Subscription) -> None:
        """Connect elsewhere while the server that leaves still takes acknowledgements."""
        self._connected.clear()
        _keep(self._beside, self._serve(subscription))

    def _revoke_what_lapsed(self) -> None:
        """Without a connection for a lease the jobs are others' by now."""
        if self._jobs and asyncio.get_running_loop().time() > self._leased_until and self._subscription is None:
            for job_id, running in [*self._jobs.items()]:
                if running.executes and not running.polled:
                    self._revoke(job_id, running.job.fence, "lost")

    @property
    def _polled(self) -> int:
        return sum(each.polled for each in self._jobs.values())

    async def _poll(self) -> None:
        """Ask for jobs by request for a while, where WebSockets do not get through."""
        _log.warning("%s: asking for jobs by request", self._executor.name)
        self._polls = True
        self._connected.set()
        claiming = asyncio.create_task(
            self._polling.claim(lambda: self._concurrency - len(self._jobs), self._start_polled)
        )
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            # A claim that is given up gives back what it brings.
            await asyncio.wait([claiming, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancelled([claiming, stopping])
            self._polls = self._stopping.is_set()
            if not self._polls:
                self._connected.clear()
        if self._stopping.is_set():
            # Results go by request until the end.
            await asyncio.Event().wait()

    def _start_polled(self, job: Job) -> None:
        begins = not self._polled
        self._start(job)
        self._jobs[job.id].polled = True
        if begins:
            _keep(
                self._beside,
                self._polling.renew(
                    lambda: [each.job for each in self._jobs.values() if each.polled],
                    lambda lost: self._revoke(lost.id, lost.fence, "lost"),
                ),
            )

    # Jobs.

    def _start(self, job: Job) -> None:
        if (earlier := self._jobs.get(job.id)) is not None:
            # It came back under a new fence before the old execution was told.
            self._revoke(job.id, earlier.job.fence, "lost")
        task = asyncio.create_task(self._execute(job))
        self._jobs[job.id] = _Running(job, task)

    async def _execute(self, job: Job) -> None:
        try:
            result = await self._executor.run(job)
        except asyncio.CancelledError:
            if job.revoked is None:
                raise
            self._forget(job)
            return
        except BaseException as error:  # noqa: BLE001 - SystemExit too is an execution's failure, not the worker's end
            result = self._executor.failed(job, ExecutionError("panic", repr(error)))
        running = self._jobs.get(job.id)
        if job.revoked is not None or running is None or running.job is not job:
            self._forget(job)
            return
        running.executes = False
        self._count(result)
        try:
            await self._say(settlement_of(job, result))
        finally:
            self._forget(job)

    def _count(self, result: Result) -> None:
        if isinstance(result, Done):
            self._done += 1
        elif isinstance(result, (Retry, Discard)):
            self._failed += 1

    def _forget(self, job: Job) -> None:
        running = self._jobs.get(job.id)
        if running is not None and running.job is job:
            del self._jobs[job.id]
            if running.polled:
                self._polling.wake()
                if self._subscription is not None:
                    # It had taken the place of a credit.
                    self._subscription.request(1)

    def _revoke(self, job_id: int, fence: int, reason: str) -> None:
        running = self._jobs.get(job_id)
        if running is None or running.job.fence != fence:
            return
        running.job.revoked = reason
        del self._jobs[job_id]
        if running.executes:
            self._revoked += 1
            _log.info("job %d: revoked (%s)", job_id, reason)
        running.task.cancel()

    # What is said of them.

    async def _say(self, settlement: Settlement) -> None:
        """Say it until the service has answered. What has come too late is logged, and the job is another's."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._said(settlement)
            except JobProblem as refusal:
                _log.warning("job %d: %s came too late: %s", settlement.job_id, settlement.kind, refusal)
            except InvalidRequest as refusal:
                if settlement.kind != "release":
                    settlement = repaired(settlement, refusal) or release_of(settlement.job_id, settlement.fence)
                    continue
            except SubscriptionLost:
                # The same fence makes the repeat harmless; without a connection it waits for the next.
                continue
            except RexecutorError as error:
                _log.info("job %d: %s not taken yet: %s", settlement.job_id, settlement.kind, error)
                await asyncio.sleep(_spread(pause))
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
                continue
            return

    def _said(self, settlement: Settlement) -> Awaitable[Any]:
        if self._polls:
            return by_request(self._client, settlement)
        if self._subscription is not None and self._subscription.is_open:
            return over_stream(self._subscription, settlement)
        return self._wait_to_say()

    async def _wait_to_say(self) -> None:
        await asyncio.sleep(0)
        await self._connected.wait()
        raise SubscriptionLost(None, "connected again")

    # The end.

    async def _drain(self, seconds: float) -> None:
        """Take no more jobs, and wait for those that run; whoever takes longer is told to stop, and tried again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop_taking()
                if await self._abandoned_before(self._idle()):
                    return
        if self._abandoned.is_set():
            return
        late = [running for running in self._jobs.values() if running.executes]
        for running in late:
            running.job.revoked = "stopped"
            running.task.cancel()
        error = ExecutionError("cancelled", "the worker stopped before it was done")
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                sayings = [self._said(settlement_of(running.job, Retry(None, error))) for running in late]
                await asyncio.gather(*sayings, return_exceptions=True)

    async def _stop_taking(self) -> None:
        subscription = self._subscription
        if subscription is not None and subscription.is_open:
            with suppress(TimeoutError, RexecutorError):
                await asyncio.wait_for(subscription.stop(), _STOP_SECONDS)

    async def _idle(self) -> None:
        # A job may have come right before the stop: it is started in the turn in which it is read.
        await asyncio.sleep(0)
        while self._jobs or self._releases:
            tasks = [*(running.task for running in self._jobs.values()), *self._releases]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)

    async def _abandoned_before(self, end: Awaitable[None]) -> bool:
        work = asyncio.ensure_future(end)
        abandoned = asyncio.create_task(self._abandoned.wait())
        try:
            await asyncio.wait([work, abandoned], return_when=asyncio.FIRST_COMPLETED)
            return work.done() or abandoned.done()
        finally:
            await _cancelled([work, abandoned])


def _keep(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _cancelled(tasks: list[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _spread(seconds: float) -> float:
    """Return about so long, so that many workers do not come at once."""
    return seconds * random.uniform(0.7, 1.3)  # noqa: S311 - no secret
