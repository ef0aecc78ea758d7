"""How connections to the file are set up."""

import sqlite3
from pathlib import Path

BUSY_SECONDS = 5.0
LOG_PAGES = 2_000
"""The log begins anew when it has so many: twice SQLite's own number, for half as many waits for the file."""

_WRITER_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    # NORMAL would lose acknowledged jobs with the power.
    "PRAGMA synchronous = FULL",
    "PRAGMA temp_store = MEMORY",
    # Debian's SQLite overwrites what is deleted: to prune a full disk would take as much room as it frees.
    "PRAGMA secure_delete = OFF",
    "PRAGMA cache_size = -8192",
    "PRAGMA journal_size_limit = 67108864",
    f"PRAGMA wal_autocheckpoint = {LOG_PAGES}",
)
READER_PRAGMAS = (
    # Readers never checkpoint: SQLite before 3.51.3 can lose frames when two connections do.
    "PRAGMA query_only = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -4096",
)


def open_writer(path: Path) -> sqlite3.Connection:
    """Open the one connection that writes and checkpoints; transactions are begun by hand."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)
    for pragma in _WRITER_PRAGMAS:
        connection.execute(pragma)
    return connection
