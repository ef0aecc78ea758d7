"""Copying a whole database, or to one: servers may read meanwhile, and wait with their writes."""

from sqlalchemy import Connection, text

from ....domain.instant import Instant
from .connection import LOCK_SECONDS
from .transaction import NOW

_TABLES = "jobs, job_errors, leases, idempotency_keys, executor_counts, executor_count_deltas"


class PostgresCopying:
    """Fits :class:`~app.store.dialects.base.Copying`."""

    def freeze(self, connection: Connection) -> None:
        """Let nobody write to any of the tables before the end of the transaction."""
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS:.0f}s'"))
        connection.execute(text(f"LOCK TABLE {_TABLES} IN EXCLUSIVE MODE"))

    def now(self, connection: Connection) -> Instant:
        """Return the database's clock, which goes on during the transaction."""
        return Instant(connection.scalar(text(f"SELECT {NOW.replace('now()', 'clock_timestamp()')}")) or 0)

    def last_id(self, connection: Connection, table: str) -> int:
        """Return the highest id that ever was."""
        last = f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {table}_id_seq"
        return connection.scalar(text(last)) or 0

    def set_last_id(self, connection: Connection, table: str, last_id: int) -> None:
        """Let the next id be above this."""
        # The type is told: by itself it would be that of the constants beside it.
        last = "CAST(:last AS bigint)"
        connection.execute(text(f"SELECT setval('{table}_id_seq', greatest({last}, 1), {last} > 0)"), {"last": last_id})

    def forget_counts(self, connection: Connection) -> None:
        """Delete all counts, and what was to be added to them."""
        connection.execute(text("DELETE FROM executor_counts"))
        connection.execute(text("DELETE FROM executor_count_deltas"))
