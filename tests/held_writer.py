"""A writer that is kept busy, so that what is submitted meanwhile waits."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.backend.extensions import Service

HELD_SECONDS = 30


@asynccontextmanager
async def writer_held(service: Service) -> AsyncIterator[None]:
    """Nothing is written inside; all that waits at its end shares one transaction."""
    held, gate = threading.Event(), threading.Event()

    def hold(_transaction: object, _items: list[None]) -> list[bool]:
        held.set()
        return [gate.wait(HELD_SECONDS)]

    holding = asyncio.ensure_future(service._dialect._commit.submit(hold, [None]))
    await asyncio.to_thread(held.wait)
    try:
        yield
    finally:
        gate.set()
    assert await holding == [True]


async def until_waiting(service: Service, count: int) -> None:
    """Wait until so many calls wait for the writer."""
    async with asyncio.timeout(HELD_SECONDS):
        while service._dialect._commit._waiting.qsize() < count:
            await asyncio.sleep(0.001)  # they get there by themselves
