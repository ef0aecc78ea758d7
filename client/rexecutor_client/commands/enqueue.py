"""`rexecutor enqueue`: one job from the arguments, or many from lines of JSON."""

import sys
from typing import Annotated, Any

from cyclopts import Parameter
from msgspec import UNSET, UnsetType

from ..job import EnqueuableJob, JobStatus
from ..uniqueness import Replace, ReplaceField, UniquenessCriteria
from .exits import UsageError
from .lines import enqueue_lines
from .service import HERE, Service
from .text import print_json
from .values import duration, json_value, moment

_FLAG = {"negative": (), "show_default": False}


def enqueue(
    executor: Annotated[str, Parameter(help="Which executor is to run it.")],
    data: Annotated[
        str | None,
        Parameter(help="Its data: JSON, @file, or - for stdin; null if not given.", allow_leading_hyphen=True),
    ] = None,
    /,
    *,
    lines: Annotated[bool, Parameter(help="Each line of stdin is the data of a job, as JSON.", **_FLAG)] = False,
    metadata: Annotated[str | None, Parameter(help="Its metadata: JSON, or @file.")] = None,
    delay: Annotated[str | None, Parameter(help="How long from now it is to run, as 5m.")] = None,
    at: Annotated[str | None, Parameter(help="When it is to run, as 2026-11-26T17:00:00Z.")] = None,
    priority: Annotated[int | None, Parameter(help="0 goes first.")] = None,
    max_attempts: Annotated[int | None, Parameter(help="How often it is tried.")] = None,
    tag: Annotated[tuple[str, ...], Parameter(help="A tag; may be given several times.", **_FLAG)] = (),
    unique_key: Annotated[str | None, Parameter(help="Not if there is a job with this key.")] = None,
    unique_executor: Annotated[bool, Parameter(help="Not if there is a job of this executor.", **_FLAG)] = False,
    unique_within: Annotated[str | None, Parameter(help="Not if there is a job so near in time, as 1h.")] = None,
    unique_status: Annotated[
        tuple[JobStatus, ...], Parameter(help="Where to look for such a job; scheduled if not given.", **_FLAG)
    ] = (),
    replace: Annotated[
        tuple[ReplaceField, ...], Parameter(help="What such a job takes over from this one.", **_FLAG)
    ] = (),
    idempotency_key: Annotated[str | None, Parameter(help="A repeat with the same key enqueues nothing more.")] = None,
    service: Service = HERE,
) -> None:
    """Enqueue a job, or many from lines of JSON.

    Prints the job's id, and whether it was inserted, or existing or replaced as a duplicate.

    With --lines many go in bulks, and it prints how many; empty lines do not count. A bulk with a job that the service
    refuses is refused whole, and those before it stand. A duplicate is a job of which all --unique- options hold.
    """
    if delay is not None and at is not None:
        raise UsageError("either --delay or --at")
    options: dict[str, Any] = {
        "executor": executor,
        "metadata": None if metadata is None else json_value(metadata),
        "delay": UNSET if delay is None else duration(delay),
        "scheduled_at": UNSET if at is None else moment(at),
        "priority": UNSET if priority is None else priority,
        "max_attempts": UNSET if max_attempts is None else max_attempts,
        "tags": [*tag] if tag else UNSET,
        "uniqueness_criteria": _criteria(unique_key, unique_executor, unique_within, unique_status, replace),
    }
    if lines and data is not None:
        raise UsageError("either data or --lines")
    if lines:
        enqueue_lines(sys.stdin.buffer, options, service, idempotency_key=idempotency_key)
        return
    job = EnqueuableJob(data=None if data is None else json_value(data), **options)
    with service.client() as client:
        enqueued = client.enqueue(job, idempotency_key=idempotency_key)
    if service.json:
        print_json(enqueued)
    else:
        print(f"{enqueued.id} {enqueued.outcome}")


def _criteria(
    key: str | None,
    executor: bool,  # noqa: FBT001 - the options, in their order
    within: str | None,
    statuses: tuple[JobStatus, ...],
    replace: tuple[ReplaceField, ...],
) -> UniquenessCriteria | UnsetType:
    if key is None and not executor and within is None and not statuses:
        if replace:
            raise UsageError("--replace needs one of the --unique- options")
        return UNSET
    return UniquenessCriteria(
        key=UNSET if key is None else key,
        executor=executor or UNSET,
        duration=UNSET if within is None else duration(within),
        statuses=statuses or UNSET,
        on_conflict=Replace(replace) if replace else UNSET,
    )
