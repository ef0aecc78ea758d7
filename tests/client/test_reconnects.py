"""Whoever reconnects a hundred times has what it had after the first few: nothing leaks."""

import asyncio
import gc
import threading
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest

from rexecutor_client import AsyncClient, Job, Worker, executor, pauses

RECONNECTS = 100
WINDOW = 20
PATIENCE_SECONDS = 60
BYTES_A_RECONNECT = 2_000
"""Far less than a connection has; a few are what the interpreter keeps for later."""

pytestmark = pytest.mark.timeout(120)


@executor("mail")
async def send(_: Job) -> None:
    """Do nothing."""


async def connected(worker: Worker, times: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (worker.status.is_healthy and worker.status.executors[0].connections >= times):
            await asyncio.sleep(0.005)


async def done(worker: Worker, jobs: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while worker.status.done < jobs:
            await asyncio.sleep(0.001)


def owned() -> dict[str, int]:
    """What a connection could leave behind."""
    gc.collect()
    return {
        "tasks": len(asyncio.all_tasks()),
        "files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "threads": threading.active_count(),
        "subscriptions": sum(type(each).__name__ == "Subscription" for each in gc.get_objects()),
    }


def traced_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
async def test_nothing_leaks_over_a_hundred_reconnects(served, monkeypatch):
    monkeypatch.setattr(pauses, "FIRST_SECONDS", 0.01)
    sizes: list[int] = []
    worker = Worker([send], url=served.url)
    (line,) = worker._lines
    async with AsyncClient(served.url) as client:
        running = asyncio.create_task(worker.run())
        await connected(worker, 1)
        before = None
        for reconnects in range(1, RECONNECTS + 1):
            await client.enqueue(send.job())
            await done(worker, reconnects)
            assert line._subscription is not None
            line._subscription.abort()
            await connected(worker, reconnects + 1)
            if reconnects == 5:
                before = owned()
                tracemalloc.start()
            if reconnects % WINDOW == 0:
                sizes.append(traced_bytes())
        tracemalloc.stop()
        # What leaks does so in each window; what else this process has to remember comes once.
        assert min(following - size for size, following in pairwise(sizes)) < WINDOW * BYTES_A_RECONNECT
        # What the last one had is being closed.
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (after := owned()) and any(after[what] > before[what] for what in after):
                await asyncio.sleep(0.1)
        worker.stop()
        await running
