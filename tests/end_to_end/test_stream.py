"""The stream over real sockets: what is refused, how connections end, what a worker may rely on."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.end_to_end.server import Server, http_client

LEASE_SECONDS = 1
PATIENCE_SECONDS = 40
FAILURE = {"error_type": "boom", "message": "no"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("stream"), lease_seconds=LEASE_SECONDS).running() as server:
        yield server


@pytest.fixture
def executor(request):
    """An executor of each test's own."""
    return "".join(letter if letter.isalnum() else "_" for letter in request.node.name)


def address(server: Server, executor: str, query: str = "") -> str:
    return f"ws://127.0.0.1:{server.settings['port']}/v1/executors/{executor}/subscribe?{query}"


@asynccontextmanager
async def worker(server: Server, executor: str, query: str = "", **options: Any) -> AsyncIterator[ClientConnection]:
    """A connected worker that has read its hello."""
    options = {"proxy": None, "subprotocols": ["rexecutor.v1"], **options}
    async with connect(address(server, executor, query), **options) as socket:
        await receive(socket)
        yield socket


async def receive(socket: ClientConnection) -> Any:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return json.loads(await socket.recv())


async def close_code(socket: ClientConnection) -> int | None:
    """Read on until the server closes; return its code."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                await socket.recv()
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else None


async def post(server: Server, path: str, body: Any) -> Any:
    async with http_client(server.url) as http:
        return (await http.post(path, json=body)).json()


async def enqueue(server: Server, executor: str, **members: Any) -> int:
    return int((await post(server, "/v1/jobs", {"executor": executor, **members}))["id"])


async def job_of(server: Server, job_id: int) -> Any:
    async with http_client(server.url) as http:
        return (await http.get(f"/v1/jobs/{job_id}")).json()


async def test_hello_tells_the_protocol_the_session_and_the_times(server, executor):
    async with connect(address(server, executor, "prefetch=3"), proxy=None, subprotocols=["rexecutor.v1"]) as socket:
        hello = await receive(socket)
        assert socket.subprotocol == "rexecutor.v1"
    assert (hello["type"], hello["protocol"], hello["credits"]) == ("hello", 1, 3)
    assert (hello["resumed"], hello["held"], hello["lease"]) == (False, [], LEASE_SECONDS)
    assert hello["heartbeat_interval"] < LEASE_SECONDS


async def test_client_that_offers_no_subprotocol_is_accepted(server, executor):
    async with worker(server, executor, subprotocols=None) as socket:
        assert socket.subprotocol is None


@pytest.mark.parametrize("frame", ["nope", "7", '["a"]', b"{}", "[" * 3000, '{"type":"request","n":1', "\ufeff{}"])
async def test_frame_that_is_no_message_closes_with_4400(server, executor, frame):
    async with worker(server, executor) as socket:
        await socket.send(frame)
        assert await close_code(socket) == 4400


async def test_text_that_is_no_unicode_closes_with_4400(server, executor):
    async with worker(server, executor) as socket:
        await socket.send(b'{"type":"stop","ref":"\xff"}', text=True)
        assert await close_code(socket) == 4400


async def test_message_beyond_1_mib_closes_with_1009(server, executor):
    async with worker(server, executor) as socket:
        await socket.send(json.dumps({"type": "stop", "ref": "x" * 1_100_000}))
        assert await close_code(socket) == 1009


async def test_frame_of_more_than_10_000_messages_closes_with_1009(server, executor):
    for message in ('{"type":"heartbeat"}', "{}"):
        async with worker(server, executor) as socket:
            await socket.send("[" + ",".join([message] * 10_001) + "]")
            assert await close_code(socket) == 1009


async def test_each_of_10_000_wrong_messages_gets_its_result(server, executor):
    async with worker(server, executor, "batch=true", max_size=None) as socket:
        await socket.send("[" + ",".join(["{}"] * 10_000) + "]")
        results = 0
        while results < 10_000:
            results += len(await receive(socket))
    assert results == 10_000


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("bad%20name/subscribe", {}, 422),
        ("mail/subscribe?prefetch=10001", {}, 422),
        ("mail/subscribe?prefetch=-1", {}, 422),
        ("mail/subscribe?batch=perhaps", {}, 422),
        ("mail/subscribe?worker=", {}, 422),
        ("mail/subscribe", {"Origin": "https://elsewhere.example"}, 403),
        ("mail/subscribe", {"Origin": "http://["}, 403),
        ("mail/subscribe", {"Origin": "null"}, 403),
        ("mail/elsewhere", {}, 404),
    ],
)
async def test_refusal_is_an_http_answer_before_the_upgrade(server, path, headers, status):
    url = f"ws://127.0.0.1:{server.settings['port']}/v1/executors/{path}"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, proxy=None, additional_headers=headers):
            pass
    assert refused.value.response.status_code == status
    assert json.loads(refused.value.response.body)["status"] == status


@pytest.mark.parametrize("count", [1, 20, 500])
@pytest.mark.parametrize("end", ["close", "malformed", "abort"])
async def test_acknowledgements_that_came_before_the_end_count(server, executor, count, end):
    await post(server, "/v1/jobs/bulk", {"jobs": [{"executor": executor}] * count})
    async with worker(server, executor, f"prefetch={count}&batch=true") as socket:
        jobs: list[Any] = []
        while len(jobs) < count:
            jobs += [message["job"] for message in await receive(socket)]
        for job in jobs:
            await socket.send(json.dumps({"type": "complete", "id": job["id"], "fence": job["fence"]}))
        if end == "malformed":
            await socket.send("nope")
            assert await close_code(socket) == 4400
        elif end == "abort":
            socket.transport.write_eof()
            await asyncio.sleep(0.2)  # what was written has arrived, in whatever way the connection ends
            socket.transport.abort()
    query = {"query": {"executor_equal": executor}, "limit": 1_000}
    async with asyncio.timeout(PATIENCE_SECONDS):
        while {job["status"] for job in (await post(server, "/v1/jobs/query", query))["jobs"]} != {"complete"}:
            await asyncio.sleep(0.05)
    assert {job["attempt"] for job in (await post(server, "/v1/jobs/query", query))["jobs"]} == {1}


@pytest.mark.parametrize(
    "frame", ['{"type":"request","n":' + "9" * 5_000 + "}", '[{"type":"stop","x":' + "[" * 3_000 + "]" * 3_000 + "}]"]
)
async def test_json_that_the_decoder_gives_up_on_fails_and_closes_nothing(server, executor, frame):
    async with worker(server, executor) as socket:
        await socket.send(frame)
        result = await receive(socket)
        assert (result["ok"], result["problem"]["status"]) == (False, 422)
        await socket.send(json.dumps({"type": "stop", "ref": "here"}))
        assert (await receive(socket))["ref"] == "here"


async def test_failed_messages_get_results_and_their_neighbours_go_on(server, executor):
    async with worker(server, executor, "batch=true") as socket:
        messages = [
            {"type": "sing", "ref": "a"},
            {"type": "complete", "id": 1, "ref": "b"},
            {"type": "complete", "id": "1", "fence": 1, "ref": "c"},
            {"type": "stop", "ref": "d"},
        ]
        await socket.send(json.dumps(messages))
        results: dict[str, Any] = {}
        while len(results) < 4:
            results |= {result["ref"]: result for result in await receive(socket)}
    assert [results[ref]["ok"] for ref in "abcd"] == [False, False, False, True]
    assert [results[ref]["problem"]["status"] for ref in "abc"] == [422, 428, 422]


async def test_only_results_asked_for_or_failed_are_told(server, executor):
    job_id = await enqueue(server, executor)
    async with worker(server, executor, "prefetch=1") as socket:
        job = (await receive(socket))["job"]
        await socket.send(json.dumps({"type": "complete", "id": job_id, "fence": job["fence"]}))
        again = {"type": "complete", "id": job_id, "fence": job["fence"], "ref": "again"}
        await socket.send(json.dumps([again]))
        result = await receive(socket)
    assert result == {
        "type": "result",
        "ref": "again",
        "id": job_id,
        "ok": True,
        "status": "complete",
        "duplicate": True,
    }


async def test_rest_acknowledgement_frees_the_credit_of_the_stream(server, executor):
    first, second = [await enqueue(server, executor) for _ in range(2)]
    async with worker(server, executor, "prefetch=1") as socket:
        job = (await receive(socket))["job"]
        assert job["id"] == first
        await post(server, f"/v1/jobs/{first}/complete", {"fence": job["fence"]})
        assert (await receive(socket))["job"]["id"] == second


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("cancel", {"error": FAILURE}, "cancelled"),
        ("complete", {}, "acknowledged"),
        ("rerun", {"force": True}, "rerun"),
    ],
)
async def test_worker_is_told_when_an_operator_takes_its_job(server, executor, path, body, reason):
    job_id = await enqueue(server, executor)
    async with worker(server, executor, "") as socket:
        await socket.send(json.dumps({"type": "request", "n": 1}))
        job = (await receive(socket))["job"]
        await post(server, f"/v1/jobs/{job_id}/{path}", body)
        revoke = await receive(socket)
    assert revoke == {"type": "revoke", "id": job_id, "fence": job["fence"], "reason": reason}


async def test_answering_pings_is_enough_to_keep_a_job(server, executor):
    job_id = await enqueue(server, executor)
    async with worker(server, executor, "prefetch=1") as socket:
        job = (await receive(socket))["job"]
        await asyncio.sleep(3.5 * LEASE_SECONDS)  # the lease would have run out three times
        done = {"type": "complete", "id": job_id, "fence": job["fence"], "ref": "done"}
        await socket.send(json.dumps(done))
        assert (await receive(socket))["ok"]


async def test_silent_worker_is_closed_with_4408_and_loses_its_job(server, executor):
    """A worker whose process stands still, its TCP connection open: it answers no ping."""
    job_id = await enqueue(server, executor)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.settings["port"]))
    try:
        writer.write(
            f"GET /v1/executors/{executor}/subscribe?prefetch=1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        received = b""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while b"\x88\x02" + (4408).to_bytes(2, "big") not in received:
                received += await reader.read(65_536)
    finally:
        writer.close()
    assert b'"type":"job"' in received
    async with worker(server, executor, "prefetch=1") as socket:
        again = (await receive(socket))["job"]
    assert (again["id"], again["attempt"], again["errors"][0]["error_type"]) == (job_id, 2, "lost")
    stale = await post(server, f"/v1/jobs/{job_id}/complete", {"fence": again["fence"] - 2})
    assert stale["type"] == "/problems/stale-fence"


async def test_claim_whose_caller_left_loses_no_job(server, executor):
    body = b'{"wait": 30}'
    _, writer = await asyncio.open_connection("127.0.0.1", int(server.settings["port"]))
    head = f"POST /v1/executors/{executor}/claim HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    await asyncio.sleep(0.3)  # the claim waits
    writer.close()
    await writer.wait_closed()
    job_id = await enqueue(server, executor)
    claimed = await post(server, f"/v1/executors/{executor}/claim", {"wait": 10})
    assert [job["id"] for job in claimed["jobs"]] == [job_id]
    assert claimed["jobs"][0]["attempt"] == 1


async def test_claimed_job_is_held_by_heartbeats_and_lost_without(server, executor):
    job_id = await enqueue(server, executor)
    (job,) = (await post(server, f"/v1/executors/{executor}/claim", {"wait": 5, "lease": 1}))["jobs"]
    for _ in range(3):
        await post(server, f"/v1/jobs/{job_id}/heartbeat", {"fence": job["fence"], "lease": 1})
        await asyncio.sleep(0.6)  # longer than one lease in all
    assert (await job_of(server, job_id))["status"] == "executing"
    (again,) = (await post(server, f"/v1/executors/{executor}/claim", {"wait": 15}))["jobs"]
    assert (again["id"], again["attempt"]) == (job_id, 2)
    released = await post(server, f"/v1/jobs/{job_id}/release", {"fence": again["fence"]})
    assert (released["status"], (await job_of(server, job_id))["attempt"]) == ("retryable", 1)


async def hello_of(socket: ClientConnection) -> Any:
    hello = await receive(socket)
    assert hello["type"] == "hello"
    return hello


async def test_dropped_connection_comes_back_with_its_token_and_keeps_its_jobs(server, executor):
    job_id = await enqueue(server, executor)
    async with connect(address(server, executor, "prefetch=1"), proxy=None) as socket:
        token = (await hello_of(socket))["resume"]
        job = (await receive(socket))["job"]
        socket.transport.abort()
    async with connect(address(server, executor, f"prefetch=3&resume={token}"), proxy=None) as socket:
        hello = await hello_of(socket)
        assert (hello["resumed"], hello["credits"]) == (True, 2)
        assert hello["held"] == [{"id": job_id, "fence": job["fence"]}]
        await asyncio.sleep(2.5 * LEASE_SECONDS)  # the new connection renews the lease of the old one's job
        await socket.send(json.dumps({"type": "complete", "id": job_id, "fence": job["fence"], "ref": "done"}))
        assert (await receive(socket))["ok"]


async def test_half_open_connection_is_closed_with_4409_when_its_session_is_resumed(server, executor):
    job_id = await enqueue(server, executor)
    async with connect(address(server, executor, "prefetch=1"), proxy=None) as old:
        token = (await hello_of(old))["resume"]
        job = (await receive(old))["job"]
        async with connect(address(server, executor, f"prefetch=1&resume={token}"), proxy=None) as new:
            assert (await hello_of(new))["held"] == [{"id": job_id, "fence": job["fence"]}]
            assert await close_code(old) == 4409
            await new.send(json.dumps({"type": "complete", "id": job_id, "fence": job["fence"], "ref": "done"}))
            assert (await receive(new))["ok"]


async def test_session_is_resumed_after_the_server_was_killed(tmp_path):
    server = Server(tmp_path, lease_seconds=5)
    with server.running():
        job_id = await enqueue(server, "mail")
        async with connect(address(server, "mail", "prefetch=1"), proxy=None) as socket:
            token = (await hello_of(socket))["resume"]
            job = (await receive(socket))["job"]
            server.kill()
        server.start()
        async with connect(address(server, "mail", f"prefetch=1&resume={token}"), proxy=None) as socket:
            hello = await hello_of(socket)
            assert (hello["resumed"], hello["held"]) == (True, [{"id": job_id, "fence": job["fence"]}])
            await socket.send(json.dumps({"type": "complete", "id": job_id, "fence": job["fence"], "ref": "done"}))
            assert (await receive(socket))["ok"]


async def test_worker_that_closes_while_it_is_sent_a_job_is_no_failure(server, executor):
    async with http_client(server.url) as http:
        for _ in range(60):
            async with worker(server, executor, "prefetch=1") as socket:
                enqueuing = [http.post("/v1/jobs", json={"executor": executor}) for _ in range(2)]
                await asyncio.gather(socket.close(), *enqueuing)
    assert not server.failures()
