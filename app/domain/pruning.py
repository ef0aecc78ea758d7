"""Which jobs a prune deletes (rexecutor ``PruneSpec``)."""

from datetime import timedelta
from typing import TypeAlias

from msgspec import Struct

from .status import JobStatus


class MaxAge(Struct, frozen=True):
    """Finished: what was scheduled before now − age. Waiting: what is scheduled after now + age."""

    age: timedelta


class MaxLength(Struct, frozen=True):
    """Finished: all but the ``length`` latest scheduled. Waiting: all but the ``length`` soonest."""

    length: int


class Only(Struct, frozen=True):
    """These executors."""

    executors: tuple[str, ...]


class Except(Struct, frozen=True):
    """All executors but these."""

    executors: tuple[str, ...] = ()


PruneBy: TypeAlias = MaxAge | MaxLength
PruneExecutors: TypeAlias = Only | Except


class PruneSpec(Struct, frozen=True):
    """What to delete: jobs of one status, which is never ``executing``."""

    status: JobStatus
    prune_by: PruneBy
    executors: PruneExecutors = Except()
