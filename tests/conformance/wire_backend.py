"""rexecutor's ``Backend`` over the wire: a small client with the methods of the contract, for tests."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import httpx2
import msgspec
from websockets.asyncio.client import ClientConnection, connect

from app.domain.instant import RunAt
from app.domain.job import Ack, EnqueuableJob, Enqueued, EnqueueOutcome, ExecutionError, Job, JobChanges, Page
from app.domain.lifecycle import RevokeReason
from app.domain.pruning import PruneSpec
from app.domain.query import Query
from app.domain.status import JobStatus
from app.domain.stream import Drain, Event, Hello, Revoke, Stopped
from tests.conformance.wire_json import (
    Json,
    changes_json,
    enqueuable_json,
    error_json,
    error_of,
    job_of,
    prune_json,
    query_json,
    run_at_json,
)


class WireBackend:
    """A service at a URL, seen through its REST operations and its stream."""

    def __init__(self, url: str) -> None:
        """Speak to the service at this URL, such as ``http://127.0.0.1:8000``."""
        self._url = url
        self._http = httpx2.AsyncClient(base_url=url, timeout=30)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def subscribe_ready_jobs(
        self, executor: str, *, worker: str | None = None, prefetch: int = 0, resume: str | None = None
    ) -> "WireSubscription":
        wanted = {"worker": worker, "prefetch": prefetch, "resume": resume}
        parameters = urlencode({name: value for name, value in wanted.items() if value is not None})
        url = f"{self._url.replace('http', 'ws', 1)}/v1/executors/{executor}/subscribe?{parameters}"
        # Loopback only: a proxy from the environment has no business here.
        connection = await connect(url, subprotocols=["rexecutor.v1"], proxy=None)
        return WireSubscription(connection, await _receive(connection))

    async def enqueue(self, job: EnqueuableJob) -> Enqueued:
        answer = await self._post("/v1/jobs", enqueuable_json(job))
        return Enqueued(answer["id"], EnqueueOutcome(answer["outcome"]))

    async def mark_job_complete(self, job_id: int, *, fence: int | None = None) -> Ack:
        return await self._mark(job_id, "complete", fence)

    async def mark_job_retryable(
        self, job_id: int, next_scheduled_at: RunAt, error: ExecutionError, *, fence: int | None = None
    ) -> Ack:
        when = run_at_json(next_scheduled_at, "next_scheduled_at")
        return await self._mark(job_id, "retry", fence, error=error_json(error), **when)

    async def mark_job_discarded(self, job_id: int, error: ExecutionError, *, fence: int | None = None) -> Ack:
        return await self._mark(job_id, "discard", fence, error=error_json(error))

    async def mark_job_cancelled(self, job_id: int, error: ExecutionError, *, fence: int | None = None) -> Ack:
        return await self._mark(job_id, "cancel", fence, error=error_json(error))

    async def mark_job_snoozed(self, job_id: int, next_scheduled_at: RunAt, *, fence: int | None = None) -> Ack:
        return await self._mark(job_id, "snooze", fence, **run_at_json(next_scheduled_at, "next_scheduled_at"))

    async def prune_jobs(self, spec: PruneSpec, *, dry_run: bool = False) -> int:
        answer = await self._post("/v1/jobs/prune", {**prune_json(spec), "dry_run": dry_run})
        deleted: int = answer["deleted"]
        return deleted

    async def rerun_job(self, job_id: int, *, force: bool = False) -> Ack:
        return _ack(await self._post(f"/v1/jobs/{job_id}/rerun", {"force": force}))

    async def update_job(self, job_id: int, changes: JobChanges, *, if_match: frozenset[int] | None = None) -> Job:
        headers = {} if if_match is None else {"If-Match": ", ".join(f'"{version}"' for version in if_match)}
        return job_of(await self._send("PATCH", f"/v1/jobs/{job_id}", changes_json(changes), headers))

    async def query(self, query: Query, *, limit: int = 100, before: int | None = None) -> Page:
        """Cursors are opaque on the wire: going on from ``before`` is not offered here."""
        assert before is None
        answer = await self._post("/v1/jobs/query", {"query": query_json(query), "limit": limit})
        return Page([job_of(job) for job in answer["jobs"]], None)

    async def _mark(self, job_id: int, verb: str, fence: int | None, **members: Any) -> Ack:
        fenced = {} if fence is None else {"fence": fence}
        return _ack(await self._post(f"/v1/jobs/{job_id}/{verb}", {**members, **fenced}))

    async def _post(self, path: str, json: Json) -> Json:
        return await self._send("POST", path, json, {})

    async def _send(self, method: str, path: str, json: Json, headers: dict[str, str]) -> Json:
        content = msgspec.json.encode(json)
        headers = {"Content-Type": "application/json", **headers}
        answer = await self._http.request(method, path, content=content, headers=headers)
        body: Json = msgspec.json.decode(answer.content)
        if answer.is_success:
            return body
        assert answer.headers["Content-Type"] == "application/problem+json"
        raise error_of(body)


class WireSubscription:
    """One socket; what it sends goes out in order, what comes in is read by ``next``."""

    def __init__(self, connection: ClientConnection, hello: Json) -> None:
        """Take over a connection after its ``hello``."""
        assert hello["type"] == "hello"
        self._connection = connection
        self._outgoing: asyncio.Queue[Json | None] = asyncio.Queue()
        self._sender = asyncio.create_task(self._send_all())
        self._events: deque[Event] = deque()
        self.hello = Hello(
            session=hello["session"],
            resume=hello["resume"],
            resumed=hello["resumed"],
            held=[(held["id"], held["fence"]) for held in hello["held"]],
            credits=hello["credits"],
            lease_seconds=hello["lease"],
        )

    async def next(self) -> list[Event]:
        while True:
            message = await _receive(self._connection)
            event = _event(message)
            if event is not None:
                return [event]

    def request(self, credits: int) -> None:
        self._outgoing.put_nowait({"type": "request", "n": credits})

    def stop(self, reference: str | None = None) -> None:
        self._outgoing.put_nowait({"type": "stop", "ref": reference or "stop"})

    def alive(self) -> None:
        self._outgoing.put_nowait({"type": "heartbeat"})

    async def close(self) -> None:
        self._outgoing.put_nowait(None)
        await self._sender
        await self._connection.close()

    async def __aiter__(self) -> AsyncIterator[Job]:
        while True:
            self.request(1)
            yield await self._next_job()

    async def _next_job(self) -> Job:
        while True:
            for event in await self.next():
                if isinstance(event, Job):
                    return event

    async def _send_all(self) -> None:
        while (message := await self._outgoing.get()) is not None:
            await self._connection.send(msgspec.json.encode(message).decode())


async def _receive(connection: ClientConnection) -> Json:
    frame = await connection.recv()
    assert isinstance(frame, str)
    message: Json = msgspec.json.decode(frame)
    return message


def _event(message: Json) -> Event | None:
    match message["type"]:
        case "job":
            return job_of(message["job"])
        case "revoke":
            return Revoke(message["id"], message["fence"], RevokeReason(message["reason"]))
        case "result" if message.get("ref") is not None:
            assert message["ok"], message
            return Stopped(message["ref"])
        case "drain":
            return Drain()
    return None


def _ack(answer: Json) -> Ack:
    return Ack(answer["id"], JobStatus(answer["status"]), answer["duplicate"])
