"""One write transaction: its now, and what it leaves behind besides rows."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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
    """Given to every function that writes; the writer's thread has it until the commit, then the event loop."""

    __slots__ = ("_freed", "_untold", "added_bytes", "connection", "counts", "effects", "now", "rules", "sequence")

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
        self._untold: list[tuple[object, Callable[[], object]]] = []
        self._freed: Counter[int] = Counter()
        """For each lease the jobs that left it, of which the effects do not tell yet, less those claimed for them."""

    @property
    def living_since(self) -> Instant:
        """A lease that ended before this has run out; later ones may be about to be renewed."""
        return self.now - int(self.rules.grace_seconds * 1_000_000)

    def tell_later(self, result: object, tell: Callable[[], object]) -> None:
        """Leave it to the event loop to complete a result, and what the effects say of it."""
        self._untold.append((result, tell))

    def tell(self) -> list[tuple[object, Exception]]:
        """Complete results and effects, on the event loop once this is committed; return the results that failed."""
        failed: list[tuple[object, Exception]] = []
        # Forgotten one by one: what they hold is large, and would stay until the garbage collector comes by.
        while self._untold:
            result, tell = self._untold.pop(0)
            try:
                tell()
            except Exception as error:  # noqa: BLE001 - the others have their results
                failed.append((result, error))
        if failed:
            self.effects.in_doubt = True
        return failed

    def free_untold(self, lease_id: int, count: int) -> None:
        """Note that so many jobs have left a lease, of which the effects will tell later."""
        self._freed[lease_id] += count

    def spend_freed(self, lease_id: int, most: int) -> int:
        """Return for how many jobs that have left a lease others may be claimed; each is spent once."""
        told = sum(settlement.lease_id == lease_id for settlement in self.effects.settled)
        spent = max(0, min(told + self._freed[lease_id], most))
        self._freed[lease_id] -= spent
        return spent

    @contextmanager
    def undone_on_error(self) -> Iterator[None]:
        """Forget what is noted inside if it raises."""
        effects = self.effects
        ready, counts, freed = dict(effects.ready), dict(effects.tally.counts), Counter(self._freed)
        lists: tuple[list[Any], ...] = effects.settled, effects.moves, self._untold
        lengths = [len(each) for each in lists]
        try:
            yield
        except Exception:
            self.counts.clear()
            effects.ready, effects.tally.counts, self._freed = ready, counts, freed
            for each, length in zip(lists, lengths, strict=True):
                del each[length:]
            raise

    def count_move(self, executor: str, before: JobStatus, after: JobStatus) -> None:
        """Note that a job went from one status to another."""
        if before is not after:
            self.counts[executor, before] -= 1
            self.counts[executor, after] += 1

    def finish(self) -> None:
        """Write what the changes of this transaction add up to."""
        self.write_counts()
        # A lease that no connection has is of no use without a job: polls would leave one for each of their answers.
        for lease_id in {settlement.lease_id for settlement in self.effects.settled} | self._freed.keys():
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
