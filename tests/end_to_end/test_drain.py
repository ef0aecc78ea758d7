"""SIGTERM: workers hear of it and may finish, nothing new goes out, and the process ends in time whoever stalls."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.end_to_end.server import ROOT, Server, environment, http_client, wait_until
from tests.end_to_end.test_stream import address, close_code, receive

DRAIN_SECONDS = 8.0
LEASE_SECONDS = 20


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path, lease_seconds=LEASE_SECONDS, drain_seconds=DRAIN_SECONDS)
    server.start()
    yield server
    with suppress(AssertionError):
        server.kill()


async def enqueue(server: Server, executor: str = "mail", **members: Any) -> int:
    async with http_client(server.url) as http:
        answer = await http.post("/v1/jobs", json={"executor": executor, **members})
        assert answer.status_code == 201
        return answer.json()["id"]


async def ends(server: Server, *, within: float) -> int:
    """Wait for the process to end by itself; return its exit status."""
    return await asyncio.to_thread(server.wait, within)


async def drains(server: Server) -> None:
    """Wait until it has heard its first signal."""
    await asyncio.to_thread(wait_until, lambda: any(event["event"] == "server.draining" for event in server.events()))


async def held_job(socket: ClientConnection) -> dict[str, Any]:
    assert (await receive(socket))["type"] == "hello"
    return (await receive(socket))["job"]


async def test_worker_is_told_finishes_and_is_closed_with_1012(server):
    job_id = await enqueue(server)
    async with connect(address(server, "mail", "prefetch=2"), proxy=None) as socket:
        job = await held_job(socket)
        os.kill(server.pid, signal.SIGTERM)
        assert await receive(socket) == {"type": "drain"}
        # All but new work is served still.
        second = await enqueue(server)
        await socket.send(json.dumps({"type": "request", "n": 5}))
        await socket.send(json.dumps({"type": "complete", "id": job_id, "fence": job["fence"], "ref": "done"}))
        assert (await receive(socket))["ok"]
        assert await close_code(socket) == 1012
    assert await ends(server, within=DRAIN_SECONDS / 2) == 0
    server.start()
    assert await status_of(server, job_id) == "complete"
    assert await status_of(server, second) == "scheduled"


async def test_worker_that_does_not_finish_keeps_its_job_for_a_resume(server):
    job_id = await enqueue(server)
    async with connect(address(server, "mail", "prefetch=1"), proxy=None) as socket:
        token = (await receive(socket))["resume"]
        job = (await receive(socket))["job"]
        os.kill(server.pid, signal.SIGTERM)
        assert await receive(socket) == {"type": "drain"}
        assert await close_code(socket) == 1012
    assert await ends(server, within=DRAIN_SECONDS) == 0
    server.start()
    async with connect(address(server, "mail", f"prefetch=1&resume={token}"), proxy=None) as socket:
        assert (await receive(socket))["held"] == [{"id": job_id, "fence": job["fence"]}]


async def test_draining_server_takes_no_socket_and_no_claim_and_answers_polls_at_once(server):
    await enqueue(server)
    async with connect(address(server, "mail", "prefetch=1"), proxy=None) as socket, http_client(server.url) as http:
        await held_job(socket)
        poll = asyncio.create_task(http.post("/v1/executors/post/claim", json={"wait": 30}))
        await asyncio.sleep(0.3)  # until the poll waits
        os.kill(server.pid, signal.SIGTERM)
        assert await receive(socket) == {"type": "drain"}
        assert (await poll).json() == {"jobs": []}
        claim = await http.post("/v1/executors/mail/claim", json={})
        assert (claim.status_code, claim.json()["type"]) == (503, "/problems/not-ready")
        assert int(claim.headers["retry-after"]) > 0
        with pytest.raises(InvalidStatus) as refused:
            await connect(address(server, "mail"), proxy=None)
        assert refused.value.response.status_code == 503
    assert await ends(server, within=DRAIN_SECONDS + 1) == 0


@asynccontextmanager
async def worker_that_does_not_finish(server: Server) -> AsyncIterator[None]:
    await enqueue(server)
    async with connect(address(server, "mail", "prefetch=1"), proxy=None) as socket:
        await held_job(socket)
        yield


@asynccontextmanager
async def client_that_never_reads(server: Server) -> AsyncIterator[None]:
    """The socket's buffers are full of jobs: not even the word that the server leaves gets through."""
    async with http_client(server.url) as http:
        jobs = [{"executor": "mail", "data": "x" * 100_000}] * 300
        assert (await http.post("/v1/jobs/bulk", json={"jobs": jobs})).status_code == 200
    _, writer = await asyncio.open_connection("127.0.0.1", int(server.settings["port"]), limit=1_024)
    writer.write(
        b"GET /v1/executors/mail/subscribe?prefetch=10000 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    async with http_client(server.url) as http:
        while not (await http.get("/v1/executors")).json()["executors"][0]["counts"]["executing"]:
            await asyncio.sleep(0.05)
    yield
    writer.close()


@asynccontextmanager
async def disk_that_stalls(server: Server) -> AsyncIterator[None]:
    """A foreign lock makes the writer wait, as a stalled fsync would: 5 seconds for each transaction."""
    async with worker_that_does_not_finish(server):
        with closing(sqlite3.connect(server.database, isolation_level=None)) as stall:
            stall.execute("BEGIN IMMEDIATE")
            yield


@pytest.mark.parametrize("hindered", [worker_that_does_not_finish, client_that_never_reads, disk_that_stalls])
async def test_second_signal_ends_it_within_2_seconds(server, hindered):
    async with hindered(server):
        os.kill(server.pid, signal.SIGTERM)
        await drains(server)
        os.kill(server.pid, signal.SIGTERM)
        await ends(server, within=2)


async def test_disk_that_stalls_does_not_hold_it_up(server):
    async with disk_that_stalls(server):
        os.kill(server.pid, signal.SIGTERM)
        assert await ends(server, within=DRAIN_SECONDS + 1) == 1
    assert server.events()[-1]["event"] == "server.exit_forced"


async def test_client_that_never_reads_does_not_hold_it_up(server):
    async with client_that_never_reads(server):
        os.kill(server.pid, signal.SIGTERM)
        assert await ends(server, within=DRAIN_SECONDS) == 0
    server.start()
    async with http_client(server.url) as http:
        (mail,) = (await http.get("/v1/executors")).json()["executors"]
    assert sum(mail["counts"].values()) == 300


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_it_starts_ends_it_with_status_0(tmp_path: Path, number: int):
    server = Server(tmp_path, drain_seconds=DRAIN_SECONDS)
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "serve"],
        cwd=ROOT,
        env=environment(**server.settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        wait_until((tmp_path / "jobs.db.lock").exists)
        process.send_signal(number)
        assert process.wait(15) == 0, process.stderr
    finally:
        process.kill()
        process.communicate()


async def status_of(server: Server, job_id: int) -> str:
    async with http_client(server.url) as http:
        return (await http.get(f"/v1/jobs/{job_id}")).json()["status"]
