"""Text of clients' over real sockets: in logs it breaks no line and commands no terminal; refusals are whole."""

import json
from urllib.parse import quote

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.end_to_end.server import Server, wait_until

NAME = 'a\n{"event":"forged"}\r\x1b[31m\x85\u2028\u202ered\U0001f600 "\'=\\'
UNPRINTABLE = {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160), 0x2028, 0x2029, 0x202E)}


def lines_of(server: Server) -> list[str]:
    return server.log.read_text(encoding="utf-8").split("\n")[:-1]


def meet_hostile_clients(server: Server) -> None:
    address = server.url.replace("http", "ws", 1) + "/v1/executors"
    with connect(f"{address}/mail/subscribe?worker={quote(NAME)}", proxy=None) as socket:
        assert json.loads(socket.recv())["type"] == "hello"
    with pytest.raises(InvalidStatus):
        connect(f"{address}/{quote(NAME)}/subscribe", proxy=None)
    # A lone surrogate, as bytes that are no UTF-8.
    with connect(f"{address}/mail/subscribe?worker=%ED%A0%80%FF", proxy=None) as socket:
        assert json.loads(socket.recv())["type"] == "hello"
    with httpx2.Client(base_url=server.url, trust_env=False) as http:
        assert http.get("/" + quote(NAME)).status_code == 404
        assert http.post("/v1/jobs", json={"executor": NAME}).status_code == 422
    wait_until(lambda: server.log.read_text(encoding="utf-8").count("worker.disconnected") == 2)


def test_json_log_keeps_one_event_a_line_whatever_a_worker_is_called(tmp_path):
    server = Server(tmp_path, log_format="json")
    with server.running():
        meet_hostile_clients(server)
        events = [json.loads(line) for line in lines_of(server)]
    connected = [event for event in events if event["event"] == "worker.connected"]
    assert [event["worker"] for event in connected] == [NAME, "\ufffd" * 4]
    assert "forged" not in [event["event"] for event in events]
    assert len({event["request_id"] for event in connected}) == 2
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
    assert sum("worker.connected" in line for line in lines) == 2
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


def test_page_of_our_own_may_open_a_socket_and_learns_the_requests_id(server):
    url = server.url.replace("http", "ws", 1) + "/v1/executors/mail/subscribe"
    with connect(url, proxy=None, origin=server.url) as socket:
        assert socket.response is not None
        assert socket.response.headers["x-request-id"]


def test_frames_are_not_compressed_though_the_client_offers_it(server):
    url = server.url.replace("http", "ws", 1) + "/v1/executors/mail/subscribe"
    with connect(url, proxy=None, compression="deflate") as socket:
        assert socket.request is not None
        assert socket.response is not None
        assert "permessage-deflate" in socket.request.headers["sec-websocket-extensions"]
        assert "sec-websocket-extensions" not in socket.response.headers
        assert socket.protocol.extensions == []
        assert json.loads(socket.recv())["type"] == "hello"
