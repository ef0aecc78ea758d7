"""One write transaction: its now, and what it leaves behind besides rows."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable

from ....domain.instant import Instant
from ....domain.status import JobStatus
from ...effects import Effects
from ..base import StoreRules

_ADD_TO_COUNT = """
INSERT INTO executor_counts (executor, status, count) VALUES (?, ?, ?)
ON CONFLICT (executor, status) DO UPDATE SET count = count + excluded.count
"""
_FORGET_LEASE = """
DELETE FROM leases
WHERE id = ? AND resume_hash IS NULL AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.lease_id = leases.id)
"""


class SqliteTransaction:
    """Given to every function that writes; lives in the writer's thread."""

    __slots__ = ("added_bytes", "connection", "counts", "effects", "freed_untold", "now", "rules", "sequence", "untold")

    def __init__(self, connection: sqlite3.Connection, sequence: "JobIdSequence", rules: StoreRules) -> None:
        """Begin to collect; the caller has begun the transaction."""
        self.connection = connection
        self.rules = rules
        self.sequence = sequence
        self.now = rules.clock()
        self.effects = Effects()
        self.added_bytes = 0
        """About how much larger the database becomes."""
        self.counts: defaultdict[tuple[str, JobStatus], int] = defaultdict(int)
        self.untold: list[Callable[[], object]] = []
        """What the event loop does first once this is committed: results made there cost no time of the writer."""
        self.freed_untold: Counter[int] = Counter()
        """How many jobs leave each lease that the effects do not tell of yet."""

    @property
    def living_since(self) -> Instant:
        """A lease that ended before this has run out; later ones may be about to be renewed."""
        return self.now - int(self.rules.grace_seconds * 1_000_000)

    def tell_later(self, tell: Callable[[], object]) -> None:
        """Leave it to the event loop to complete results and effects."""
        self.untold.append(tell)

    def tell(self) -> None:
        """Complete results and effects; on the event loop, once this is committed."""
        # Forgotten one by one: what they hold is large, and would stay until the garbage collector comes by.
        while self.untold:
            self.untold.pop(0)()

    def freed(self) -> Counter[int]:
        """Return how many jobs have left each lease."""
        return self.freed_untold + Counter(settlement.lease_id for settlement in self.effects.settled)

    def count_move(self, executor: str, before: JobStatus, after: JobStatus) -> None:
        """Note that a job went from one status to another."""
        if before is not after:
            self.counts[executor, before] -= 1
            self.counts[executor, after] += 1

    def finish(self) -> None:
        """Write what the changes of this transaction add up to."""
        self.write_counts()
        # A lease that no connection has is of no use without a job: polls would leave one for each of their answers.
        for lease_id in self.freed():
            self.connection.execute(_FORGET_LEASE, (lease_id,))

    def write_counts(self) -> None:
        """Add what was counted to the stored counts."""
        rows = [(executor, status, count) for (executor, status), count in self.counts.items() if count]
        if rows:
            self.connection.executemany(_ADD_TO_COUNT, rows)
        self.counts.clear()


class JobIdSequence:
    """The next job id: the writer is the only one, so it counts by itself and asks SQLite once."""

    __slots__ = ("_connection", "_last")

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Count for a connection."""
        self._connection = connection
        self._last: int | None = None

    def take(self) -> int:
        """Return an id that no job ever had; a rollback leaves a gap."""
        if self._last is None:
            row = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()
            self._last = row[0] if row else 0
        self._last += 1
        return self._last
