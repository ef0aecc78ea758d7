"""The Python client's worker, as a program has it: a coroutine function that does nothing, and every result awaited.

It says ``ready`` once it is connected, and ends when it has the results of as many jobs as it was told.
"""

import asyncio
import time

from msgspec import Struct

from rexecutor_client import Job, Worker, executor

from . import payload
from .child import order_of, tell


class Order(Struct, frozen=True, kw_only=True):
    """How to work."""

    port: int
    jobs: int
    concurrency: int = 100


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of it."""

    jobs: int
    seconds: float
    """From the first job to the last result."""
    cpu_seconds: float
    """Of this process meanwhile."""
    numbers: list[int]
    """The job numbers in the order of arrival, and for each:"""
    arrived_at: list[int]
    """nanoseconds of the monotonic clock, when its function was called."""


class Numbered(Struct):
    """The data of a job."""

    n: int | str


async def work(order: Order) -> Outcome:
    """Follow an order."""
    numbers: list[int] = []
    arrived_at: list[int] = []
    cpu_began_at = 0.0

    @executor(payload.EXECUTOR)
    async def note(job: Job[Numbered]) -> None:
        nonlocal cpu_began_at
        if not arrived_at:
            cpu_began_at = time.process_time()
        arrived_at.append(time.monotonic_ns())
        numbers.append(int(job.data.n))
        if len(numbers) == order.jobs:
            worker.stop()

    worker = Worker([note], url=f"http://127.0.0.1:{order.port}", concurrency=order.concurrency)
    working = asyncio.create_task(worker.run())
    while not worker.status.is_healthy and not working.done() and not numbers:
        await asyncio.sleep(0.001)
    print("ready", flush=True)
    await working
    return Outcome(
        jobs=worker.status.done,
        seconds=(time.monotonic_ns() - arrived_at[0]) / 1e9,
        cpu_seconds=time.process_time() - cpu_began_at,
        numbers=numbers,
        arrived_at=arrived_at,
    )


if __name__ == "__main__":
    # On the event loop that Python comes with: the client asks for no other.
    tell(asyncio.run(work(order_of(Order))))
