"""One write transaction: its now, and what it leaves behind besides rows."""

import sqlite3
import time
from collections import defaultdict

from ....domain.instant import Instant
from ....domain.status import JobStatus
from ...effects import Effects
from ..base import StoreRules

_ADD_TO_COUNT = """
INSERT INTO executor_counts (executor, status, count) VALUES (?, ?, ?)
ON CONFLICT (executor, status) DO UPDATE SET count = count + excluded.count
"""


def database_now() -> Instant:
    """Return the database's now: on SQLite the process's clock."""
    return time.time_ns() // 1_000


class SqliteTransaction:
    """Given to every function that writes; lives in the writer's thread."""

    __slots__ = ("connection", "counts", "effects", "now", "rules", "sequence")

    def __init__(self, connection: sqlite3.Connection, sequence: "JobIdSequence", rules: StoreRules) -> None:
        """Begin to collect; the caller has begun the transaction."""
        self.connection = connection
        self.rules = rules
        self.sequence = sequence
        self.now = database_now()
        self.effects = Effects()
        self.counts: defaultdict[tuple[str, JobStatus], int] = defaultdict(int)

    @property
    def living_since(self) -> Instant:
        """A lease that ended before this has run out; later ones may be about to be renewed."""
        return self.now - int(self.rules.grace_seconds * 1_000_000)

    def count_move(self, executor: str, before: JobStatus, after: JobStatus) -> None:
        """Note that a job went from one status to another."""
        if before is not after:
            self.counts[executor, before] -= 1
            self.counts[executor, after] += 1

    def write_counts(self) -> None:
        """Add what was counted to the stored counts."""
        rows = [(executor, status, count) for (executor, status), count in self.counts.items() if count]
        if rows:
            self.connection.executemany(_ADD_TO_COUNT, rows)
        self.counts.clear()


class JobIdSequence:
    """The next job id: the writer is the only one, so it counts by itself and asks SQLite once."""

    __slots__ = ("_next",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Go on where the file's own sequence stands."""
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()
        self._next = (row[0] if row else 0) + 1

    def take(self) -> int:
        """Return an id that no job ever had; a rollback leaves a gap."""
        taken = self._next
        self._next += 1
        return taken
