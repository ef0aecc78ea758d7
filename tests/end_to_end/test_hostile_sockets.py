"""Workers that send what is allowed, in amounts that nobody needs: the others do not notice, and memory is bounded."""

import asyncio
import json
import socket
import sqlite3
import struct
import time
from contextlib import closing, suppress

import pytest

from app.api.worker_session import _MAX_COMMITS
from tests.end_to_end.server import Server, http_client
from tests.end_to_end.test_stalled_clients import resident_bytes, stall
from tests.end_to_end.test_stream import PATIENCE_SECONDS, receive, worker
from tests.fuzz.raw_socket import CONTINUATION, PING, TEXT, RawSocket

MIB = 1024 * 1024
MESSAGE_SECONDS = 1
FLOOD_SECONDS = 5
MAX_FRAGMENTS = 10_000
STOPS_A_FRAME = 10_000
BLOCKED_SECONDS = 1.0
"""Who sends nothing for so long is not read from."""

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("hostile"), lease_seconds=10, body_seconds=MESSAGE_SECONDS).running() as server:
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


def begin_message(server: Server, text: bytes) -> RawSocket:
    """Connect, and send the beginning of a message; hello is read."""
    client = RawSocket(server.settings["port"], "/v1/executors/mail/subscribe")
    assert client.next_text()
    assert client.send(TEXT, text, is_last=False)
    return client


def test_message_in_fragments_without_end_is_closed_with_1009(server):
    with begin_message(server, b"") as client:
        client.send_raw(b"\x00\x80\0\0\0\0" * MAX_FRAGMENTS)
        assert client.next_text() is None
        assert client.close_code == 1009


def test_message_in_fragments_that_does_not_end_in_time_is_closed_with_4408(server):
    """However lively the client is meanwhile."""
    began_at = time.monotonic()
    with begin_message(server, b'{"type":') as client:
        while (
            client.send(PING, b"")
            and client.send(CONTINUATION, b"", is_last=False)
            and time.monotonic() < began_at + 15
        ):
            time.sleep(0.1)  # a lively client
        assert client.next_text() is None
        assert client.close_code in (4408, None)  # a close with bytes unread is a reset
    assert time.monotonic() - began_at < 10


def test_slow_message_in_fragments_that_makes_progress_is_taken(server):
    """In two deadlines altogether, and never less than 64 KiB in one."""
    with begin_message(server, b'{"type":"stop",') as client:
        for _ in range(8):
            assert client.send(CONTINUATION, b" " * 64_000, is_last=False)
            time.sleep(MESSAGE_SECONDS / 4)  # a slow line
        client.send(CONTINUATION, b'"ref":"s"}')
        assert json.loads(client.next_text() or "")["ref"] == "s"


def test_message_that_has_ended_has_no_deadline(server):
    with begin_message(server, b'{"type":"stop",') as client:
        client.send(CONTINUATION, b'"ref":"s"}')
        assert json.loads(client.next_text() or "")["ref"] == "s"
        time.sleep(MESSAGE_SECONDS * 1.5)  # its deadline passes
        client.send(TEXT, b'{"type":"stop","ref":"again"}')
        assert json.loads(client.next_text() or "")["ref"] == "again"


def test_message_that_the_server_does_not_read_has_no_deadline(server):
    """It is behind acknowledgements whose commit takes long."""
    acknowledgements = json.dumps([{"type": "complete", "id": 1, "fence": 1}] * 10_000).encode()
    heartbeat, beginning = b'{"type":"heartbeat"}', b'{"type":"stop",'
    with RawSocket(server.settings["port"], "/v1/executors/mail/subscribe?batch=true") as client:
        assert client.next_text()
        with closing(sqlite3.connect(server.database, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            for _ in range(_MAX_COMMITS + 1):
                client.send(TEXT, acknowledgements)  # the last are those that wait
            time.sleep(0.5)  # until they do
            client.send_raw(b"\x81\x94\0\0\0\0" + heartbeat + b"\x01\x8f\0\0\0\0" + beginning)
            time.sleep(MESSAGE_SECONDS * 1.5)  # its deadline passes
            holder.execute("ROLLBACK")
        client.send(CONTINUATION, b'"ref":"s"}')
        while '"ref":"s"' not in (results := client.next_text() or ""):
            assert results, client.close_code
