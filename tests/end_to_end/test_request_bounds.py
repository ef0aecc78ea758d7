"""Heads and bodies that do not come to an end, too many connections, clients that do not read: over real sockets."""

import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.end_to_end.server import Server

DEADLINE_SECONDS = 0.5
PATIENCE_SECONDS = 15
HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    settings = {"head_seconds": DEADLINE_SECONDS, "body_seconds": DEADLINE_SECONDS}
    with Server(tmp_path_factory.mktemp("bounds"), **settings).running() as server:
        yield server


@contextmanager
def connection(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", int(server.settings["port"]))) as raw:
        raw.settimeout(PATIENCE_SECONDS)
        yield raw


def drip(raw: socket.socket, data: bytes, *, at_once: int = 1, pause_seconds: float = 0.1) -> bytes:
    """Send a byte at a time, over and over, until the server closes; return what it said."""
    raw.settimeout(pause_seconds)
    until = time.monotonic() + PATIENCE_SECONDS
    said = b""
    try:
        while time.monotonic() < until:
            for start in range(0, len(data), at_once):
                raw.sendall(data[start : start + at_once])
                try:
                    received = raw.recv(65_536)
                except TimeoutError:
                    continue
                if not received:
                    return said
                said += received
    except ConnectionError:
        return said
    raise AssertionError("the server listened on and on")


def read_to_end(raw: socket.socket) -> bytes:
    """What the server says until it closes."""
    said = b""
    try:
        while received := raw.recv(65_536):
            said += received
    except ConnectionResetError:
        pass
    return said


def problem_of(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    assert b"x-request-id: " in head.lower()
    document = json.loads(body)
    assert int(head.split()[1]) == document["status"]
    return document["status"], document["type"]


def test_head_sent_a_byte_at_a_time_is_ended(server):
    started_at = time.monotonic()
    with connection(server) as raw:
        answer = drip(raw, HEAD + b"X-Padding: " + b"x" * 10_000)
    assert problem_of(answer) == (408, "about:blank")
    assert time.monotonic() - started_at < DEADLINE_SECONDS + PATIENCE_SECONDS / 2


def test_connection_without_a_request_is_closed_without_an_answer(server):
    with connection(server) as raw:
        assert read_to_end(raw) == b""


def test_blank_lines_keep_no_connection_open(server):
    with connection(server) as raw:
        assert problem_of(drip(raw, b"\r\n")) == (408, "about:blank")


def test_second_request_has_its_deadline_too_and_blank_lines_after_an_answer(server):
    for more in (b"GET /livez HTTP/1.1\r\nX-Padding: " + b"x" * 10_000, b"\r\n"):
        with connection(server) as raw:
            raw.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += raw.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert drip(raw, more).startswith(b"HTTP/1.1 408 ")


def test_body_sent_a_byte_at_a_time_is_ended(server):
    with connection(server) as raw:
        raw.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
        assert problem_of(drip(raw, b" " * 1_000)) == (408, "about:blank")


def test_chunks_of_a_byte_are_ended(server):
    with connection(server) as raw:
        raw.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        assert drip(raw, b"1\r\n \r\n").startswith(b"HTTP/1.1 408 ")


def test_slow_body_that_makes_progress_is_taken(server):
    """In three deadlines altogether, and never less than 64 KiB in one."""
    body = json.dumps({"executor": "mail", "data": "x" * 400_000}).encode()
    part = len(body) // 12 + 1
    with connection(server) as raw:
        raw.sendall(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), part):
            raw.sendall(body[start : start + part])
            time.sleep(DEADLINE_SECONDS / 4)  # a slow line
        assert read_to_end(raw).startswith(b"HTTP/1.1 201 ")


@pytest.mark.parametrize(
    "head",
    [
        b"X-Padding: " + b"x" * 100_000 + b"\r\n\r\n",
        b"".join(b"X-%d: %b\r\n" % (number, b"x" * 100) for number in range(2_000)) + b"\r\n",
        b"X-Padding: " + b"x" * 400_000,
    ],
    ids=["one long header", "many headers", "no end"],
)
def test_long_head_is_refused_with_431(server, head):
    with connection(server) as raw:
        try:
            raw.sendall(HEAD + head)
        except ConnectionError:
            return
        answer = read_to_end(raw)
    if answer:  # else the close overtook it: there was more to read
        assert problem_of(answer) == (431, "about:blank")


def test_long_target_is_refused_with_431(server):
    with connection(server) as raw:
        raw.sendall(b"GET /v1?" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert problem_of(read_to_end(raw)) == (431, "about:blank")


def test_endless_trailers_are_ended(server):
    with connection(server) as raw:
        raw.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        drip_answer = drip(raw, b"X-Trailer: " + b"x" * 100 + b"\r\n", at_once=50, pause_seconds=0.001)
    assert not drip_answer or b" 4" in drip_answer.partition(b"\r\n")[0]


def test_pipelined_requests_are_no_long_head(server):
    count = 2_000
    with connection(server) as raw:
        raw.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Padding: 0123456789012345678901234567890\r\n\r\n" * count)
        raw.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert read_to_end(raw).count(b"HTTP/1.1 200 OK") == count + 1


def test_what_is_no_http_is_a_problem_too(server):
    with connection(server) as raw:
        raw.sendall(b"EHLO mail.example.org\r\n\r\n")
        assert problem_of(read_to_end(raw)) == (400, "about:blank")


@pytest.mark.parametrize("header", [b"X-Padding: " + b"x" * 20_000 + b"\r\n", b"X: y\r\n" * 300], ids=["long", "many"])
def test_socket_whose_handshake_cannot_be_read_is_closed(server, header):
    with connection(server) as raw:
        raw.sendall(
            b"GET /v1/executors/mail/subscribe HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" + header + b"\r\n"
        )
        assert b" 101 " not in read_to_end(raw)


LIMIT = 5


def test_connections_beyond_the_limit_are_answered_503_until_one_is_free(tmp_path):
    server = Server(tmp_path, max_connections=LIMIT)
    with server.running(), ExitStack() as held:
        clients = [held.enter_context(httpx2.Client(base_url=server.url, trust_env=False)) for _ in range(LIMIT)]
        for client in clients:
            assert client.get("/livez").status_code == 200
        with httpx2.Client(base_url=server.url, trust_env=False) as client:
            refused = client.post("/v1/jobs", json={"executor": "mail", "data": "x" * 10_000})
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/not-ready")
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["connection"] == "close"
        # Whoever watches must not take it for dead, nor see nothing, when it is most in demand.
        for probe in ("/livez", "/metrics", "/livez", "/metrics"):
            with httpx2.Client(base_url=server.url, trust_env=False) as client:
                watched = client.get(probe)
            assert (watched.status_code, watched.headers["connection"]) == (200, "close")
        assert 'operation="other",status="503"' in watched.text.replace(" ", "")
        address = server.url.replace("http", "ws", 1) + "/v1/executors/mail/subscribe"
        with pytest.raises(InvalidStatus) as closed:
            connect(address, proxy=None)
        assert closed.value.response.status_code == 503
        clients[0].close()
        with connect(address, proxy=None) as worker:
            assert json.loads(worker.recv())["type"] == "hello"


def test_server_with_too_few_files_keeps_accepting(tmp_path):
    """It serves as many connections as it has files for, survives a flood of others, and serves on."""
    server = Server(tmp_path, files=(200, 200), max_connections=10_000)
    with server.running():
        (limited,) = [event for event in server.events() if event["event"] == "connections.limited"]
        with ExitStack() as held:
            flood = [held.enter_context(connection(server)) for _ in range(400)]
            answers = 0
            for raw in flood:
                try:
                    raw.sendall(b"GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n")
                    answers += raw.recv(65_536).startswith(b"HTTP/1.1 200 ")
                except ConnectionError:
                    continue
            assert answers == limited["connections"]
        until = time.monotonic() + PATIENCE_SECONDS
        while True:  # the server hears of the closes a little later
            with httpx2.Client(base_url=server.url, trust_env=False) as client:
                try:
                    if client.get("/livez").status_code == 200:
                        break
                except httpx2.TransportError:
                    pass
            assert time.monotonic() < until


def test_soft_limit_of_files_is_raised_to_what_is_needed(tmp_path):
    server = Server(tmp_path, files=(100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]), max_connections=1_000)
    with server.running():
        soft, _ = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    assert soft > 1_000
