"""A stand-in for the service, for what the real one does rarely: it refuses, closes and forgets as it is told."""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from websockets.asyncio.server import Request, Response, Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.client.handed_out import handed_out

PATIENCE_SECONDS = 10
LEASE_SECONDS = 30


class Refusal(msgspec.Struct, frozen=True):
    """An answer to a handshake."""

    status: int
    slug: str
    retry_after: str | None = None


class Stream:
    """One connection: what came over it, and what is to be sent."""

    def __init__(self, connection: ServerConnection, executor: str, query: dict[str, str]) -> None:
        self.executor = executor
        self.query = query
        self.before_stopped: Callable[[], Awaitable[None]] | None = None
        """What to send before the result of a stop."""
        self._connection = connection
        self._read: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def hello(self, *, held: list[tuple[int, int]] | None = None, lease: float = LEASE_SECONDS) -> None:
        """Begin, with another token than the connection before."""
        await self.send(
            type="hello",
            protocol=1,
            version="0",
            features=[],
            limits={},
            session="s",
            resume=f"token {self.query.get('resume', '')}".strip(),
            resumed="resume" in self.query,
            held=[{"id": job_id, "fence": fence} for job_id, fence in held or []],
            credits=int(self.query["prefetch"]),
            heartbeat_interval=lease / 3,
            lease=lease,
        )

    async def send(self, **message: Any) -> None:
        await self._connection.send(json.dumps(message))

    async def send_text(self, frame: bytes) -> None:
        await self._connection.send(frame, text=True)

    async def send_job(self, job_id: int = 1, *, fence: int = 1, data: Any = None) -> None:
        job = msgspec.to_builtins(handed_out(data, id=job_id, fence=fence))
        await self.send(type="job", job={name: value for name, value in job.items() if name != "revoked"})

    async def accept(self, message: dict[str, Any], status: str = "complete") -> None:
        """Answer an acknowledgement."""
        await self.send(type="result", ref=message["ref"], id=message["id"], ok=True, status=status, duplicate=False)

    async def refuse(self, message: dict[str, Any], status: int, slug: str) -> None:
        problem = {"type": f"/problems/{slug}", "status": status, "title": slug}
        await self.send(type="result", ref=message["ref"], id=message["id"], ok=False, problem=problem)

    async def next(self, *kinds: str) -> dict[str, Any]:
        """Wait for the next message of these types, of any but heartbeats if none is given."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                message = await self._read.get()
                if message["type"] in kinds or (not kinds and message["type"] != "heartbeat"):
                    return message

    async def close(self, code: int) -> None:
        await self._connection.close(code)

    def abort(self) -> None:
        """Break the connection without a word."""
        self._connection.transport.abort()

    def stand_still(self) -> None:
        """Read nothing any more, and answer no ping."""
        self._connection.transport.pause_reading()

    async def serve(self) -> None:
        """Read until the end, answering each stop."""
        try:
            async for frame in self._connection:
                decoded = json.loads(frame)
                for message in decoded if isinstance(decoded, list) else [decoded]:
                    await self._read.put(message)
                    if message["type"] == "stop" and "ref" in message:
                        if self.before_stopped is not None:
                            await self.before_stopped()
                        await self.send(type="result", ref=message["ref"], ok=True)
        except ConnectionClosed:
            pass


class StandIn:
    """Takes connections to the stream of any executor; ``refusals`` come first."""

    def __init__(self) -> None:
        self.refusals: deque[Refusal] = deque()
        self.refused: dict[str, Refusal] = {}
        """What is always refused, by executor."""
        self.asked_at: list[float] = []
        """When a connection was asked for, by the monotonic clock."""
        self.url = ""
        self._server: Server
        self._streams: asyncio.Queue[Stream] = asyncio.Queue()

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator["StandIn"]:
        """Listen on a port of this machine."""
        async with serve(
            self._serve,
            "127.0.0.1",
            port,
            process_request=self._answer,
            subprotocols=["rexecutor.v1"],  # type: ignore[list-item]  # a NewType of str
            close_timeout=1,
        ) as server:
            self.url = f"http://127.0.0.1:{_port(server)}"
            self._server = server
            yield self

    async def stop(self) -> None:
        """Listen no more."""
        self._server.close()
        await self._server.wait_closed()

    async def connection(self) -> Stream:
        """Wait for the next connection; it has had no hello."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._streams.get()

    async def begun(self, *, held: list[tuple[int, int]] | None = None, lease: float = LEASE_SECONDS) -> Stream:
        """Wait for the next connection and say hello."""
        stream = await self.connection()
        await stream.hello(held=held, lease=lease)
        return stream

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        if "/subscribe" not in request.path:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "")
        self.asked_at.append(time.monotonic())
        refusal = self.refused.get(request.path.split("/")[3])
        if refusal is None:
            if not self.refusals:
                return None
            refusal = self.refusals.popleft()
        document = {"type": f"/problems/{refusal.slug}", "status": refusal.status, "title": refusal.slug}
        response = connection.respond(HTTPStatus(refusal.status), json.dumps(document))
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/problem+json"
        if refusal.retry_after is not None:
            response.headers["Retry-After"] = refusal.retry_after
        return response

    async def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        asked = urlsplit(connection.request.path)
        query = parse_qs(asked.query)
        stream = Stream(connection, asked.path.split("/")[3], {name: values[0] for name, values in query.items()})
        await self._streams.put(stream)
        await stream.serve()


def _port(server: Server) -> int:
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port
