"""The tree of a query (rexecutor ``Query``), its leaves already in the store's terms."""

from typing import TypeAlias

from msgspec import Struct

from .instant import Instant
from .json_text import JsonText
from .status import JobStatus


class And(Struct, frozen=True):
    """All of them hold; true when empty."""

    queries: tuple["Query", ...]


class Or(Struct, frozen=True):
    """One of them holds; false when empty."""

    queries: tuple["Query", ...]


class Not(Struct, frozen=True):
    """It does not hold."""

    query: "Query"


class ExecutorEqual(Struct, frozen=True):
    """The executor is this one."""

    executor: str


class DataEquals(Struct, frozen=True):
    """The data is this value; ``canonical`` is its canonical text."""

    canonical: JsonText


class MetadataEquals(Struct, frozen=True):
    """The metadata is this value; ``canonical`` is its canonical text."""

    canonical: JsonText


class IdEquals(Struct, frozen=True):
    """The id is this one."""

    id: int


class IdIn(Struct, frozen=True):
    """The id is one of these; false when empty."""

    ids: tuple[int, ...]


class StatusEqual(Struct, frozen=True):
    """The status is this one."""

    status: JobStatus


class TagsAllOf(Struct, frozen=True):
    """The job has all these tags; true when empty."""

    tags: tuple[str, ...]


class TagsOneOf(Struct, frozen=True):
    """The job has one of these tags; false when empty."""

    tags: tuple[str, ...]


class ScheduledAtBefore(Struct, frozen=True):
    """Scheduled strictly before."""

    instant: Instant


class ScheduledAtAfter(Struct, frozen=True):
    """Scheduled strictly after."""

    instant: Instant


class ScheduledAtEqual(Struct, frozen=True):
    """Scheduled at this very instant."""

    instant: Instant


Query: TypeAlias = (
    And
    | Or
    | Not
    | ExecutorEqual
    | DataEquals
    | MetadataEquals
    | IdEquals
    | IdIn
    | StatusEqual
    | TagsAllOf
    | TagsOneOf
    | ScheduledAtBefore
    | ScheduledAtAfter
    | ScheduledAtEqual
)
