"""`rexecutor jobs watch`: follows jobs until they have ended."""

import time
from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import islice
from operator import or_
from typing import Annotated

from cyclopts import Parameter

from ..job import Job, JobStatus
from ..sync_client import Client
from ..where import Where
from .exits import NotDone, UsageError
from .filters import ALL, Filter
from .service import HERE, Service, members_of
from .text import print_json, printable, time_text

_FINISHED = {JobStatus.COMPLETE, JobStatus.CANCELLED, JobStatus.DISCARDED}
_WAITING = {JobStatus.SCHEDULED, JobStatus.RETRYABLE}
_MOST = 1_000
_SHORTEST_PAUSE_SECONDS = 0.05


def watch_(
    *job_ids: int,
    filter: Filter = ALL,  # noqa: A002 - cyclopts takes its members, not its name
    every: Annotated[float, Parameter(help="How many seconds to wait between two looks.")] = 1.0,
    service: Service = HERE,
) -> None:
    """Follow jobs until they have ended.

    There is a line for each change. Jobs are named by their ids, or by a filter: then those are followed that match
    now and have not ended, 1,000 at most. The exit code is 1 unless all are complete.
    """
    if bool(job_ids) == (filter != ALL):
        raise UsageError("which jobs? give their ids, or a filter such as --executor")
    with service.client() as client:
        ended: dict[int, JobStatus] = {}
        for job in _changes(client, job_ids or _matching(client, filter), max(every, _SHORTEST_PAUSE_SECONDS)):
            _show(job, as_json=service.json)
            ended[job.id] = job.status
    failed = [job_id for job_id, status in ended.items() if status is not JobStatus.COMPLETE]
    if failed:
        raise NotDone(_verdict(ended, failed))


def _matching(client: Client, filter: Filter) -> tuple[int, ...]:  # noqa: A002 - the command's word
    unfinished = reduce(or_, (Where.status_equals(status) for status in JobStatus if status not in _FINISHED))
    found = client.jobs(filter.condition() & unfinished, page_size=_MOST)
    job_ids = tuple(job.id for job in islice(found, _MOST))
    if not job_ids:
        raise NotDone("no such job that has not ended")
    return job_ids


def _changes(client: Client, job_ids: Sequence[int], pause: float) -> Iterator[Job]:
    """Yield each job, and again whenever it is at another version, until all have ended."""
    versions: dict[int, int] = {}
    open_ids = {*job_ids}
    while True:
        for job in _look(client, open_ids):
            if versions.get(job.id) != job.version:
                versions[job.id] = job.version
                yield job
            if job.status in _FINISHED:
                open_ids.discard(job.id)
        if not open_ids:
            return
        time.sleep(pause)


def _look(client: Client, job_ids: set[int]) -> list[Job]:
    """Return the jobs, in the order of their ids. Raises what says that one is not there."""
    found = [*client.jobs(Where.id_in(*sorted(job_ids)), page_size=_MOST)]
    # Pages see what changes between them: whether one is gone is known when it is asked for by itself.
    found += [client.get_job(missing) for missing in sorted(job_ids - {job.id for job in found})]
    return sorted(found, key=lambda job: job.id)


def _show(job: Job, *, as_json: bool) -> None:
    if as_json:
        print_json(members_of(job))
        return
    when = f" for {time_text(job.scheduled_at)}" if job.status in _WAITING else ""
    error = f", {job.errors[-1].error_type}" if job.errors and job.status is not JobStatus.COMPLETE else ""
    print(printable(f"{job.id} {job.status}{when}, attempt {job.attempt}/{job.max_attempts}{error}"), flush=True)


def _verdict(ended: dict[int, JobStatus], failed: list[int]) -> str:
    if len(ended) == 1:
        return f"job {failed[0]} was {ended[failed[0]]}"
    return f"{len(failed)} of {len(ended)} jobs are not complete: {', '.join(map(str, failed[:10]))}"
