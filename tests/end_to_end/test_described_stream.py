"""A real session against the stream's description: each frame of both sides is what the description says."""

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.api.asyncapi_messages import MESSAGES
from tests.api.stream_schemas import faults_of
from tests.end_to_end.server import Server, http_client

PATIENCE_SECONDS = 15
FAILURE = {"error_type": "boom", "message": "no\nmore"}
LATER = {"delay": 60}


class Session:
    """A connected worker that keeps every message, and holds each against its schema."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.sent: list[dict[str, Any]] = []
        self.received: list[dict[str, Any]] = []

    async def send(self, *messages: dict[str, Any], is_wrong: bool = False) -> None:
        for message in messages:
            assert bool(faults_of(message)) == is_wrong, message
        self.sent += messages
        await self._socket.send(json.dumps(messages))

    async def receive(self, kind: str, **members: Any) -> dict[str, Any]:
        """Read on until a message of this kind with these members."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                for message in self._read(await self._socket.recv()):
                    if message["type"] == kind and members.items() <= message.items():
                        return message

    async def read_to_the_end(self) -> int | None:
        """Return the code with which the server closes."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                while True:
                    self._read(await self._socket.recv())
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else None

    def _read(self, frame: str | bytes) -> list[dict[str, Any]]:
        value = json.loads(frame)
        messages = value if isinstance(value, list) else [value]
        for message in messages:
            assert faults_of(message) == [], message
        self.received += messages
        return messages


@pytest.mark.parametrize("batch", ["true", "false"])
async def test_every_kind_of_message_is_as_described_both_ways(tmp_path, batch: str):
    server = Server(tmp_path, lease_seconds=10)
    with server.running():
        address = f"{server.url.replace('http', 'ws', 1)}/v1/executors/mail/subscribe?worker=ada&batch={batch}"
        async with http_client(server.url) as http, connect(address, proxy=None) as socket:

            async def take(**members: Any) -> dict[str, Any]:
                """Have a job come."""
                enqueued = await http.post("/v1/jobs", json={"executor": "mail", **members})
                await session.send({"type": "request", "n": 1})
                job = (await session.receive("job"))["job"]
                assert job["id"] == enqueued.json()["id"]
                return {"id": job["id"], "fence": job["fence"]}

            session = Session(socket)
            await session.receive("hello")
            rich = {"data": {"a": [1, 2.5, None]}, "metadata": "ä\n", "tags": ["x"], "priority": 3}
            held = await take(**rich, uniqueness_criteria={"key": 7, "executor": True})
            await session.send({"type": "heartbeat"}, {"type": "complete", **held, "ref": "done"})
            await session.receive("result", ref="done", ok=True)
            await session.send({"type": "complete", **held, "ref": "again"})
            assert (await session.receive("result", ref="again"))["duplicate"]
            await session.send({"type": "discard", **held, "error": FAILURE})
            assert (await session.receive("result", id=held["id"]))["problem"]["type"] == "/problems/stale-fence"
            for message in (
                {"type": "retry", "error": FAILURE, "next_scheduled_at": "2100-01-01T00:00:00Z"},
                {"type": "discard", "error": FAILURE},
                {"type": "cancel", "error": FAILURE},
                {"type": "snooze", **LATER},
            ):
                await session.send(message | await take() | {"ref": message["type"]})
                await session.receive("result", ref=message["type"], ok=True)
            # A job that failed before comes with its error.
            held = await take(max_attempts=2)
            await session.send({"type": "retry", **held, "error": FAILURE, "delay": 0}, {"type": "request", "n": 1})
            held = {"id": held["id"], "fence": (await session.receive("job"))["job"]["fence"]}
            await session.send({"type": "release", **held, "ref": "back"})
            await session.receive("result", ref="back", ok=True)
            await session.send({"type": "stop", "ref": "enough"})
            await session.receive("result", ref="enough", ok=True)
            await session.send({"type": "complete", "id": 1}, is_wrong=True)
            await session.receive("result", id=1, ok=False)
            await session.send({"type": "request", "n": 1})
            revoked = (await session.receive("job"))["job"]
            assert revoked["errors"]
            await http.post(f"/v1/jobs/{revoked['id']}/cancel", json={"error": FAILURE})
            await session.receive("revoke", id=revoked["id"], fence=revoked["fence"])
            await take()
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            await session.receive("drain")
            assert await session.read_to_the_end() == 1012
            assert await stopping == 0
    assert {message["type"] for message in session.sent} == {each.kind for each in MESSAGES if not each.by_server}
    assert {message["type"] for message in session.received} == {each.kind for each in MESSAGES if each.by_server}
