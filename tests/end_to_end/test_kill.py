"""The server killed with SIGKILL under load, five times on the same file: what was acknowledged is there."""

import asyncio
import json
from contextlib import suppress

import httpx2
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.end_to_end.server import Server, http_client

KILLS = 5
LOAD_SECONDS = 0.8
PATIENCE_SECONDS = 20


async def produce(server: Server, acknowledged: set[int]) -> None:
    """Enqueue one by one, and note each id that was answered."""
    async with http_client(server.url) as http:
        while True:
            answer = await http.post("/v1/jobs", json={"executor": "mail", "data": "x" * 100})
            acknowledged.add(answer.json()["id"])


async def work(server: Server, completed: set[int]) -> None:
    """Complete what comes, and note each job whose result was told."""
    address = f"ws://127.0.0.1:{server.settings['port']}/v1/executors/mail/subscribe?prefetch=20"
    async with connect(address, proxy=None) as socket:
        async for frame in socket:
            message = json.loads(frame)
            if message["type"] == "job":
                job = message["job"]
                done = {"type": "complete", "id": job["id"], "fence": job["fence"], "ref": str(job["id"])}
                await socket.send(json.dumps(done))
            elif message["type"] == "result":
                assert message["ok"], message
                completed.add(message["id"])


async def until_cut_off(doing: asyncio.Task[None]) -> None:
    doing.cancel()
    with suppress(asyncio.CancelledError, OSError, httpx2.TransportError, WebSocketException):
        await doing


async def status_of_all(server: Server) -> dict[int, str]:
    """The status of every job, by pages."""
    found: dict[int, str] = {}
    cursor = None
    async with http_client(server.url) as http:
        while True:
            body = {"query": {"and": []}, "limit": 1000, "cursor": cursor}
            page = (await http.post("/v1/jobs/query", json=body)).json()
            for job in page["jobs"]:
                assert job["id"] not in found
                found[job["id"]] = job["status"]
            cursor = page["next_cursor"]
            if cursor is None:
                return found


async def test_what_was_acknowledged_survives_five_kills(tmp_path):
    server = Server(tmp_path)
    acknowledged: set[int] = set()
    completed: set[int] = set()
    for _ in range(KILLS):
        await asyncio.to_thread(server.start)
        before = len(acknowledged), len(completed)
        doing = [asyncio.create_task(produce(server, acknowledged)) for _ in range(4)]
        doing += [asyncio.create_task(work(server, completed)) for _ in range(2)]
        await asyncio.sleep(LOAD_SECONDS)  # the load itself
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(acknowledged) == before[0] or len(completed) == before[1]:
                await asyncio.sleep(0.05)  # a busy machine
        await asyncio.to_thread(server.kill)
        for each in doing:
            await until_cut_off(each)
        assert len(acknowledged) > before[0]
        assert len(completed) > before[1]
    await asyncio.to_thread(server.start)
    try:
        stored = await status_of_all(server)
        assert acknowledged <= stored.keys()
        assert {stored[job_id] for job_id in completed} == {"complete"}
        finishing = asyncio.create_task(work(server, completed))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while set((await status_of_all(server)).values()) != {"complete"}:
                await asyncio.sleep(0.2)  # leases have to run out first
        await until_cut_off(finishing)
    finally:
        assert await asyncio.to_thread(server.stop) == 0
