"""`rexecutor jobs cancel`, `rerun`, `snooze` and `update`."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated

from cyclopts import Parameter
from msgspec import UNSET

from ..errors import JobProblem
from ..job import Ack, ExecutionError, JobChanges
from ..sync_client import Client
from .exits import Exit, UsageError
from .service import HERE, Service, members_of
from .text import print_json, printable, tell
from .values import duration, json_value, moment

_FLAG = {"negative": (), "show_default": False}


def cancel_(
    *job_ids: int,
    reason: Annotated[str, Parameter(help="What is recorded as the job's error.")] = "cancelled by hand",
    service: Service = HERE,
) -> int:
    """Cancel jobs.

    The worker that runs one is told to stop.
    """
    error = ExecutionError("cancelled", reason)
    return _each(job_ids, service, lambda client, job_id: client.mark_job_cancelled(job_id, error))


def rerun_(
    *job_ids: int,
    force: Annotated[bool, Parameter(help="Take a job that is executing from its worker.", **_FLAG)] = False,
    service: Service = HERE,
) -> int:
    """Make jobs due now, with one attempt more.

    Also those that have ended.
    """
    return _each(job_ids, service, lambda client, job_id: client.rerun_job(job_id, force=force))


def snooze_(
    *job_ids: int,
    delay: Annotated[str | None, Parameter(help="How much later, as 5m.")] = None,
    until: Annotated[str | None, Parameter(help="Until when, as 2026-11-26T17:00:00Z.")] = None,
    service: Service = HERE,
) -> int:
    """Let jobs run later.

    The attempt that runs does not count.
    """
    run_at = _run_at(delay, until, "--until")
    if run_at is None:
        raise UsageError("how long? give --delay or --until")
    return _each(job_ids, service, lambda client, job_id: client.mark_job_snoozed(job_id, run_at))


def update_(
    job_id: int,
    /,
    *,
    data: Annotated[str | None, Parameter(help="The new data: JSON, @file, or - for stdin.")] = None,
    metadata: Annotated[str | None, Parameter(help="The new metadata.")] = None,
    priority: Annotated[int | None, Parameter(help="0 goes first.")] = None,
    max_attempts: Annotated[int | None, Parameter(help="How often it is tried.")] = None,
    delay: Annotated[str | None, Parameter(help="How long from now it is to run, as 5m.")] = None,
    at: Annotated[str | None, Parameter(help="When it is to run.")] = None,
    tag: Annotated[tuple[str, ...], Parameter(help="A tag, in place of those it has.", **_FLAG)] = (),
    no_tags: Annotated[bool, Parameter(help="Take its tags away.", **_FLAG)] = False,
    version: Annotated[int | None, Parameter(help="Only if the job is still at this version.")] = None,
    service: Service = HERE,
) -> None:
    """Change members of a job.

    It may be of any status; a worker that runs it keeps its copy.
    """
    if tag and no_tags:
        raise UsageError("either --tag or --no-tags")
    run_at = _run_at(delay, at, "--at")
    changes = JobChanges(
        data=UNSET if data is None else json_value(data),
        metadata=UNSET if metadata is None else json_value(metadata),
        priority=UNSET if priority is None else priority,
        max_attempts=UNSET if max_attempts is None else max_attempts,
        delay=run_at if isinstance(run_at, timedelta) else UNSET,
        scheduled_at=run_at if isinstance(run_at, datetime) else UNSET,
        tags=[*tag] if tag or no_tags else UNSET,
    )
    if changes == JobChanges():
        raise UsageError("nothing to change: see `rexecutor jobs update --help`")
    with service.client() as client:
        job = client.update_job(job_id, changes, if_match=version)
    if service.json:
        print_json(members_of(job))
    else:
        print(f"{job.id} updated, now at version {job.version}")


def _run_at(delay: str | None, at: str | None, option: str) -> datetime | timedelta | None:
    if delay is not None and at is not None:
        raise UsageError(f"either --delay or {option}")
    if delay is not None:
        return duration(delay)
    return None if at is None else moment(at)


def _each(job_ids: tuple[int, ...], service: Service, change: Callable[[Client, int], Ack]) -> int:
    """Change jobs one by one; those that the service refuses are told of, and keep no other from it."""
    if not job_ids:
        raise UsageError("which jobs? give their ids")
    code = Exit.DONE
    with service.client() as client:
        for job_id in job_ids:
            try:
                ack = change(client, job_id)
            except JobProblem as problem:
                code = Exit.REFUSED
                tell(f"rexecutor: job {job_id}: {printable(str(problem))}")
                continue
            _show(ack, as_json=service.json)
    return code


def _show(ack: Ack, *, as_json: bool) -> None:
    if as_json:
        print_json(ack)
    else:
        print(f"{ack.id} {ack.status}{' (as before)' if ack.duplicate else ''}")
