"""When a job counts as a duplicate of a stored one, and what then happens."""

from datetime import timedelta
from enum import StrEnum

from msgspec import Struct

from .status import JobStatus


class ReplaceField(StrEnum):
    """A member of the stored job that a duplicate may replace."""

    SCHEDULED_AT = "scheduled_at"
    DATA = "data"
    METADATA = "metadata"
    PRIORITY = "priority"
    MAX_ATTEMPTS = "max_attempts"


class Replace(Struct, frozen=True):
    """Replace these fields of the duplicate while its status is one of ``for_statuses``."""

    fields: frozenset[ReplaceField]
    for_statuses: frozenset[JobStatus] = frozenset({JobStatus.SCHEDULED})


class UniquenessCriteria(Struct, frozen=True, kw_only=True):
    """What a stored job, itself unique or not, must meet to be a duplicate (rexecutor ``UniquenessCriteria``).

    Of several duplicates the one with the nearest ``scheduled_at`` counts, then the lowest id.
    """

    key: str | int | None = None
    executor: bool = False
    duration: timedelta | None = None
    """Half the width of the window around the new job's ``scheduled_at``, inclusive."""
    statuses: tuple[JobStatus, ...] | None = None
    """None stands for the default, which does not count as a criterion."""
    on_conflict: Replace | None = None
    """None is ``do_nothing``."""

    @property
    def constrains(self) -> bool:
        """Whether any criterion was given."""
        return self.key is not None or self.executor or self.duration is not None or self.statuses is not None

    @property
    def compared_statuses(self) -> tuple[JobStatus, ...]:
        """The statuses among which duplicates are looked for."""
        return self.statuses or (JobStatus.SCHEDULED,)
