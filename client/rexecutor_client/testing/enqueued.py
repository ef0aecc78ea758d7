"""Which jobs a test wants to find, and what it is told when they are not there."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from ..execution import Executor
from ..job import Job
from ..json_text import encode

ANYTHING: Any = object()
"""Stands for whatever it is; None is a value of its own."""
_MOST_TOLD = 10


class Wanted(Struct, kw_only=True):
    """How a job is to be; what is not given may be anything."""

    executor: Executor[Any, Any] | str | None = None
    data: Any = ANYTHING
    metadata: Any = ANYTHING
    tags: tuple[str, ...] = ()
    priority: int | None = None
    max_attempts: int | None = None
    scheduled_at: datetime | None = None
    tolerance: timedelta = timedelta(seconds=1)

    def fits(self, job: Job) -> bool:
        """Tell whether a job is so."""
        return not self.differences(job)

    def differences(self, job: Job) -> list[str]:
        """Return the members in which a job is not so."""
        name = self.executor.name if isinstance(self.executor, Executor) else self.executor
        found = {
            "executor": name not in (None, job.executor),
            "data": self.data is not ANYTHING and not _contains(job.data, _json(self.data)),
            "metadata": self.metadata is not ANYTHING and not _contains(job.metadata, _json(self.metadata)),
            "tags": not {*self.tags} <= {*job.tags},
            "priority": self.priority not in (None, job.priority),
            "max_attempts": self.max_attempts not in (None, job.max_attempts),
            "scheduled_at": self.scheduled_at is not None
            and abs(job.scheduled_at - self.scheduled_at) > self.tolerance,
        }
        return [member for member, differs in found.items() if differs]

    def __str__(self) -> str:
        """Tell what is wanted, for people."""
        name = self.executor.name if isinstance(self.executor, Executor) else self.executor
        said = {
            "executor": name,
            "data": None if self.data is ANYTHING else _text(self.data),
            "metadata": None if self.metadata is ANYTHING else _text(self.metadata),
            "tags": ", ".join(self.tags) or None,
            "priority": self.priority,
            "max_attempts": self.max_attempts,
            "scheduled_at": self.scheduled_at,
        }
        return "; ".join(f"{member}: {value}" for member, value in said.items() if value is not None) or "any"


def told(wanted: Wanted, waiting: Sequence[Job], fitting: Sequence[Job], count: int | None) -> str:
    """Return why a test fails that wanted jobs: what there is instead, the most similar first."""
    how_many = f"{count} jobs" if count is not None else "a job"
    lines = [f"expected {how_many} to wait to run with {wanted}", f"{len(fitting)} fit, {len(waiting)} wait:"]
    nearest = sorted(waiting, key=lambda job: len(wanted.differences(job)))
    lines += [_line(job, wanted.differences(job)) for job in nearest[:_MOST_TOLD]]
    if len(nearest) > _MOST_TOLD:
        lines.append(f"  and {len(nearest) - _MOST_TOLD} more")
    return "\n".join(lines)


def refused(fitting: Sequence[Job]) -> str:
    """Return why a test fails that wanted no such job."""
    return "\n".join(["expected no such job to wait to run:", *(_line(job, []) for job in fitting[:_MOST_TOLD])])


def _line(job: Job, differences: Sequence[str]) -> str:
    tags = f", tags {', '.join(job.tags)}" if job.tags else ""
    what = f"  job {job.id}: {job.executor} {_text(job.data)}, priority {job.priority}, {job.scheduled_at}{tags}"
    return f"{what}  (other {', '.join(differences)})" if differences else what


def _contains(value: Any, wanted: Any) -> bool:
    """Tell whether a value is as wanted; of an object only the wanted members count."""
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(
            name in value and _contains(value[name], member) for name, member in wanted.items()
        )
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _json(value: Any) -> Any:
    return msgspec.json.decode(encode(value))


def _text(value: Any) -> str:
    return encode(value).decode()
