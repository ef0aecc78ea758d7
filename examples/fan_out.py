"""One job becomes ten thousand, and a last one reports once all of them have ended.

The first may be run twice, when its worker dies: each child has a key, and what stands there already is not enqueued
again.
"""

import asyncio
import time
from datetime import timedelta

from rexecutor_client import AsyncClient, EnqueuableJob, Job, Snooze, UniquenessCriteria, Where, Worker, executor

PICTURES = 10_000
ENDED = ("complete", "cancelled", "discarded")


@executor("example-album")
async def album(job: Job[str]) -> None:
    async with AsyncClient() as client, client.bulk() as bulk:
        # Single enqueues, sent a thousand at a time.
        await asyncio.gather(*(bulk.enqueue(picture(job.data, number)) for number in range(PICTURES)))
        await client.enqueue(finish.job(job.data, uniqueness_criteria=once(f"{job.data}/finish")))


def picture(name: str, number: int) -> EnqueuableJob:
    return shrink.job(number, tags=[name], priority=1, uniqueness_criteria=once(f"{name}/{number}"))


def once(key: str) -> UniquenessCriteria:
    """Whatever has become of the first with this key."""
    return UniquenessCriteria(key=key, statuses=("scheduled", "executing", "retryable", *ENDED))


@executor("example-shrink")
async def shrink(job: Job[int]) -> None:
    """Make one picture smaller."""


@executor("example-finish")
async def finish(job: Job[str]) -> Snooze | None:
    of_album = Where.executor_equals("example-shrink") & Where.tagged_by_all_of(job.data)
    ended = Where.status_equals(ENDED[0]) | Where.status_equals(ENDED[1]) | Where.status_equals(ENDED[2])
    async with AsyncClient() as client:
        if (await client.query(of_album & ~ended, limit=1)).jobs:
            return Snooze(timedelta(seconds=0.2))  # not yet; it does not count as an attempt
    print(f"album {job.data} is done")
    return None


async def main() -> None:
    began_at = time.monotonic()
    name = f"holiday-{time.time_ns()}"
    async with AsyncClient() as client:
        await client.enqueue(album.job(name))
        worker = Worker([album, shrink, finish], concurrency=200)
        running = asyncio.create_task(worker.run())
        last = Where.executor_equals("example-finish") & Where.data_equals(name) & Where.status_equals("complete")
        while not (await client.query(last)).jobs:
            await asyncio.sleep(0.1)
        worker.stop()
        await running
        done = sum(line.done for line in worker.status.executors if line.executor == "example-shrink")
        print(f"{done} pictures in {time.monotonic() - began_at:.1f} s")


if __name__ == "__main__":
    asyncio.run(main())
