"""Workers that never read: the others do not notice, the server's memory is bounded, their sockets are soon gone.

`make stalls` runs it with 100 workers and a strict judge; `make test` with a few, and roughly: its machine may be busy.
"""

import asyncio
import json
import os
import select
import socket
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from statistics import median

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.end_to_end.server import Server, http_client

WORKERS = int(os.environ.get("STALL_WORKERS", "8"))
LEAST_SHARE = float(os.environ.get("STALL_LEAST_SHARE", "0.5"))
ROUNDS = int(os.environ.get("STALL_ROUNDS", "1"))
SECONDS = float(os.environ.get("STALL_SECONDS", "3"))
PREFETCH = 500
PAYLOAD = 20_000
GONE_SECONDS = 30
CUT_OFF_SECONDS = 25
MEMORY_PER_STALLED = 8 * 1024 * 1024
MEMORY_OF_LOAD = 64 * 1024 * 1024
"""What the bulks and the workers that read may need meanwhile."""

pytestmark = pytest.mark.timeout(600)


def open_files(server: Server) -> int:
    return sum(1 for _ in Path(f"/proc/{server.pid}/fd").iterdir())


def resident_bytes(server: Server) -> int:
    for line in Path(f"/proc/{server.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def stall(server: Server) -> socket.socket:
    """Connect as a worker that wants jobs, and never read."""
    path = f"/v1/executors/mail/subscribe?prefetch={PREFETCH}&batch=true"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
    return ask(server, f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n\r\n")


def ask(server: Server, request: str) -> socket.socket:
    """Send a request, and have little room for the answer."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    raw.connect(("127.0.0.1", int(server.settings["port"])))
    raw.sendall(request.encode())
    return raw


class Crew:
    """Workers that read; counts what they complete."""

    def __init__(self) -> None:
        self.completed = 0
        self.has_enough = asyncio.Event()

    async def work(self, server: Server) -> None:
        url = f"{server.url.replace('http', 'ws', 1)}/v1/executors/mail/subscribe?prefetch=20&batch=true"
        with suppress(ConnectionClosed):
            async with connect(url, proxy=None, max_size=None, compression=None) as worker:
                async for frame in worker:
                    jobs = [message["job"] for message in json.loads(frame) if message["type"] == "job"]
                    done = [{"type": "complete", "id": job["id"], "fence": job["fence"]} for job in jobs]
                    if done:
                        await worker.send(json.dumps(done))
                        self.completed += len(done)

    async def rate(self) -> float:
        before = self.completed
        await asyncio.sleep(SECONDS)  # the measurement
        return (self.completed - before) / SECONDS


async def produce(server: Server, crew: Crew, needed: int) -> None:
    """Keep so many jobs ahead of the crew."""
    bulk = json.dumps({"jobs": [{"executor": "mail", "data": "x" * PAYLOAD}] * 100})
    added = 0
    async with http_client(server.url) as http:
        while True:
            if added - crew.completed < needed:
                answer = await http.post("/v1/jobs/bulk", content=bulk, headers={"content-type": "application/json"})
                assert answer.status_code == 200
                added += 100
            else:
                crew.has_enough.set()
                await asyncio.sleep(0.02)  # nothing tells when the crew has worked off a part


async def until_no_more_are_taken(server: Server) -> None:
    """Wait until no job is claimed any more."""
    taken, before = 0, -1
    async with http_client(server.url) as http:
        while taken != before:
            before = taken
            await asyncio.sleep(0.5)  # longer than any claim
            (mail,) = (await http.get("/v1/executors")).json()["executors"]
            taken = mail["counts"].get("executing", 0)


async def trial(folder: Path) -> float:
    """Let half of the workers stall; return what share of their speed the others keep."""
    server = Server(folder, lease_seconds=30, drain_seconds=10, log_level="INFO")
    stalled = WORKERS // 2
    with server.running():
        crew = Crew()
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            producer = tasks.create_task(produce(server, crew, stalled * PREFETCH + 10_000))
            async with asyncio.timeout(300):
                await crew.has_enough.wait()
                await until_no_more_are_taken(server)  # readers open the database's files once
            files, memory = open_files(server), resident_bytes(server)
            loop = asyncio.get_running_loop()
            begun_at = loop.time()
            for _ in range(stalled):
                raw = stall(server)
                stack.callback(raw.close)
            # They take jobs until all buffers are full; only then is it them that the others work beside.
            await until_no_more_are_taken(server)
            workers = [tasks.create_task(crew.work(server)) for _ in range(WORKERS - stalled)]
            async with asyncio.timeout(60):
                while crew.completed < 20 * len(workers):
                    await asyncio.sleep(0.05)  # all have begun
            beside = await crew.rate()
            connected = WORKERS - stalled
            # The first to be full may be cut off already.
            assert open_files(server) >= files + connected + stalled * 3 // 4
            peak = resident_bytes(server)
            while open_files(server) > files + connected:
                assert loop.time() < begun_at + GONE_SECONDS
                await asyncio.sleep(0.1)  # the server closes them
                peak = max(peak, resident_bytes(server))
            gone_after = loop.time() - begun_at
            alone = await crew.rate()
            for task in (producer, *workers):
                task.cancel()
    print(
        f"{stalled} of {WORKERS} workers stall: the others complete {beside:.0f} jobs/s beside them, {alone:.0f} alone;"
        f" memory +{(peak - memory) / 1024 / 1024:.0f} MiB; sockets gone after {gone_after:.0f} s"
    )
    told = [event for event in server.events() if event["event"] == "worker.stalled"]
    assert len(told) == stalled
    assert peak - memory < stalled * MEMORY_PER_STALLED + MEMORY_OF_LOAD
    return beside / alone


async def test_workers_that_never_read_cost_the_others_little_and_are_soon_gone(tmp_path):
    shares: list[float] = []
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        shares.append(await trial(folder))
    assert median(shares) >= LEAST_SHARE


async def test_reader_of_a_long_answer_that_stops_is_cut_off(tmp_path):
    server = Server(tmp_path, log_level="INFO")
    with server.running():
        async with http_client(server.url) as http:
            for _ in range(4):
                jobs = [{"executor": "mail", "data": "x" * PAYLOAD}] * 100
                await http.post("/v1/jobs/bulk", json={"jobs": jobs})
        body = '{"query":{"and":[]},"limit":1000}'
        head = (
            f"POST /v1/jobs/query HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        with ask(server, f"{head}\r\n\r\n{body}") as raw:
            reset = select.poll()
            reset.register(raw, 0)
            assert await asyncio.to_thread(reset.poll, CUT_OFF_SECONDS * 1_000)
