"""A producer's process: enqueues as fast as it is answered, at a fixed pace, or a fixed number of jobs."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import cycle

from msgspec import Struct

from . import payload
from .child import run
from .http_client import HttpConnection, connect


class Kind(StrEnum):
    """What a producer can do."""

    FLOOD = "flood"
    """Post jobs as fast as it is answered."""
    BULKS = "bulks"
    """The same with 1,000 jobs a request."""
    FILL = "fill"
    """Post so many jobs in bulks."""
    PLAN = "plan"
    """The same, each job scheduled for a time of its own."""
    PACE = "pace"
    """Post so many jobs one by one, so many a second."""


class Order(Struct, frozen=True, kw_only=True):
    """What to do. The kind decides which of the numbers count."""

    kind: Kind
    port: int
    connections: int = 1
    warm_seconds: float = 0.0
    seconds: float = 0.0
    jobs: int = 0
    per_second: float = 0.0
    lead_seconds: float = 0.0


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of it."""

    jobs: int = 0
    seconds: float = 0.0
    sent_at: list[int] = []
    """For each job of a paced run its number in order, when it was sent: nanoseconds of the monotonic clock."""
    behind_seconds: float = 0.0
    """By how much a paced run sent its latest job after its time."""


async def produce(order: Order) -> Outcome:
    """Follow an order."""
    match order.kind:
        case Kind.FLOOD:
            return await _flood(order, cycle([payload.single_request(n) for n in range(1_000)]), 1)
        case Kind.BULKS:
            starts = range(0, 4 * payload.BULK_JOBS, payload.BULK_JOBS)
            bulks = [payload.bulk_request(range(start, start + payload.BULK_JOBS)) for start in starts]
            return await _flood(order, cycle(bulks), payload.BULK_JOBS)
        case Kind.FILL:
            return await _send_all(order.port, _bulks(order.jobs))
        case Kind.PLAN:
            return await _send_all(order.port, _planned(order))
        case Kind.PACE:
            return await _pace(order)


async def _flood(order: Order, requests: Iterator[bytes], jobs_each: int) -> Outcome:
    """Keep each connection busy, and count the answers of a window after the warm-up."""
    answers = 0
    finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(connection: HttpConnection) -> None:
        nonlocal answers
        answers += 1
        connection.send(next(requests))

    connections = await connect(order.port, order.connections, answered, _failing(finished))
    for connection in connections:
        connection.send(next(requests))
    await _unless_failed(finished, order.warm_seconds)
    before, began_at = answers, time.perf_counter()
    await _unless_failed(finished, order.seconds)
    jobs, seconds = (answers - before) * jobs_each, time.perf_counter() - began_at
    for connection in connections:
        connection.close()
    return Outcome(jobs=jobs, seconds=seconds)


async def _send_all(port: int, requests: list[tuple[bytes, int]]) -> Outcome:
    """Send requests one after the other over one connection."""
    waiting = deque(requests)
    finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(connection: HttpConnection) -> None:
        if waiting:
            connection.send(waiting.popleft()[0])
        elif not finished.done():
            finished.set_result(None)

    (connection,) = await connect(port, 1, answered, _failing(finished))
    began_at = time.perf_counter()
    answered(connection)
    await finished
    seconds = time.perf_counter() - began_at
    connection.close()
    return Outcome(jobs=sum(jobs for _, jobs in requests), seconds=seconds)


async def _pace(order: Order) -> Outcome:
    """Send one job after the other, each at its time, over whichever connection is free."""
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[None] = loop.create_future()
    free: deque[HttpConnection] = deque()
    due: deque[int] = deque()
    sent_at = [0] * order.jobs
    requests = [payload.single_request(n) for n in range(order.jobs)]
    answers = 0

    def send(connection: HttpConnection) -> None:
        n = due.popleft()
        sent_at[n] = time.monotonic_ns()
        connection.send(requests[n])

    def answered(connection: HttpConnection) -> None:
        nonlocal answers
        answers += 1
        if due:
            send(connection)
        else:
            free.append(connection)
        if answers == order.jobs and not finished.done():
            finished.set_result(None)

    def tick(n: int) -> None:
        due.append(n)
        if free:
            send(free.popleft())

    connections = await connect(order.port, order.connections, answered, _failing(finished))
    free.extend(connections)
    start = loop.time() + 0.05
    start_ns = time.monotonic_ns() + 50_000_000
    for n in range(order.jobs):
        loop.call_at(start + n / order.per_second, tick, n)
    await finished
    for connection in connections:
        connection.close()
    behind = max(at - start_ns - n * 1e9 / order.per_second for n, at in enumerate(sent_at))
    return Outcome(jobs=order.jobs, sent_at=sent_at, behind_seconds=behind / 1e9)


def _bulks(jobs: int) -> list[tuple[bytes, int]]:
    """Return bulk requests for so many jobs, with the number of jobs in each."""
    ranges = [range(start, min(start + payload.BULK_JOBS, jobs)) for start in range(0, jobs, payload.BULK_JOBS)]
    return [(payload.bulk_request(numbers), len(numbers)) for numbers in ranges]


def _planned(order: Order) -> list[tuple[bytes, int]]:
    """Return bulk requests for jobs spread evenly over ``seconds``, the first of them ``lead_seconds`` from now."""
    first = datetime.now(UTC) + timedelta(seconds=order.lead_seconds)
    apart = timedelta(seconds=order.seconds) / order.jobs
    plan = [(n, (first + n * apart).isoformat()) for n in range(order.jobs)]
    parts = [plan[start : start + payload.BULK_JOBS] for start in range(0, order.jobs, payload.BULK_JOBS)]
    return [(payload.scheduled_bulk_request(part), len(part)) for part in parts]


def _failing(finished: asyncio.Future[None]) -> Callable[[Exception], None]:
    def lost(error: Exception) -> None:
        if not finished.done():
            finished.set_exception(error)

    return lost


async def _unless_failed(finished: asyncio.Future[None], seconds: float) -> None:
    """Let so many seconds pass; raises what ended the run before."""
    done, _ = await asyncio.wait([finished], timeout=seconds)
    for future in done:
        future.result()


if __name__ == "__main__":
    run(Order, produce)
