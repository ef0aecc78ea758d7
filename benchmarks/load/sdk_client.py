"""A producer's process that uses the Python client, or httpx2 as it is: one enqueue after the other, or collected."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from itertools import count

import httpx2
import msgspec
from msgspec import Struct

from rexecutor_client import AsyncClient, EnqueuableJob

from . import payload
from .child import run


class Way(StrEnum):
    """How jobs are enqueued."""

    BARE = "bare"
    """One by one by httpx2, with nothing of the client's."""
    SINGLE = "single"
    """One by one."""
    COLLECTED = "collected"
    """Single enqueues that ``bulk`` collects."""


class Order(Struct, frozen=True, kw_only=True):
    """What to do."""

    way: Way
    port: int
    seconds: float = 0.0
    """For one by one, after a tenth of it to warm up."""
    jobs: int = 0
    """To be collected."""


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of it."""

    jobs: int
    seconds: float
    cpu_seconds: float
    """Of this process."""


async def produce(order: Order) -> Outcome:
    """Follow an order."""
    url = f"http://127.0.0.1:{order.port}"
    match order.way:
        case Way.BARE:
            async with httpx2.AsyncClient(headers={"Content-Type": "application/json"}) as http:
                return await _one_by_one(order, lambda n: _post(http, url, n))
        case Way.SINGLE:
            async with AsyncClient(url) as client:
                return await _one_by_one(order, lambda n: client.enqueue(_job(n)))
        case Way.COLLECTED:
            async with AsyncClient(url) as client:
                return await _collected(client, order.jobs)


async def _post(http: httpx2.AsyncClient, url: str, n: int) -> None:
    answer = await http.post(f"{url}/v1/jobs", content=msgspec.json.encode(_job(n)))
    answer.raise_for_status()


async def _one_by_one(order: Order, enqueue: Callable[[int], Awaitable[object]]) -> Outcome:
    numbers = count()
    await _for(order.seconds / 10, enqueue, numbers)
    cpu_before = time.process_time()
    jobs, seconds = await _for(order.seconds, enqueue, numbers)
    return Outcome(jobs=jobs, seconds=seconds, cpu_seconds=time.process_time() - cpu_before)


async def _for(seconds: float, enqueue: Callable[[int], Awaitable[object]], numbers: "count[int]") -> tuple[int, float]:
    began_at = time.perf_counter()
    jobs = 0
    while (passed := time.perf_counter() - began_at) < seconds:
        await enqueue(next(numbers))
        jobs += 1
    return jobs, passed


async def _collected(client: AsyncClient, jobs: int) -> Outcome:
    began_at, cpu_before = time.perf_counter(), time.process_time()
    async with client.bulk() as bulk:
        await asyncio.gather(*(bulk.enqueue(_job(n)) for n in range(jobs)))
    return Outcome(jobs=jobs, seconds=time.perf_counter() - began_at, cpu_seconds=time.process_time() - cpu_before)


def _job(n: int) -> EnqueuableJob:
    return EnqueuableJob(
        executor=payload.EXECUTOR, data=msgspec.json.decode(payload.data_of(n)), priority=payload.priority_of(n)
    )


if __name__ == "__main__":
    run(Order, produce)
