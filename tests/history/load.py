"""Callers and workers at one server after the other, whose history is judged at the end."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from tests.chaos.rig import EXECUTORS, WorkerProcess
from tests.end_to_end.server import Server, http_client
from tests.history.checker import find_violations
from tests.history.lines import Answered, Connected, Delivered, Outcome, Recorder, read_history
from tests.history.rest_client import RestClient

_LIFE_SECONDS = 2.0
_SETTLE_SECONDS = 60


class Load:
    """Runs until it is settled; what one server has acknowledged, the operators at all of them act on."""

    def __init__(self, folder: Path) -> None:
        """Write the history into a folder."""
        self._folder = folder
        self._stack = AsyncExitStack()
        self._recorder = Recorder(folder / "clients.history")
        self._stack.callback(self._recorder.close)
        self._dice = Random(1)
        self._clients: list[RestClient] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._processes = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await self._stack.__aexit__(kind, error, traceback)

    async def begin_at(self, server: Server) -> None:
        """Let producers, operators and workers come to a server too."""
        client = RestClient(
            await self._stack.enter_async_context(http_client(server.url)), self._recorder, self._dice, EXECUTORS
        )
        client.known = self._clients[0].known if self._clients else client.known
        self._clients.append(client)
        await self.add_workers(int(server.settings["port"]))
        loads = client.produce(0.03), client.operate(0.1), client.poll()
        self._tasks += [asyncio.create_task(load) for load in loads]

    async def add_workers(self, port: int) -> None:
        """Let workers come to a port."""
        address, seed = f"ws://127.0.0.1:{port}", self._processes
        self._processes += 1
        workers = await asyncio.to_thread(
            WorkerProcess, self._folder, address, seed, longest_life_seconds=_LIFE_SECONDS
        )
        self._stack.push_async_callback(asyncio.to_thread, workers.end, kindly=True)

    @property
    def enqueued(self) -> int:
        """How many jobs there are so far."""
        return len(self._clients[0].known)

    async def settle(self) -> None:
        """Make no new jobs, let the workers end all there are, and write down what is stored."""
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        assert [each for each in ended if isinstance(each, Exception)] == []
        async with asyncio.timeout(_SETTLE_SECONDS):
            while await self._clients[0].unfinished():
                await asyncio.sleep(0.2)  # leases have to run out first
        await self._clients[-1].dump()
        await self._stack.aclose()

    def judge(self) -> Counter[str]:
        """Find no promise broken; return how much was seen."""
        assert "Traceback" not in (self._folder / "workers.log").read_text()
        lines = list(read_history(sorted(self._folder.glob("*.history"))))
        assert find_violations(lines) == []
        return Counter(
            jobs=self.enqueued,
            deliveries=sum(isinstance(line, Delivered) for line in lines),
            resumed=sum(isinstance(line, Connected) and line.resumed for line in lines),
            unknown=sum(isinstance(line, Answered) and line.outcome is Outcome.UNKNOWN for line in lines),
        )
