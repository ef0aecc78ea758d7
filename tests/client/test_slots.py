"""What an executor has no use for others may use, and nobody is left without."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexecutor_client import AsyncClient, Job, Worker, executor, slots
from rexecutor_client.slots import shares, targets

pytestmark = pytest.mark.timeout(60)

SLOTS = 12


@st.composite
def workers(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    """What each line can use at most, what it needs now, and the slots."""
    most = draw(st.lists(st.integers(1, 50), min_size=1, max_size=8))
    slots = draw(st.integers(len(most), 60))
    return most, [draw(st.integers(1, each)) for each in most], slots


@given(workers())
def test_windows_fit_the_slots_and_the_lines(worker):
    most, needs, slots = worker
    for windows in (shares(most, slots), targets(needs, shares(most, slots), slots)):
        assert sum(windows) <= slots
        assert all(1 <= window <= limit for window, limit in zip(windows, most, strict=True))


@given(workers())
def test_line_gets_what_it_needs_up_to_its_even_share_whatever_the_others_need(worker):
    most, needs, slots = worker
    even = shares(most, slots)
    windows = targets(needs, even, slots)
    assert all(window >= min(need, share) for window, need, share in zip(windows, needs, even, strict=True))


@given(workers())
def test_no_slot_is_free_while_a_line_needs_one(worker):
    most, needs, slots = worker
    windows = targets(needs, shares(most, slots), slots)
    if any(window < need for window, need in zip(windows, needs, strict=True)):
        assert sum(windows) == slots


class Crowd:
    """Counts how many of its jobs are executed at once."""

    def __init__(self, name: str) -> None:
        self.most = self.now = 0
        self.go_on = asyncio.Event()
        self.executor = executor(name)(self._stay)

    async def _stay(self, _: Job) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.go_on.wait()
        finally:
            self.now -= 1


async def until_there_are(crowd: Crowd, jobs: int) -> None:
    async with asyncio.timeout(20):
        while crowd.now < jobs:
            await asyncio.sleep(0.01)


async def test_busy_executor_uses_the_slots_of_idle_ones_and_gives_them_back(served):
    busy, other, idle = Crowd("busy"), Crowd("other"), Crowd("idle")
    worker = Worker([each.executor for each in (busy, other, idle)], url=served.url, concurrency=SLOTS)
    running = asyncio.create_task(worker.run())
    async with AsyncClient(served.url) as client:
        await client.enqueue_many([busy.executor.job() for _ in range(3 * SLOTS)])
        await until_there_are(busy, SLOTS - 2)
        assert sum(line.window for line in worker._lines) == SLOTS

        # The others have one slot each at once, and the rest of their shares once jobs have ended.
        await client.enqueue_many([each.executor.job() for each in (other, idle) for _ in range(SLOTS)])
        await until_there_are(other, 1)
        await until_there_are(idle, 1)
        busy.go_on.set()
        await until_there_are(other, SLOTS // 3)
        await until_there_are(idle, SLOTS // 3)
        for each in (other, idle):
            each.go_on.set()
        async with asyncio.timeout(20):
            while worker.status.done < 5 * SLOTS:
                await asyncio.sleep(0.01)
    worker.stop()
    await running
    assert busy.most == SLOTS - 2


async def test_slots_that_become_free_later_go_to_whoever_is_full_still(served):
    busy, short = Crowd("busy"), Crowd("short")
    worker = Worker([busy.executor, short.executor], url=served.url, concurrency=4)
    running = asyncio.create_task(worker.run())
    async with AsyncClient(served.url) as client:
        await client.enqueue_many([busy.executor.job() for _ in range(4)])
        await client.enqueue_many([short.executor.job() for _ in range(2)])
        await until_there_are(busy, 2)
        await until_there_are(short, 2)
        await asyncio.sleep(3 * slots._ROUND_SECONDS)
        assert (busy.now, short.now) == (2, 2)
        short.go_on.set()
        await until_there_are(busy, 3)
        busy.go_on.set()
    worker.stop()
    await running


async def test_no_more_jobs_are_executed_than_there_are_slots(served):
    now, most = 0, 0

    async def work(_: Job) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1

    executors = [executor(name)(work) for name in ("a", "b", "c", "d")]
    worker = Worker(executors, url=served.url, concurrency=SLOTS)
    running = asyncio.create_task(worker.run())
    async with AsyncClient(served.url) as client:
        for number, each in enumerate(executors):
            await client.enqueue_many([each.job(delay=timedelta(seconds=0.3 * number)) for _ in range(150)])
        async with asyncio.timeout(30):
            while worker.status.done < 600:
                await asyncio.sleep(0.01)
    worker.stop()
    await running
    assert SLOTS - 2 <= most <= SLOTS
