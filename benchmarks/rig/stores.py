"""Databases to start servers on: made once by the project's own migration, and copied for each measurement.

One is empty. Two hold as many finished jobs as jobs of the far future, all of the executor that is measured: in one
they have five priorities, in the other a thousand.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from ..load.payload import EXECUTOR, PRIORITIES, data_of
from .children import PROJECT

MANY_PRIORITIES = 1_000
DAY = 86_400_000_000
_MIGRATE_SECONDS = 60

_NUMBERS = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)"
_FINISHED = f"""
{_NUMBERS}
INSERT INTO jobs (id, executor, status, priority, scheduled_at, attempt, max_attempts, inserted_at, attempted_at,
                  finished_at, fence, version, acknowledged_fence, acknowledged_operation, tags, attempted_by, data,
                  metadata)
SELECT n, :executor, 'complete', n % :priorities, :now - :day + n, 1, 5, :now - :day + n, :now - :day + n,
       :now - :day + n, 1, 3, 1, 'complete', '[]', '["bench"]', :data, 'null'
FROM numbers
"""
# A millisecond apart, so that each has a place of its own in the index jobs_ready.
_FUTURE = f"""
{_NUMBERS}
INSERT INTO jobs (id, executor, status, priority, scheduled_at, max_attempts, inserted_at, tags, data, metadata)
SELECT :count + n, :executor, 'scheduled', n % :priorities, :now + :day + n * 1000, 5, :now, '[]', :data, 'null'
FROM numbers
"""
_COUNTS = "INSERT INTO executor_counts VALUES (:executor, 'complete', :count), (:executor, 'scheduled', :count)"
_INDEXES = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'jobs' AND sql IS NOT NULL"


class Store(StrEnum):
    """What is in the file before a measurement."""

    EMPTY = "empty"
    STORED = "stored"
    PRIORITIES = "priorities"


class Stores(Protocol):
    """What databases are copied from."""

    kinds: list[Store]
    raw_yardstick: str
    """The module that does the same without the service."""
    process_id: int | None
    """The database's, if it has one of its own here."""

    def version(self) -> dict[str, str]:
        """Return the database's name with its version."""

    def copy(self, store: Store) -> AbstractContextManager[str]:
        """Lend the URL of a copy."""


class SqliteStores:
    """Files; those with jobs are made when ``backlog``, the number of each kind of job, is not 0."""

    raw_yardstick = "benchmarks.yardsticks.raw_sqlite"
    process_id: int | None = None

    def __init__(self, folder: Path, *, backlog: int) -> None:
        """Make the files in a folder of their own."""
        self._folder = folder
        self.kinds = [Store.EMPTY]
        migrate(f"sqlite:///{self._template(Store.EMPTY)}")
        if backlog:
            self.kinds = list(Store)
            self._fill(Store.STORED, backlog, PRIORITIES)
            self._fill(Store.PRIORITIES, backlog, MANY_PRIORITIES)

    def version(self) -> dict[str, str]:
        """Return the library's version."""
        return {"sqlite": sqlite3.sqlite_version}

    @contextmanager
    def copy(self, store: Store) -> Iterator[str]:
        """Lend the URL of a copy, already on the disk, so that writing it does not go on during the measurement."""
        folder = self._folder / "copy"
        folder.mkdir()
        try:
            path = folder / "jobs.db"
            shutil.copyfile(self._template(store), path)
            with path.open("rb+") as file:
                os.fsync(file.fileno())
            yield f"sqlite:///{path}"
        finally:
            shutil.rmtree(folder)

    def _template(self, store: Store) -> Path:
        return self._folder / f"{store}.db"

    def _fill(self, store: Store, count: int, priorities: int) -> None:
        shutil.copyfile(self._template(Store.EMPTY), self._template(store))
        connection = sqlite3.connect(self._template(store), isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -262144"):
            connection.execute(f"PRAGMA {pragma}")
        indexes = connection.execute(_INDEXES).fetchall()
        values = {
            "count": count,
            "executor": EXECUTOR,
            "priorities": priorities,
            "now": time.time_ns() // 1_000,
            "day": DAY,
            "data": data_of(0),
        }
        connection.execute("BEGIN")
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        for statement in (_FINISHED, _FUTURE, _COUNTS):
            connection.execute(statement, values)
        for _, statement in indexes:
            connection.execute(statement)
        connection.execute("COMMIT")
        connection.close()


def migrate(url: str) -> None:
    """Bring a database's schema to head."""
    environment = {**os.environ, "REXECUTOR_DATABASE_URL": url}
    subprocess.run(
        [sys.executable, "-m", "app", "migrate"],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.DEVNULL,
        timeout=_MIGRATE_SECONDS,
        check=True,
    )
