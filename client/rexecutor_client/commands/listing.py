"""`rexecutor jobs list` and `show`."""

from itertools import islice
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from ..job import Job
from .exits import UsageError
from .filters import ALL, Filter
from .service import HERE, Service, members_of
from .text import json_text, print_json, print_table, printable, printable_lines, tell, time_text

_HEADINGS = ("ID", "EXECUTOR", "STATUS", "ATTEMPT", "PRIORITY", "SCHEDULED AT", "TAGS", "DATA")
_PAGE = 1_000
_DATA_CHARACTERS = 200
_ONE_LINE = 80
_JSON = {"data", "metadata", "uniqueness_key"}
"""Members of which it must be seen whether they are text."""


def list_(
    *,
    filter: Filter = ALL,  # noqa: A002 - cyclopts takes its members, not its name
    limit: Annotated[int, Parameter(help="How many at most.")] = 50,
    service: Service = HERE,
) -> None:
    """List jobs, latest first.

    With --json there is one on each line, as they come.
    """
    if limit < 1:
        raise UsageError("--limit is at least 1")
    with service.client() as client:
        found = client.jobs(filter.condition(), page_size=min(limit + 1, _PAGE))
        if service.json:
            for job in islice(found, limit):
                print_json(members_of(job))
            return
        jobs = [*islice(found, limit + 1)]
    print_table(_HEADINGS, [*map(_row, jobs[:limit])], empty="no such jobs")
    if len(jobs) > limit:
        tell(f"there are more than {limit}: --limit shows more")


def show_(job_id: int, /, *, service: Service = HERE) -> None:
    """Show all of a job, its errors too."""
    with service.client() as client:
        members = members_of(client.get_job(job_id))
    if service.json:
        print_json(members)
        return
    errors = members.pop("errors")
    widest = max(map(len, members))
    for name, value in members.items():
        text = _json(value, widest) if name in _JSON else _text(value)
        print(f"{name:{widest}}  {printable_lines(text)}")
    for error in errors:
        told = f"attempt {error['attempt']}, {error['recorded_at']}, {error['error_type']}:"
        print(f"\n{printable(told)}\n{printable_lines(error['details'])}")


def _row(job: Job) -> tuple[object, ...]:
    return (
        job.id,
        job.executor,
        job.status,
        f"{job.attempt}/{job.max_attempts}",
        job.priority,
        time_text(job.scheduled_at),
        ",".join(job.tags),
        json_text(job.data, length=_DATA_CHARACTERS),
    )


def _text(value: Any) -> str:
    if value is None or value == []:
        return "-"
    return ", ".join(value) if isinstance(value, list) else str(value)


def _json(value: Any, indent: int) -> str:
    """Return JSON as it is, and what is long over several lines."""
    text = json_text(value)
    if len(text) <= _ONE_LINE or not isinstance(value, (dict, list)):
        return text
    return msgspec.json.format(text, indent=2).replace("\n", "\n" + " " * (indent + 2))
