"""`rexecutor bench`: how fast this service is, from here."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import uuid4

from cyclopts import Parameter
from msgspec import Struct
from rich.console import Console
from rich.progress import Progress

from ..async_client import AsyncClient
from ..execution import executor
from ..job import EnqueuableJob, Job, JobStatus
from ..pruning import MaxLength, Only, PruneSpec
from ..worker import Worker
from .exits import NotDone, UsageError
from .service import HERE, Service, be_quiet
from .text import print_json

_BULK = 1_000
_SINGLES = 500
_LOOK_SECONDS = 0.01
_STALL_SECONDS = 30.0


class _Rates(Struct):
    """Jobs a second."""

    jobs: int
    enqueued_one_by_one: float
    enqueued_in_bulks: float
    worked_on: float


def bench(
    *,
    jobs: Annotated[int, Parameter(help="How many jobs.")] = 10_000,
    concurrency: Annotated[int, Parameter(help="How many run at once.")] = 100,
    service: Service = HERE,
) -> None:
    """Measure how fast this service is, from here.

    Enqueues jobs that do nothing, some one by one and the rest in bulks, lets a worker run them all, and prints
    three rates: they are those of this client, the network and the service together, and no more than a first
    impression. The jobs are of an executor made up for this, and are deleted at the end.
    """
    if jobs < 1 or concurrency < 1:
        raise UsageError("--jobs and --concurrency are at least 1")
    be_quiet()
    rates = asyncio.run(_measure(service, jobs, concurrency))
    if service.json:
        print_json(rates)
        return
    print(f"enqueued one by one  {rates.enqueued_one_by_one:>9,.0f} jobs/s")
    print(f"enqueued in bulks    {rates.enqueued_in_bulks:>9,.0f} jobs/s")
    print(f"worked on            {rates.worked_on:>9,.0f} jobs/s")


async def _measure(service: Service, jobs: int, concurrency: int) -> _Rates:
    name = f"bench-{uuid4().hex[:12]}"
    singles = min(max(jobs // 10, 1), _SINGLES)
    async with (
        AsyncClient(service.address, api_key=service.api_key, timeout=service.timeout, retry_seconds=3.0) as client,
        _cleaned_up(client, name),
    ):
        with _progress() as progress:
            one_by_one = await _enqueue_singly(client, name, singles, progress)
            in_bulks = await _enqueue_in_bulks(client, name, jobs, progress)
            worked_on = await _work(service, name, singles + jobs, concurrency, progress)
    return _Rates(jobs, one_by_one, in_bulks, worked_on)


@asynccontextmanager
async def _cleaned_up(client: AsyncClient, name: str) -> AsyncIterator[None]:
    """Delete the executor's jobs at the end, whatever happened."""
    try:
        yield
    finally:
        for status in JobStatus:
            if status is not JobStatus.EXECUTING:
                await client.prune_jobs(PruneSpec(status, MaxLength(0), Only((name,))))


async def _enqueue_singly(client: AsyncClient, name: str, jobs: int, progress: Progress) -> float:
    task = progress.add_task("enqueuing one by one", total=jobs)
    began = time.perf_counter()
    for number in range(jobs):
        await client.enqueue(EnqueuableJob(executor=name, data={"n": number}))
        progress.advance(task)
    return jobs / (time.perf_counter() - began)


async def _enqueue_in_bulks(client: AsyncClient, name: str, jobs: int, progress: Progress) -> float:
    task = progress.add_task("enqueuing in bulks", total=jobs)
    began = time.perf_counter()
    for start in range(0, jobs, _BULK):
        count = min(_BULK, jobs - start)
        await client.enqueue_many([EnqueuableJob(executor=name, data={"n": start + n}) for n in range(count)])
        progress.advance(task, count)
    return jobs / (time.perf_counter() - began)


async def _work(service: Service, name: str, jobs: int, concurrency: int, progress: Progress) -> float:
    @executor(name)
    async def nothing(_job: Job) -> None:
        """Do nothing."""

    worker = Worker([nothing], url=service.address, api_key=service.api_key, concurrency=concurrency)
    task = progress.add_task("working", total=jobs)
    began = time.perf_counter()
    running = asyncio.create_task(worker.run())
    try:
        await _until_done(worker, jobs, running, lambda done: progress.update(task, completed=done))
        return jobs / (time.perf_counter() - began)
    finally:
        worker.stop()
        await running


async def _until_done(worker: Worker, jobs: int, running: asyncio.Task[None], show: Callable[[int], None]) -> None:
    """Wait until all jobs are done. Raises NotDone when none has been for long."""
    done, changed_at = 0, time.monotonic()
    while worker.status.done < jobs and not running.done():
        await asyncio.sleep(_LOOK_SECONDS)
        if worker.status.done != done:
            done, changed_at = worker.status.done, time.monotonic()
            show(done)
        elif time.monotonic() - changed_at > _STALL_SECONDS:
            raise NotDone(f"no job was done for {_STALL_SECONDS:.0f} seconds; {done} of {jobs} are")


def _progress() -> Progress:
    return Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
