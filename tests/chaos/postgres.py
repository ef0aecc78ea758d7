"""The phases that fault PostgreSQL, or one of two servers over it, under load."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.chaos.phases import FUNCTIONS, exit_at_each
from tests.chaos.proxy import Proxy
from tests.chaos.rig import Rig, Verdict, judged
from tests.cluster import FAST, IMMEDIATE, LIGHT, Cluster, own_cluster, run
from tests.end_to_end.server import Server, http_client

BACK_SECONDS = 5.0
"""After the database, or the loss of a server, the service is back within this."""
_LONGEST_CALL_SECONDS = 22.0
"""To wait for a statement that is given up, and behind it for one of the next's own, is what a call may take."""
_LEASE_SECONDS = 2
_PATIENCE_SECONDS = 40
_STOPPED_SECONDS = 10.0
_STALLED_SECONDS = 15.0
_PROBE_PAUSE_SECONDS = 0.05

# What has expired is forgotten with other things; a day is too long to wait for it.
_FUNCTIONS = ["complete_held", *(name for name in FUNCTIONS if name != "forget_answers")]
POINTS = [f"{function}.{moment}_commit" for function in _FUNCTIONS for moment in ("before", "after")]

Fault = Callable[["Rig", Cluster], Awaitable[None]]
"""Makes a fault; returns when it is over."""


class Probe:
    """A worker at one server, whose connection must outlive all faults of the database."""

    def __init__(self, server: Server) -> None:
        """Wait for jobs that :meth:`call` enqueues at any server."""
        self._server = server
        self.executor = f"probe-{server.settings['port']}"
        self._arrived: dict[str, asyncio.Event] = {}
        self._socket: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, and complete all that comes."""
        address = f"ws://127.0.0.1:{self._server.settings['port']}/v1/executors/{self.executor}/subscribe?prefetch=4"
        self._socket = await connect(address, proxy=None, close_timeout=1)
        self._reading = asyncio.create_task(self._read(self._socket))

    async def stop(self) -> None:
        if self._reading is not None and self._socket is not None:
            await self._socket.close()
            with suppress(WebSocketException):
                await self._reading

    async def is_reached_from(self, server: Server) -> None:
        """Enqueue at a server until that works, and wait until the job has come."""
        marker = uuid4().hex
        arrived = self._arrived[marker] = asyncio.Event()
        body = {"executor": self.executor, "data": {"marker": marker}, "max_attempts": 100}
        async with http_client(server.url) as http:
            while True:
                answer = await http.post("/v1/jobs", json=body)
                if answer.status_code == 201:
                    break
                assert answer.status_code == 503, answer.text
                await asyncio.sleep(_PROBE_PAUSE_SECONDS)  # a client would wait for as long as Retry-After says
        await arrived.wait()

    async def _read(self, socket: ClientConnection) -> None:
        async for frame in socket:
            message = json.loads(frame)
            if message["type"] == "job":
                job = message["job"]
                done = {
                    "type": "complete",
                    "id": job["id"],
                    "fence": job["fence"],
                    "ref": f"{job['id']}/{job['fence']}",
                }
                await socket.send(json.dumps(done))
                arrived = self._arrived.get(job["data"]["marker"])
                if arrived is not None:
                    arrived.set()
            elif message["type"] == "result" and not message["ok"] and message["problem"]["status"] == 503:
                await asyncio.sleep(_PROBE_PAUSE_SECONDS)
                job_id, fence = map(int, message["ref"].split("/"))
                repeat = {"type": "complete", "id": job_id, "fence": fence, "ref": message["ref"]}
                await socket.send(json.dumps(repeat))


class Probes:
    """A probe at each server, and how long the service was gone."""

    def __init__(self, rig: Rig) -> None:
        """Look at the servers of a rig."""
        self._rig = rig
        self._probes = {server.url: Probe(server) for server in rig.servers}
        self.back_seconds: list[float] = []

    async def start(self, *servers: Server) -> None:
        for server in servers or self._rig.servers:
            await self._probes[server.url].start()

    async def stop(self) -> None:
        for probe in self._probes.values():
            await probe.stop()

    async def lose(self, server: Server) -> None:
        """Hear that a server is gone, with its probe's connection."""
        await self._probes[server.url].stop()

    async def note_when_back(self, *servers: Server) -> None:
        """Measure until what is enqueued at each of the servers is done at each."""
        began_at = time.monotonic()
        among = servers or tuple(self._rig.servers)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await asyncio.gather(*(self._probes[to.url].is_reached_from(each) for each in among for to in among))
        except (TimeoutError, httpx2.TransportError, WebSocketException) as error:
            self._rig.faults.append(f"the service did not come back: {error!r}")
        self.back_seconds.append(time.monotonic() - began_at)
        if self.back_seconds[-1] > BACK_SECONDS:
            self._rig.faults.append(f"the service was back after {self.back_seconds[-1]:.1f} s")
        self._rig.faults += [f"server {each.url} has ended" for each in self._rig.servers if each.has_ended]


@asynccontextmanager
async def _under_load(rig: Rig) -> AsyncIterator[Probes]:
    for server in rig.servers:
        await asyncio.to_thread(server.start)
    balancer = Proxy(*(int(server.settings["port"]) for server in rig.servers))
    probes = Probes(rig)
    async with balancer.running(), rig.running(through=balancer.port, rest_through=balancer.port):
        await probes.start()
        try:
            await probes.note_when_back()
            probes.back_seconds.clear()
            yield probes
        finally:
            await probes.stop()


def _figures(rig: Rig, probes: Probes) -> None:
    back = probes.back_seconds
    rig.figures += [
        f"back after {min(back):.2f} to {max(back):.2f} s",
        f"the slowest call took {rig.client.slowest_seconds:.1f} s, {rig.client.cut_off} got no answer",
    ]
    if rig.client.slowest_seconds > _LONGEST_CALL_SECONDS:
        rig.faults.append(f"a call took {rig.client.slowest_seconds:.1f} s")


