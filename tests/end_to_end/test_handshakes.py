"""Sockets that are still being opened: the writer is held, so that their sessions wait for its commit."""

import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.end_to_end.server import Server, wait_until
from tests.end_to_end.test_request_bounds import connection, problem_of, read_to_end

HANDSHAKE = (
    b"GET /v1/executors/mail/subscribe HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
NOT_MASKED = b"\x81\x00"
FRAGMENTS = b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 10_001


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("handshakes"), body_seconds=0.5).running() as server:
        yield server


@contextmanager
def opening(server: Server) -> Iterator[socket.socket]:
    """A socket whose session cannot be stored inside; the server has read its request."""
    with closing(sqlite3.connect(server.database, isolation_level=None)) as holder, connection(server) as raw:
        holder.execute("BEGIN IMMEDIATE")
        raw.sendall(HANDSHAKE)
        time.sleep(0.5)  # nothing tells
        yield raw
        holder.execute("ROLLBACK")


def test_server_that_leaves_meanwhile_refuses_it_as_not_ready(tmp_path):
    server = Server(tmp_path, drain_seconds=5)
    server.start()
    with opening(server) as raw:
        os.kill(server.pid, signal.SIGTERM)
        answer = read_to_end(raw)
    assert problem_of(answer) == (503, "/problems/not-ready")
    assert b"\r\nretry-after: 1\r\n" in answer.lower()
    assert server.wait() == 0
    assert not server.failures()


@pytest.mark.parametrize("frames", [NOT_MASKED, FRAGMENTS, FRAGMENTS[:60]], ids=["wrong", "many", "without end"])
def test_client_that_sends_what_closes_a_socket_is_dropped(server, frames):
    before = ends(server)
    with opening(server) as raw:
        raw.sendall(frames)
        assert read_to_end(raw) == b""
    wait_until(lambda: ends(server) > before)
    assert not server.failures()


def ends(server: Server) -> int:
    """How many sessions have ended."""
    return sum(event["event"] == "worker.disconnected" for event in server.events())
