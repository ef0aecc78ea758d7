"""A worker: runs the jobs of its executors as they become due, until it is told to stop."""

import asyncio
import logging
import signal
import socket
from collections.abc import Iterable
from os import getpid
from typing import Any

from msgspec import Struct

from .async_client import AsyncClient
from .errors import RexecutorError
from .execution import Executor
from .line import Line, LineStatus
from .slots import Slots, shares

_CONNECTIONS = 100
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger("rexecutor")


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """How a worker does."""

    name: str
    stopping: bool
    executors: tuple[LineStatus, ...]

    @property
    def running(self) -> int:
        """How many jobs run."""
        return sum(line.running for line in self.executors)

    @property
    def done(self) -> int:
        """How many jobs have been completed."""
        return sum(line.done for line in self.executors)

    @property
    def failed(self) -> int:
        """How many executions have failed: their jobs are retried or were discarded."""
        return sum(line.failed for line in self.executors)

    @property
    def is_healthy(self) -> bool:
        """Whether jobs of all executors can come."""
        return not self.stopping and all(line.connected for line in self.executors)


class Worker:
    """Runs jobs of several executors at once, over one connection for each."""

    def __init__(
        self,
        executors: Iterable[Executor[Any, Any]],
        *,
        url: str | None = None,
        api_key: str | None = None,
        concurrency: int = 20,
        name: str | None = None,
        drain_seconds: float = 25.0,
    ) -> None:
        """Run at most ``concurrency`` jobs at once: of each executor its share, and what others leave free.

        ``name`` is shown to people; by default it tells the machine and the process. ``drain_seconds`` bounds how long
        a stop waits for the jobs that run; those that take longer are cancelled, and tried again at once.
        """
        self._executors = tuple(executors)
        names = [each.name for each in self._executors]
        if not names or len({*names}) < len(names):
            raise ValueError("a worker needs executors, each of another name")
        if concurrency < len(names):
            raise ValueError(f"{len(names)} executors need a concurrency of as many at least")
        self.name = name or f"{socket.gethostname()}-{getpid()}"
        # What a line says is repeated by the line. By request each has a claim out for most of the time.
        most_connections = _CONNECTIONS + len(names)
        self._client = AsyncClient(url, api_key=api_key, retry_seconds=0, max_connections=most_connections)
        self._drain_seconds = drain_seconds
        self._stopping = asyncio.Event()
        self._signals = 0
        self._refusal: Exception | None = None
        self._slots = Slots(concurrency)
        limits = [min(each.most_at_once or concurrency, concurrency) for each in self._executors]
        self._lines = [
            Line(
                each,
                self._client,
                worker=self.name,
                api_key=api_key,
                most=most,
                window=window,
                slots=self._slots,
                stopping=self._stopping,
            )
            for each, most, window in zip(self._executors, limits, shares(limits, concurrency), strict=True)
        ]

    @property
    def status(self) -> WorkerStatus:
        """How it does now."""
        lines = tuple(line.status for line in self._lines)
        return WorkerStatus(name=self.name, stopping=self._stopping.is_set(), executors=lines)

    def stop(self) -> None:
        """Take no more jobs, let those that run end, then return from :meth:`run`."""
        self._stopping.set()

    async def run(self, *, handle_signals: bool = False) -> None:
        """Work until :meth:`stop`; with ``handle_signals`` also until SIGTERM or SIGINT, at the second of them at once.

        When the service refuses the worker for good, as for a missing key, it stops likewise and raises the Problem.
        """
        loop = asyncio.get_running_loop()
        if handle_signals:
            for number in _SIGNALS:
                loop.add_signal_handler(number, self._signalled)
        sharing = asyncio.create_task(self._slots.share(self._lines))
        try:
            async with asyncio.TaskGroup() as tasks:
                for line in self._lines:
                    tasks.create_task(self._run_line(line))
        finally:
            sharing.cancel()
            if handle_signals:
                for number in _SIGNALS:
                    loop.remove_signal_handler(number)
            for each in self._executors:
                each.close()
            await self._client.close()
        if self._refusal is not None:
            raise self._refusal

    async def _run_line(self, line: Line) -> None:
        try:
            await line.run(drain_seconds=self._drain_seconds)
        except RexecutorError as refusal:
            _log.error("%s: the service refuses this worker: %s", line.status.executor, refusal)
            self._end_with(refusal)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised once all have ended
            _log.exception("%s: the worker cannot go on", line.status.executor)
            self._end_with(error)

    def _end_with(self, error: Exception) -> None:
        """Let what runs for other executors end."""
        self._refusal = self._refusal or error
        self.stop()

    def _signalled(self) -> None:
        self._signals += 1
        if self._signals == 1:
            _log.info("stopping: no more jobs are taken, those that run may end; once more ends at once")
            self.stop()
        else:
            for line in self._lines:
                line.abandon()
