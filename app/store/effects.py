"""What a committed transaction means for those who wait."""

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct, field

from ..domain.instant import Instant
from ..domain.lifecycle import Settlement
from ..observability.tally import Tally
from .claim import Resumed


class LeaseSplit(Struct, frozen=True):
    """A session's job went from one of its leases to a lease of its own."""

    old_lease: int
    new_lease: int


class Effects(Struct):
    """Collected while a transaction runs, told once it is durable."""

    ready: dict[str, Instant] = {}
    """For each executor the earliest time at which a job became ready to run."""
    moves: list[LeaseSplit | Resumed] = []
    """Jobs that went from lease to lease within their session, in the order of their writing."""
    settled: list[Settlement] = []
    in_doubt: bool = False
    """Whether the outcome of another transaction is unknown: it may have given jobs to sessions, or taken some."""
    tally: Tally = field(default_factory=Tally)

    def add_ready(self, executor: str, at: Instant) -> None:
        """Note that a job of the executor waits for this instant."""
        known = self.ready.get(executor)
        if known is None or at < known:
            self.ready[executor] = at


EffectsListener: TypeAlias = Callable[[Effects], None]
