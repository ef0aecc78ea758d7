"""Which jobs a prune deletes."""

from datetime import timedelta
from typing import TypeAlias

from msgspec import UNSET, Struct, UnsetType, field


class MaxAge(Struct, frozen=True):
    """Finished: what was scheduled before now − age. Waiting: what is scheduled after now + age."""

    max_age: timedelta


class MaxLength(Struct, frozen=True):
    """Finished: all but so many latest scheduled. Waiting: all but so many soonest."""

    max_length: int


class Only(Struct, frozen=True):
    """These executors."""

    executors: tuple[str, ...] = field(name="only")


class Except(Struct, frozen=True):
    """All executors but these."""

    executors: tuple[str, ...] = field(name="except")


PruneBy: TypeAlias = MaxAge | MaxLength


class PruneSpec(Struct, frozen=True):
    """What to delete: jobs of one status, which is never ``executing``; of all executors if unset."""

    status: str
    prune_by: PruneBy
    executors: Only | Except | UnsetType = UNSET