async def _faulted(name: str, did: str, folder: Path, count: int, seed: int, faults: list[Fault]) -> Verdict:
    """Run two servers under load, make each of the faults in turn, and see that they come back."""
    with own_cluster(LIGHT) as cluster:
        rig = _rig(folder, seed, cluster)

        async def go() -> None:
            async with _under_load(rig) as probes:
                for _ in range(count):
                    for fault in faults:
                        await asyncio.sleep(rig.dice.uniform(0.5, 1.5))
                        await fault(rig, cluster)
                        await probes.note_when_back()
            _figures(rig, probes)
            if rig.client.cut_off:
                rig.faults.append(f"{rig.client.cut_off} calls got no answer")

        return await judged(name, did, rig, go())


def _rig(folder: Path, seed: int, cluster: Cluster) -> Rig:
    return Rig(
        folder,
        seed,
        servers=2,
        patience_seconds=_PATIENCE_SECONDS,
        lease_seconds=_LEASE_SECONDS,
        database_url=cluster.url,
    )


async def _restart(cluster: Cluster, *, fast: bool, stopped_seconds: float = 0.0) -> None:
    await asyncio.to_thread(cluster.stop, FAST if fast else IMMEDIATE)
    await asyncio.sleep(stopped_seconds)
    await asyncio.to_thread(cluster.start)


async def _terminate_some(rig: Rig, cluster: Cluster, *, seconds: float) -> None:
    """End backends of the servers at random for a while, and all the listeners."""
    until = time.monotonic() + seconds
    ours = "FROM pg_stat_activity WHERE application_name = 'rexecutor'"
    while time.monotonic() < until:
        one = f"SELECT pg_terminate_backend(pid) {ours} ORDER BY random() LIMIT 1"
        await asyncio.to_thread(run, cluster.url, one)
        await asyncio.sleep(rig.dice.uniform(0.02, 0.2))
    await asyncio.to_thread(run, cluster.url, f"SELECT pg_terminate_backend(pid) {ours} AND query LIKE 'LISTEN%'")


async def _stall(cluster: Cluster, *, seconds: float) -> None:
    cluster.pause()
    try:
        await asyncio.sleep(seconds)
    finally:
        cluster.go_on()


async def restarts(folder: Path, count: int, seed: int) -> Verdict:
    """Restart PostgreSQL, both ways."""
    did = f"{count} × restart, fast and immediate"
    faults: list[Fault] = [
        lambda _, cluster: _restart(cluster, fast=True),
        lambda _, cluster: _restart(cluster, fast=False),
    ]
    return await _faulted("postgres-restarts", did, folder, count, seed, faults)


async def outages(folder: Path, count: int, seed: int) -> Verdict:
    """Stop PostgreSQL for longer than any lease."""
    did = f"{count} × stopped for {_STOPPED_SECONDS:.0f} s"
    faults: list[Fault] = [lambda _, cluster: _restart(cluster, fast=True, stopped_seconds=_STOPPED_SECONDS)]
    return await _faulted("postgres-outages", did, folder, count, seed, faults)


async def backends(folder: Path, count: int, seed: int) -> Verdict:
    """Terminate backends at random."""
    did = f"{count} × backends terminated for 3 s, at last the listeners"
    return await _faulted(
        "postgres-backends", did, folder, count, seed, [lambda rig, cluster: _terminate_some(rig, cluster, seconds=3)]
    )


async def stalls(folder: Path, count: int, seed: int) -> Verdict:
    """Let PostgreSQL stand still beyond all time limits."""
    did = f"{count} × SIGSTOP of PostgreSQL for {_STALLED_SECONDS:.0f} s"
    faults: list[Fault] = [lambda _, cluster: _stall(cluster, seconds=_STALLED_SECONDS)]
    return await _faulted("postgres-stalls", did, folder, count, seed, faults)


async def server_kills(folder: Path, count: int, seed: int) -> Verdict:
    """Kill one of two servers; the other serves on, and the first comes back."""
    with own_cluster(LIGHT) as cluster:
        rig = _rig(folder, seed, cluster)

        async def go() -> None:
            async with _under_load(rig) as probes:
                for number in range(count):
                    await asyncio.sleep(rig.dice.uniform(0.5, 1.5))
                    killed, other = rig.servers[number % 2], rig.servers[(number + 1) % 2]
                    await asyncio.to_thread(killed.kill)
                    await probes.lose(killed)
                    await probes.note_when_back(other)
                    await asyncio.to_thread(killed.start)
                    await probes.start(killed)
            _figures(rig, probes)

        return await judged("postgres-kills", f"{count} × kill -9 of one of two servers", rig, go())


async def failpoints(folder: Path, count: int, seed: int) -> Verdict:
    """Let a server exit at each of its failpoints in turn, ``count`` of them."""
    with own_cluster(LIGHT) as cluster:
        rig = Rig(folder, seed, database_url=cluster.url)
        return await exit_at_each("postgres-failpoints", rig, POINTS[:count])


async def short(folder: Path, count: int, seed: int) -> Verdict:
    """A little of everything."""
    did = f"{count} × restart (both ways), 4 s without, backends terminated, 5 s stall"
    faults: list[Fault] = [
        lambda _, cluster: _restart(cluster, fast=True),
        lambda rig, cluster: _terminate_some(rig, cluster, seconds=1.5),
        lambda _, cluster: _restart(cluster, fast=False, stopped_seconds=4),
        lambda _, cluster: _stall(cluster, seconds=5),
    ]
    return await _faulted("postgres", did, folder, count, seed, faults)
