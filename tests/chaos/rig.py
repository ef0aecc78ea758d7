"""Everything a phase of chaos needs: a server, worker processes, clients over REST, one history, one verdict."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import httpx2
from msgspec import Struct

from tests.end_to_end.server import ROOT, Server, environment
from tests.history.checker import find_violations
from tests.history.lines import Answered, AnyLine, Called, Connected, Delivered, Outcome, Recorder, read_history
from tests.history.rest_client import RestClient

EXECUTORS = ["mail", "video"]
LEASE_SECONDS = 1
DRAIN_SECONDS = 3
SETTINGS: dict[str, Any] = {"lease_seconds": LEASE_SECONDS, "drain_seconds": DRAIN_SECONDS, "log_level": "WARNING"}
_SETTLE_SECONDS = 90
_WORKER_SECONDS = 20
RAW_WORKER = "tests.history.worker_process"
SDK_WORKER = "tests.history.sdk_worker_process"


class Verdict(Struct, kw_only=True):
    """What a phase did, and what came of it."""

    phase: str
    did: str
    seconds: int
    enqueued: int
    deliveries: int
    resumed: int
    calls: int
    unknown: int
    violations: list[str]
    figures: list[str]
    """What was measured, in sentences."""


class WorkerProcess:
    """Stream workers in a process of their own."""

    def __init__(
        self, folder: Path, url: str, seed: int, *, longest_life_seconds: float, module: str = RAW_WORKER
    ) -> None:
        """Start it; its history is a file of its own."""
        with (folder / "workers.log").open("a") as log:
            self._process = subprocess.Popen(
                [
                    *(
                        sys.executable,
                        "-m",
                        module,
                        url,
                        str(folder / f"worker-{seed}.history"),
                    ),
                    *("--executors", *EXECUTORS, "--seed", str(seed)),
                    *("--longest-life-seconds", str(longest_life_seconds)),
                ],
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self, *, kindly: bool) -> int:
        """End it, with SIGTERM after it has finished what it has; return its exit status."""
        if kindly:
            self._process.terminate()
            self._process.send_signal(signal.SIGCONT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_WORKER_SECONDS)
        self._process.kill()
        status = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return status


class Rig:
    """One phase's servers and their clients; faults are for the phase to make."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        workers: int = 2,
        servers: int = 1,
        patience_seconds: float = 5.0,
        worker: str = RAW_WORKER,
        **settings: Any,
    ) -> None:
        """Prepare in a folder of its own; ``seed`` throws the dice, ``patience_seconds`` have callers."""
        self.folder = folder
        self.dice = Random(seed)
        folders = [folder / f"server-{number}" if number else folder for number in range(servers)]
        for each in folders[1:]:
            each.mkdir()
        self.servers = [Server(each, **{**SETTINGS, **settings}) for each in folders]
        self.server = self.servers[0]
        self._patience_seconds = patience_seconds
        self.workers: list[WorkerProcess] = []
        self.faults: list[str] = []
        """What went wrong beside the history."""
        self.figures: list[str] = []
        self.longest_life_seconds = 5.0
        self._worker_module = worker
        self._worker_count = workers
        self._workers_started = 0
        self._worker_url = ""
        self._clients: list[asyncio.Task[None]] = []
        self._recorder = Recorder(folder / "clients.history")
        self._http: httpx2.AsyncClient | None = None
        self.client: RestClient

    @asynccontextmanager
    async def running(
        self, *, through: int | None = None, rest_through: int | None = None, pause_seconds: float = 0.05
    ) -> AsyncIterator[None]:
        """Run it all under load; at the end settle, dump, and stop whatever happened.

        ``through`` and ``rest_through`` are the ports that workers and callers connect to instead of the server's.
        """
        try:
            for server in self.servers:
                if server.settings["port"] == "0":
                    await asyncio.to_thread(server.start)
            port = self.server.settings["port"]
            self._worker_url = f"ws://127.0.0.1:{through or port}"
            for _ in range(self._worker_count):
                await self.add_worker()
            self._http = httpx2.AsyncClient(
                base_url=f"http://127.0.0.1:{rest_through or port}", timeout=self._patience_seconds, trust_env=False
            )
            self.client = RestClient(self._http, self._recorder, self.dice, EXECUTORS)
            loads = [self.client.produce(pause_seconds) for _ in range(2)]
            loads += [self.client.operate(4 * pause_seconds), self.client.poll()]
            self._clients = [asyncio.create_task(load) for load in loads]
            yield
            await self._settle()
        finally:
            await self._stop_clients()
            for worker in self.workers:
                await asyncio.to_thread(worker.end, kindly=True)
            if self._http is not None:
                await self._http.aclose()
            for server in self.servers:
                with suppress(AssertionError):  # it is not running
                    if await asyncio.to_thread(server.stop):
                        self.faults.append("the server did not exit with 0 at the end")

    async def add_worker(self) -> WorkerProcess:
        """Start one more process of workers."""
        self._workers_started += 1
        worker = await asyncio.to_thread(
            lambda: WorkerProcess(
                self.folder,
                self._worker_url,
                self._workers_started,
                longest_life_seconds=self.longest_life_seconds,
                module=self._worker_module,
            )
        )
        self.workers.append(worker)
        return worker

    async def replace_worker(self, worker: WorkerProcess) -> None:
        """Kill a process of workers as ``kill -9`` does, and start another."""
        self.workers.remove(worker)
        await asyncio.to_thread(worker.end, kindly=False)
        await self.add_worker()

    async def deploy_worker(self, worker: WorkerProcess) -> int:
        """Start another process of workers, end this one with SIGTERM, and return its exit status."""
        await self.add_worker()
        self.workers.remove(worker)
        return await asyncio.to_thread(worker.end, kindly=True)

    async def _stop_clients(self) -> None:
        for client in self._clients:
            client.cancel()
        for ended in await asyncio.gather(*self._clients, return_exceptions=True):
            if isinstance(ended, Exception):
                self.faults.append(f"a client failed: {ended!r}")
        self._clients = []

    async def _settle(self) -> None:
        """Make no new jobs, let the workers end all there are, and write down what is stored."""
        pollers = self._clients[-1:]
        for client in self._clients[:-1]:
            if client.done() and not client.cancelled() and client.exception() is not None:
                self.faults.append(f"a client failed: {client.exception()!r}")
            client.cancel()
        self._clients = pollers
        until = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < until and await self.client.unfinished():
            await asyncio.sleep(0.3)
        await self._stop_clients()
        await self.client.dump()


