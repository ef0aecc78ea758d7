"""Workers that send what is allowed, in amounts that nobody needs: the others do not notice, and memory is bounded."""

import asyncio
import json
import socket
import struct
import time
from contextlib import suppress

import pytest

from tests.end_to_end.server import Server, http_client
from tests.end_to_end.test_stalled_clients import resident_bytes, stall
from tests.end_to_end.test_stream import PATIENCE_SECONDS, receive, worker

MIB = 1024 * 1024
FLOOD_SECONDS = 5
STOPS_A_FRAME = 10_000
BLOCKED_SECONDS = 2.0
"""Who sends nothing for so long is not read from."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("hostile"), lease_seconds=10).running() as server:
        yield server


def stops(number: int) -> str:
    return json.dumps([{"type": "stop", "ref": f"{number}-{place}"} for place in range(STOPS_A_FRAME)])


async def test_stops_whose_results_nobody_reads_are_read_no_longer(server):
    """They wait where they are; once the client reads, each has its result, in order."""
    memory = resident_bytes(server)
    sent, enough = 0, False
    async with worker(server, "mail", "batch=true", max_queue=1, max_size=None, compression=None) as socket:

        async def flood() -> None:
            nonlocal sent
            while not enough:
                await socket.send(stops(sent))
                sent += 1

        flooding = asyncio.create_task(flood())
        before = -1
        async with asyncio.timeout(PATIENCE_SECONDS):
            while before != sent:
                before = sent
                await asyncio.sleep(BLOCKED_SECONDS)  # to see that nothing happens
        assert not flooding.done()
        assert resident_bytes(server) < memory + 64 * MIB
        enough = True
        seen = 0
        while seen < sent * STOPS_A_FRAME or not flooding.done():
            frame = await receive(socket)
            for result in frame:
                assert result == {
                    "type": "result",
                    "ref": f"{seen // STOPS_A_FRAME}-{seen % STOPS_A_FRAME}",
                    "ok": True,
                }
                seen += 1
        assert seen == sent * STOPS_A_FRAME


async def test_flood_of_stops_whose_results_nobody_reads_does_not_hold_up_others(server):
    frame = json.dumps([{"type": "stop", "ref": "x" * 100}] * 7_000).encode()
    header = b"\x81\xff%b\0\0\0\0" % struct.pack("!Q", len(frame))
    with stall(server) as raw:
        raw.setblocking(False)
        sending = asyncio.create_task(send_over_and_over(raw, header + frame))
        async with http_client(server.url) as http:
            slowest, until = 0.0, time.monotonic() + FLOOD_SECONDS
            while time.monotonic() < until:
                began_at = time.monotonic()
                assert (await http.get("/livez")).status_code == 200
                slowest = max(slowest, time.monotonic() - began_at)
                await asyncio.sleep(0.02)  # the flood comes meanwhile
        sending.cancel()
    assert slowest < 1


async def send_over_and_over(raw: socket.socket, data: bytes) -> None:
    with suppress(ConnectionError):
        while True:
            await asyncio.get_running_loop().sock_sendall(raw, data)
