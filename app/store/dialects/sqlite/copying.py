"""Copying a whole file, or to one: whoever does has it for itself."""

import time

from sqlalchemy import Connection, text

from ....domain.instant import Instant


class SqliteCopying:
    """Fits :class:`~app.store.dialects.base.Copying`."""

    def freeze(self, connection: Connection) -> None:
        """Begin; the lock of the file keeps servers away."""
        connection.exec_driver_sql("BEGIN")

    def now(self, _connection: Connection) -> Instant:
        """Return the process's clock."""
        return time.time_ns() // 1_000

    def last_id(self, connection: Connection, table: str) -> int:
        """Return the highest id that ever was, where ids are never used twice; else the highest that is."""
        ever = connection.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": table})
        return max(ever or 0, connection.exec_driver_sql(f"SELECT max(id) FROM {table}").scalar() or 0)

    def set_last_id(self, connection: Connection, table: str, last_id: int) -> None:
        """Let the next id be above this; without effect where ids are those that are free."""
        declared = "SELECT 1 FROM sqlite_schema WHERE name = :name AND sql LIKE '%AUTOINCREMENT%'"
        if connection.scalar(text(declared), {"name": table}):
            connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": table})
            connection.execute(
                text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), {"name": table, "last": last_id}
            )

    def forget_counts(self, connection: Connection) -> None:
        """Delete all counts."""
        connection.exec_driver_sql("DELETE FROM executor_counts")