async def judged(phase: str, did: str, rig: Rig, run: Coroutine[Any, Any, None]) -> Verdict:
    """Run a phase to its end and judge all that was recorded."""
    began_at = time.monotonic()
    await run
    files = sorted(rig.folder.glob("*.history"))
    lines = await asyncio.to_thread(lambda: list(read_history(files)))
    violations = await asyncio.to_thread(find_violations, lines)
    kinds = Counter(type(line) for line in lines)
    unknown = sum(isinstance(line, Answered) and line.outcome is Outcome.UNKNOWN for line in lines)
    return Verdict(
        phase=phase,
        did=did,
        seconds=round(time.monotonic() - began_at),
        enqueued=sum(len(line.job_ids) for line in lines if isinstance(line, Answered)),
        deliveries=kinds[Delivered],
        resumed=sum(isinstance(line, Connected) and line.resumed for line in lines),
        calls=kinds[Called],
        unknown=unknown + kinds[Called] - kinds[Answered],
        violations=[
            *(f"{each.rule}: {each.what}" for each in violations),
            *rig.faults,
            *rig.client.odd_answers,
            *(f"an acknowledgement was answered with {each.status}" for each in lines if _is_odd(each)),
            *_told_by_logs(rig),
        ],
        figures=rig.figures,
    )


def _is_odd(line: AnyLine) -> bool:
    return isinstance(line, Answered) and line.status >= 500 and line.status != 503


def _told_by_logs(rig: Rig) -> list[str]:
    """Return what the server logged as its own mistakes, and what a worker failed of; a kill may tear the last line."""
    told: list[str] = []
    for line in (line for server in rig.servers for line in server.log.read_text().splitlines()):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if event.get("level") in {"error", "critical"} or "exception" in event:
            told.append(f"the server logged {event.get('event')}: {str(event.get('exception', ''))[-300:]}")
    failed = (rig.folder / "workers.log").read_text() if (rig.folder / "workers.log").exists() else ""
    return told + ([f"a worker failed: {failed[-600:]}"] if "Traceback" in failed else [])
