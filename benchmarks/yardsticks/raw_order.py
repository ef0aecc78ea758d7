"""What a raw yardstick is told, and what it tells: the same for every database."""

from enum import StrEnum

from msgspec import Struct


class Kind(StrEnum):
    """What is measured."""

    COMMITS = "commits"
    BULKS = "bulks"
    DRAIN = "drain"


class Order(Struct, frozen=True, kw_only=True):
    """What to do in a migrated database without jobs."""

    kind: Kind
    database: str
    """Its URL."""
    jobs: int


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of it."""

    jobs: int
    seconds: float
    commit_seconds: list[float] = []
    """How long each durable commit took."""
