"""One server process a file: a lock beside the database, held as long as the process lives."""

import fcntl
import os
from pathlib import Path

from ..base import DatabaseHeld, DatabaseUnusable


class FileLock:
    """An advisory lock on ``<file>.lock``; the system releases it however the process ends."""

    def __init__(self, database: Path) -> None:
        """Take the lock. Raises DatabaseHeld when another process has it, DatabaseUnusable where there can be none."""
        self._path = database.with_name(database.name + ".lock")
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise DatabaseUnusable(f"cannot use {database}: {(error.strerror or str(error)).lower()}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise DatabaseHeld(f"another rexecutor server holds {database}") from error

    def release(self) -> None:
        """Let another process have the file. The lock file stays: removing it would race."""
        os.close(self._descriptor)
