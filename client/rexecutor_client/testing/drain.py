"""Runs jobs in the test's own process, as a worker would, until none is due any more."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from ..async_client import AsyncClient
from ..errors import JobProblem
from ..execution import Executor
from ..job import Job
from ..recorded import reason_of
from ..results import Cancel, Discard, Done, Result, Retry, Snooze
from ..settlement import by_request, settlement_of
from ..where import Where

MOST_JOBS = 10_000
_COUNTED = {Done: "done", Retry: "retried", Snooze: "snoozed", Cancel: "cancelled", Discard: "discarded"}


class ExecutionFailed(AssertionError):
    """A job failed while it was drained; the message is what was recorded."""


class Drained(Struct):
    """How often executions ended in each way."""

    done: int = 0
    retried: int = 0
    snoozed: int = 0
    cancelled: int = 0
    discarded: int = 0

    @property
    def executions(self) -> int:
        """How many there were."""
        return self.done + self.retried + self.snoozed + self.cancelled + self.discarded


async def drain(
    client: AsyncClient,
    executors: Sequence[Executor[Any, Any]],
    *,
    move_to: Callable[[datetime], None] | None,
    raises: bool,
    most: int,
) -> Drained:
    """Run what is due, each executor's best job first; with ``move_to`` also what is still to come."""
    try:
        return await _drained(
            client, {each.name: each for each in executors}, move_to=move_to, raises=raises, most=most
        )
    finally:
        for each in executors:
            each.close()


async def _drained(
    client: AsyncClient,
    by_name: dict[str, Executor[Any, Any]],
    *,
    move_to: Callable[[datetime], None] | None,
    raises: bool,
    most: int,
) -> Drained:
    drained = Drained()
    while job := await _next_due(client, by_name, move_to):
        if drained.executions == most:
            raise AssertionError(f"{most} executions, and jobs are still due: one seems to come back for ever")
        result = await by_name[job.executor].run(job)
        try:
            await by_request(client, settlement_of(job, result))
        except JobProblem as late:
            raise AssertionError(f"job {job.id} was taken away while it was drained: {late}") from late
        counted = _COUNTED[type(result)]
        setattr(drained, counted, getattr(drained, counted) + 1)
        if raises:
            _raise_failure(job, result)
    return drained


async def _next_due(
    client: AsyncClient,
    by_name: dict[str, Executor[Any, Any]],
    move_to: Callable[[datetime], None] | None,
) -> Job | None:
    for name in by_name:
        for job in await client.claim_jobs(name):
            return job
    if move_to is None:
        return None
    waiting = Where.status_equals("scheduled") | Where.status_equals("retryable")
    times = [job.scheduled_at async for job in client.jobs(waiting, page_size=1_000) if job.executor in by_name]
    if not times:
        return None
    move_to(min(times))
    return await _next_due(client, by_name, move_to)


def _raise_failure(job: Job, result: Result) -> None:
    if isinstance(result, (Retry, Discard)):
        error = reason_of(result)
        raise ExecutionFailed(f"job {job.id} of {job.executor}: {error.error_type}\n{error.message}")
