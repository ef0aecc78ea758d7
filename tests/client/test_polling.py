"""Where something on the way refuses WebSockets a worker gets its jobs by request, and goes back once they pass."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from datetime import timedelta
from enum import StrEnum
from functools import partial

import pytest

from rexecutor_client import AsyncClient, Job, Where, Worker, executor, leases, line, polling
from rexecutor_client.subscription import subscribe

PATIENCE_SECONDS = 30
LEASE_SECONDS = 1
"""Of the server of the tests."""

pytestmark = pytest.mark.timeout(90)


class Way(StrEnum):
    """What a proxy makes of a handshake."""

    ANSWERS = "it answers with a page of its own"
    FORGETS = "it passes a request on that asks for no upgrade"
    HANGS = "it waits for something"
    DROPS = "it ends the connection"


class Front:
    """Passes requests on, but no upgrades while ``refuses``, in its way."""

    def __init__(self, target: int, way: Way = Way.ANSWERS) -> None:
        self.refuses = True
        self._way = way
        self._target = target
        self._serving: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Listen; give the URL."""
        async with await asyncio.start_server(self._accept, "127.0.0.1", 0) as server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    def break_all(self) -> None:
        """Break what is connected."""
        for task in self._serving:
            task.cancel()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError), closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            if self.refuses and b"upgrade: websocket" in head.lower():
                await self._refuse(head, reader, writer)
            else:
                await self._pass_on(head, reader, writer)

    async def _refuse(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match self._way:
            case Way.ANSWERS:
                writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nno.\n")
            case Way.FORGETS:
                await self._pass_on(re.sub(rb"(?i)(upgrade|connection):[^\r]*\r\n", b"", head), reader, writer)
            case Way.HANGS:
                await reader.read()
            case Way.DROPS:
                pass

    async def _pass_on(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        with closing(to_server):
            to_server.write(head)
            ways = [asyncio.create_task(_pump(*way)) for way in ((reader, to_server), (from_server, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


@executor("mail")
async def send(_: Job) -> None:
    """Do nothing."""


@executor("report")
async def report(_: Job) -> None:
    await asyncio.sleep(2)


@pytest.fixture
async def front(served) -> AsyncIterator[tuple[Front, str]]:
    front = Front(int(served.settings["port"]))
    async with front.running() as url:
        yield front, url


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    running = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await running


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


async def done(worker: Worker, count: int) -> None:
    await until(lambda: worker.status.done >= count)


async def test_jobs_come_by_request_and_over_the_socket_again_once_it_passes(served, front, monkeypatch):
    monkeypatch.setattr(line, "_FIRST_POLLING_SECONDS", 0.5)
    monkeypatch.setattr(polling, "_WAIT", timedelta(seconds=0.2))
    between, url = front
    worker = Worker([send], url=url)
    async with AsyncClient(served.url) as client, working(worker):
        await client.enqueue_many([send.job() for _ in range(50)])
        await done(worker, 50)
        assert worker.status.executors[0].connections == 0
        assert worker.status.is_healthy
        between.refuses = False
        await until(lambda: worker.status.executors[0].connections == 1)
        await client.enqueue_many([send.job() for _ in range(50)])
        await done(worker, 100)
        jobs = [job async for job in client.jobs(Where.executor_equals("mail"), page_size=200)]
        assert {(job.status, job.attempt) for job in jobs} == {("complete", 1)}


@pytest.mark.parametrize("way", [Way.FORGETS, Way.HANGS, Way.DROPS])
async def test_whatever_a_proxy_makes_of_websockets_jobs_come_by_request(served, monkeypatch, way):
    """Where it forgets the upgrade, as nginx does by itself, the service says that there is no such page."""
    monkeypatch.setattr(line, "subscribe", partial(subscribe, timeout=0.3))
    async with Front(int(served.settings["port"]), way).running() as url, AsyncClient(served.url) as client:
        worker = Worker([send], url=url)
        async with working(worker):
            await client.enqueue(send.job())
            await done(worker, 1)
            assert worker.status.executors[0].connections == 0


async def test_job_that_takes_longer_than_its_lease_is_kept(served, front, monkeypatch):
    monkeypatch.setattr(leases, "_LEASE_SECONDS", 1.0)
    worker = Worker([report], url=front[1])
    async with AsyncClient(served.url) as client, working(worker):
        enqueued = await client.enqueue(report.job())
        await done(worker, 1)
        job = await client.get_job(enqueued.id)
        assert (job.status, job.attempt, job.error_count) == ("complete", 1, 0)


async def test_job_that_another_took_is_revoked(served, front, monkeypatch):
    monkeypatch.setattr(leases, "_LEASE_SECONDS", 1.0)
    worker = Worker([report], url=front[1])
    async with AsyncClient(served.url) as client, working(worker):
        enqueued = await client.enqueue(report.job())
        await until(lambda: worker.status.running == 1)
        await client.rerun_job(enqueued.id, force=True)
        await done(worker, 1)
        assert worker.status.executors[0].revoked == 1
        assert (await client.get_job(enqueued.id)).status == "complete"


async def test_jobs_of_a_lost_connection_are_kept_by_request_and_go_back_with_it(served, front, monkeypatch):
    """Longer than any lease: nobody else gets them meanwhile."""
    monkeypatch.setattr(leases, "_LEASE_SECONDS", 1.0)
    monkeypatch.setattr(line, "_FIRST_POLLING_SECONDS", 0.5)
    monkeypatch.setattr(line, "_LONGEST_POLLING_SECONDS", 0.5)
    go_on = asyncio.Event()

    @executor("report")
    async def wait(_: Job) -> None:
        await go_on.wait()

    between, url = front
    between.refuses = False
    worker = Worker([wait], url=url)
    async with AsyncClient(served.url) as client, working(worker):
        await client.enqueue_many([wait.job() for _ in range(3)])
        await until(lambda: worker.status.running == 3)
        between.refuses = True
        between.break_all()
        await asyncio.sleep(3 * LEASE_SECONDS)
        assert worker.status.executors[0].connections == 1
        between.refuses = False
        await until(lambda: worker.status.executors[0].connections == 2)
        await asyncio.sleep(3 * LEASE_SECONDS)
        go_on.set()
        await done(worker, 3)
        jobs = [job async for job in client.jobs(Where.executor_equals("report"))]
        assert {(job.status, job.attempt, job.error_count) for job in jobs} == {("complete", 1, 0)}
        assert worker.status.executors[0].revoked == 0


async def test_slots_that_a_claim_has_asked_for_are_not_lent(served, front):
    now = most = 0
    go_on = asyncio.Event()

    async def stay(_: Job) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await go_on.wait()
        now -= 1

    busy, idle = executor("busy")(stay), executor("idle")(stay)
    worker = Worker([busy, idle], url=front[1], concurrency=10)
    async with AsyncClient(served.url) as client, working(worker):
        await until(lambda: worker._lines[1]._polling.asked == 5)
        await client.enqueue_many([busy.job() for _ in range(30)])
        # All but one, which is still asked for.
        await until(lambda: now == 9)
        await client.enqueue_many([idle.job() for _ in range(10)])
        await until(lambda: now == 10)
        await asyncio.sleep(1)
        go_on.set()
        await done(worker, 40)
    assert most == 10


async def test_stop_ends_what_runs_and_takes_nothing_more(served, front):
    worker = Worker([report], url=front[1], concurrency=1)
    async with AsyncClient(served.url) as client:
        async with working(worker):
            await client.enqueue_many([report.job() for _ in range(2)])
            await until(lambda: worker.status.running == 1)
        jobs = [job async for job in client.jobs(Where.executor_equals("report"))]
        assert sorted(job.status for job in jobs) == ["complete", "scheduled"]
