"""What tests of delivery do with streams: take jobs, with a limit on every wait."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import time_machine

from app.backend.contract import Subscription
from app.backend.extensions import Service
from app.domain.job import Job
from app.domain.stream import Event, Stopped

PATIENCE_SECONDS = 30.0
"""How long a test waits for what must come."""


@asynccontextmanager
async def subscribed(
    service: Service, executor: str = "mail", *, prefetch: int = 0, worker: str | None = None
) -> AsyncIterator[Subscription]:
    """A place in line, left at the end."""
    subscription = await service.subscribe_ready_jobs(executor, prefetch=prefetch, worker=worker)
    try:
        yield subscription
    finally:
        await subscription.close()


async def take(subscription: Subscription, count: int) -> list[Job]:
    """Wait for so many jobs; any other event, and any job more, is an error."""
    events = await take_events(subscription, count)
    jobs = [event for event in events if isinstance(event, Job)]
    assert len(jobs) == len(events) == count, events
    return jobs


async def take_events(subscription: Subscription, count: int) -> list[Event]:
    """Wait for so many events at least."""
    events: list[Event] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(events) < count:
            events += await subscription.next()
    return events


async def take_until_stopped(subscription: Subscription, reference: str) -> list[Job]:
    """Return the jobs that come before the end of a stop; nothing may come with it or after it."""
    jobs: list[Job] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            events = await subscription.next()
            jobs += [event for event in events if isinstance(event, Job)]
            if Stopped(reference) in events:
                assert events[-1] == Stopped(reference)
                return jobs


async def all_go_to(subscription: Subscription, count: int) -> list[Job]:
    """Ask for more jobs than there are and take them: no other place in line can have had a credit.

    A wait until nothing happens would prove less: here whoever else had a credit would have got one of them.
    """
    subscription.request(count + 1)
    return await take(subscription, count)


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds that no event tells."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():
            await asyncio.sleep(0.002)


async def spin(microseconds: int) -> None:
    """Let the event loop turn for so long: finer than a sleep, whose least is about a millisecond."""
    end = time.perf_counter_ns() + microseconds * 1_000
    while time.perf_counter_ns() < end:
        await asyncio.sleep(0)


@contextmanager
def a_day_later() -> Iterator[None]:
    """Set the clock on by a day, beyond every lease; it goes on from there."""
    with time_machine.travel(time.time() + 86_400, tick=True):
        yield
