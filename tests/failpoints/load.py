"""Clients that use every road at once until the server is gone, and note what they were told."""

import asyncio
import json
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any

import httpx2
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.end_to_end.server import Server, http_client

CUT_OFF = (OSError, httpx2.TransportError, WebSocketException)
KEPT = 10
PRUNE = {"status": "cancelled", "prune_by": {"max_length": KEPT}, "executors": {"only": ["old"]}}
PACE_SECONDS = 0.01


@dataclass
class Delivery:
    """A job as a worker got it."""

    job: dict[str, Any]
    at: float
    """The loop's time."""
    answered: bool = False
    """Whether an acknowledgement was sent, whatever came of it."""
    outcome: str | None = None
    """The operation that the server said it had made durable."""

    @property
    def attempted_at(self) -> datetime:
        return datetime.fromisoformat(self.job["attempted_at"])

    @property
    def lease_expires_at(self) -> datetime:
        return datetime.fromisoformat(self.job["lease_expires_at"])


@dataclass
class Record:
    """What all clients know together."""

    enqueues: dict[str, list[str]] = field(default_factory=dict)
    """The data of the jobs of each call, by its key."""
    acknowledged: dict[str, list[int]] = field(default_factory=dict)
    """The ids that each call was answered with."""
    deliveries: dict[int, list[Delivery]] = field(default_factory=dict)

    def deliver(self, job: dict[str, Any]) -> Delivery:
        delivery = Delivery(job, asyncio.get_running_loop().time())
        self.deliveries.setdefault(job["id"], []).append(delivery)
        return delivery


async def enqueue(http: httpx2.AsyncClient, record: Record, key: str, data: list[str]) -> None:
    """Enqueue one job or, all or nothing, several; a call with a slash in its key may be repeated under it."""
    record.enqueues[key] = data
    headers = {"Idempotency-Key": key} if "/" in key else {}
    jobs = [{"executor": "mail", "data": each, "max_attempts": 100} for each in data]
    if len(jobs) == 1:
        answer = await http.post("/v1/jobs", json=jobs[0], headers=headers)
        assert answer.status_code == 201, answer.text
        record.acknowledged[key] = [answer.json()["id"]]
    else:
        answer = await http.post("/v1/jobs/bulk", json={"jobs": jobs}, headers=headers)
        assert answer.status_code == 200, answer.text
        record.acknowledged[key] = [result["id"] for result in answer.json()["results"]]


async def produce(server: Server, record: Record, name: str) -> None:
    async with http_client(server.url) as http:
        for number in count():
            key = f"{name}{number}"
            await enqueue(http, record, key, [f"{key}-{index}" for index in range(3 if number % 4 == 3 else 1)])
            await asyncio.sleep(PACE_SECONDS)  # paced: what is left over has to be worked off


async def repeat(server: Server, record: Record) -> None:
    """Make the calls again that bear an Idempotency-Key: what was answered is answered so again."""
    answered = dict(record.acknowledged)
    async with http_client(server.url) as http:
        for key, data in record.enqueues.items():
            if "/" in key:
                await enqueue(http, record, key, data)
    assert record.acknowledged.items() >= answered.items()


async def work(server: Server, record: Record) -> None:
    """Complete what comes, some of it after a retry."""
    sent: dict[str, tuple[Delivery, str]] = {}
    async with connect(address(server, 4), proxy=None) as socket:
        async for frame in socket:
            message = json.loads(frame)
            if message["type"] == "job":
                delivery = record.deliver(message["job"])
                operation = "retry" if delivery.job["attempt"] == 1 and delivery.job["id"] % 4 == 0 else "complete"
                ref = f"{delivery.job['id']}/{delivery.job['fence']}"
                sent[ref] = delivery, operation
                delivery.answered = True
                await socket.send(json.dumps(acknowledgement(delivery, operation, ref)))
            elif message["type"] == "result":
                delivery, operation = sent.pop(message["ref"])
                if message["ok"]:
                    delivery.outcome = operation


async def work_and_hold(server: Server, record: Record) -> None:
    """Take jobs and say nothing more of them."""
    async with connect(address(server, 2), proxy=None) as socket:
        async for frame in socket:
            message = json.loads(frame)
            if message["type"] == "job":
                record.deliver(message["job"])


async def claim_and_vanish(server: Server, record: Record) -> None:
    """Claim by REST for a short lease, and never acknowledge."""
    async with http_client(server.url) as http:
        while True:
            answer = await http.post("/v1/executors/mail/claim", json={"wait": 5, "lease": 1})
            if answer.status_code != 200:
                return  # it drains
            for job in answer.json()["jobs"]:
                record.deliver(job)
            await asyncio.sleep(20 * PACE_SECONDS)  # most jobs are for the others


async def prune(server: Server) -> None:
    async with http_client(server.url) as http:
        while True:
            answer = await http.post("/v1/jobs/prune", json=PRUNE)
            assert answer.status_code == 200, answer.text
            await asyncio.sleep(20 * PACE_SECONDS)  # after the first there is nothing to prune


async def until_cut_off(client: Coroutine[Any, Any, None]) -> None:
    with suppress(*CUT_OFF):
        await client


async def work_again(server: Server, record: Record) -> None:
    """Work, and connect anew whenever cut off."""
    while True:
        await until_cut_off(work(server, record))


def address(server: Server, prefetch: int) -> str:
    return f"ws://127.0.0.1:{server.settings['port']}/v1/executors/mail/subscribe?prefetch={prefetch}"


def acknowledgement(delivery: Delivery, operation: str, ref: str) -> dict[str, Any]:
    message: dict[str, Any] = {
        "type": operation,
        "id": delivery.job["id"],
        "fence": delivery.job["fence"],
        "ref": ref,
    }
    if operation == "retry":
        message |= {"delay": 0, "error": {"error_type": "boom", "message": "once more"}}
    return message
