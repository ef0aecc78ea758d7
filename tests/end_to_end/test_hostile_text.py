"""Text of clients' over real sockets: in logs it breaks no line and commands no terminal; refusals are whole."""

import json
import re
import socket
from urllib.parse import quote

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.end_to_end.server import Server, wait_until

NAME = 'a\n{"event":"forged"}\r\x1b[31m\x85\u2028\u202ered\U0001f600 "\'=\\'
COLOURS = "\x1b[31mred\x9b0m"
UNPRINTABLE = {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160), 0x2028, 0x2029, 0x202E)}


def lines_of(server: Server) -> list[str]:
    return server.log.read_text(encoding="utf-8").split("\n")[:-1]


def meet_hostile_clients(server: Server) -> None:
    address = server.url.replace("http", "ws", 1) + "/v1/executors"
    with connect(f"{address}/mail/subscribe?worker={quote(NAME)}", proxy=None) as peer:
        assert json.loads(peer.recv())["type"] == "hello"
    with pytest.raises(InvalidStatus):
        connect(f"{address}/{quote(NAME)}/subscribe", proxy=None)
    # Nothing that a renderer would quote by itself; and a lone surrogate, as bytes that are no UTF-8.
    for name in (quote(COLOURS), "%ED%A0%80%FF"):
        with connect(f"{address}/mail/subscribe?worker={name}", proxy=None) as peer:
            assert json.loads(peer.recv())["type"] == "hello"
    with httpx2.Client(base_url=server.url, trust_env=False) as http:
        assert http.get("/" + quote(NAME)).status_code == 404
        assert http.post("/v1/jobs", json={"executor": NAME}).status_code == 422
    wait_until(lambda: server.log.read_text(encoding="utf-8").count("worker.disconnected") == 3)


def test_json_log_keeps_one_event_a_line_whatever_a_worker_is_called(tmp_path):
    server = Server(tmp_path, log_format="json")
    with server.running():
        meet_hostile_clients(server)
        events = [json.loads(line) for line in lines_of(server)]
    connected = [event for event in events if event["event"] == "worker.connected"]
    assert [event["worker"] for event in connected] == [NAME, COLOURS, "\ufffd" * 4]
    assert "forged" not in [event["event"] for event in events]
    assert len({event["request_id"] for event in connected}) == 3
    assert not UNPRINTABLE & set(server.log.read_text())


def test_console_log_keeps_one_event_a_line_and_commands_no_terminal(tmp_path):
    server = Server(tmp_path, log_format="console")
    server.start()
    try:
        meet_hostile_clients(server)
    finally:
        assert server.stop() == 0
    lines = lines_of(server)
    assert all(line.startswith("20") and "] " in line for line in lines), lines
    assert sum("worker.connected" in line for line in lines) == 3
    assert not UNPRINTABLE & set("".join(lines))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("edge")).running() as server:
        yield server


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/executors/mail/subscribe", {"Origin": "null"}, 403),
        ("/v1/executors/mail/subscribe", {"Origin": "http://["}, 403),
        ("/v1/executors/a%0Ab/subscribe", {}, 422),
        ("/v1/executors/mail/subscribe?prefetch=-1", {}, 422),
        ("/nowhere", {}, 404),
        ("/v1/jobs", {}, 404),
        ("/static/docs.js", {}, 404),
    ],
)
def test_refused_upgrade_is_a_secured_problem_with_the_requests_id(server, path, headers, status):
    with pytest.raises(InvalidStatus) as refused:
        connect(server.url.replace("http", "ws", 1) + path, proxy=None, additional_headers=headers)
    response = refused.value.response
    assert (response.status_code, json.loads(response.body)["status"]) == (status, status)
    assert json.loads(response.body)["instance"] == f"urn:uuid:{response.headers['x-request-id']}"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"


BROKEN_HANDSHAKE = (
    b"GET /v1/executors/mail/subscribe HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: s3cret\r\n\r\n"
)


@pytest.mark.parametrize(
    "request_bytes",
    [b"\x1b[31ms3cret\r\n\r\n", b"GET / HTTP/1.1\r\ns3cret\x00: b\r\n\r\n", BROKEN_HANDSHAKE],
    ids=["no HTTP", "bad header", "bad handshake"],
)
def test_what_is_no_request_is_answered_with_an_id_too(server, request_bytes):
    with socket.create_connection(("127.0.0.1", int(server.settings["port"])), timeout=15) as raw:
        raw.sendall(request_bytes)
        head, _, body = raw.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    (request_id,) = re.findall(rb"(?i)x-request-id: ([0-9a-f-]{36})", head)
    assert json.loads(body)["instance"] == f"urn:uuid:{request_id.decode()}"
    assert b"nosniff" in head
    assert b"s3cret" not in body


def test_page_of_our_own_may_open_a_socket_and_learns_the_requests_id(server):
    url = server.url.replace("http", "ws", 1) + "/v1/executors/mail/subscribe"
    with connect(url, proxy=None, origin=server.url) as peer:
        assert peer.response is not None
        assert peer.response.headers["x-request-id"]


def test_frames_are_not_compressed_though_the_client_offers_it(server):
    url = server.url.replace("http", "ws", 1) + "/v1/executors/mail/subscribe"
    with connect(url, proxy=None, compression="deflate") as peer:
        assert peer.request is not None
        assert peer.response is not None
        assert "permessage-deflate" in peer.request.headers["sec-websocket-extensions"]
        assert "sec-websocket-extensions" not in peer.response.headers
        assert peer.protocol.extensions == []
        assert json.loads(peer.recv())["type"] == "hello"
