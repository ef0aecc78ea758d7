"""An answer's head and body arrive together, and what has no body arrives all the same: over real sockets."""

import json
import socket
from collections.abc import Iterator

import pytest

from tests.end_to_end.server import Server

BODY = b'{"executor":"mail"}'
POST = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(BODY)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("whole")).running() as server:
        yield server


@pytest.fixture
def raw(server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", int(server.settings["port"]))) as raw:
        raw.settimeout(15)
        yield raw


def test_answer_comes_in_one_piece(raw):
    for _ in range(100):
        raw.sendall(POST + b"\r\n" + BODY)
        head, _, body = raw.recv(65_536).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 201 ")
        assert json.loads(body)["outcome"] == "inserted"


def test_answer_without_a_body_comes_at_once(raw):
    for _ in range(3):
        raw.sendall(b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_permission_to_send_a_body_is_not_held_back(raw):
    raw.sendall(POST + b"Expect: 100-continue\r\n\r\n")
    assert raw.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
    raw.sendall(BODY)
    assert raw.recv(65_536).startswith(b"HTTP/1.1 201 ")


def test_answer_before_the_close_is_whole(raw):
    raw.sendall(b"HEAD /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    said = b""
    while received := raw.recv(65_536):
        said += received
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.endswith(b"\r\n\r\n")


def test_long_answer_is_whole(raw):
    raw.sendall(b"GET /static/swagger-ui/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    said = b""
    while received := raw.recv(65_536):
        said += received
    head, _, body = said.partition(b"\r\n\r\n")
    (length,) = (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: "))
    assert len(body) == int(length.split()[1]) > 500_000
