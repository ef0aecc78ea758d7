"""When a job counts as a duplicate of a stored one, and what then happens."""

from datetime import timedelta
from typing import Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

ReplaceField: TypeAlias = Literal["scheduled_at", "data", "metadata", "priority", "max_attempts"]


class Replace(Struct, frozen=True):
    """Replace these members of the duplicate while its status is one of ``for_statuses`` (``scheduled`` if unset)."""

    replace: tuple[ReplaceField, ...]
    for_statuses: tuple[str, ...] | UnsetType = UNSET


class UniquenessCriteria(Struct, frozen=True, kw_only=True):
    """What a stored job, itself unique or not, must meet to be a duplicate; at least one criterion is needed.

    Of several duplicates the one with the nearest ``scheduled_at`` counts, then the lowest id.
    """

    key: str | int | UnsetType = UNSET
    executor: bool | UnsetType = UNSET
    """Whether the executor must be the same."""
    duration: timedelta | UnsetType = UNSET
    """Half the width of the window around the new job's ``scheduled_at``, inclusive."""
    statuses: tuple[str, ...] | UnsetType = UNSET
    """Among which duplicates are looked for: ``scheduled`` if unset."""
    on_conflict: Literal["do_nothing"] | Replace | UnsetType = UNSET
