"""Move a whole database to another: all or nothing, in one view of the source and one transaction of the target."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, TypeAlias

from msgspec import Struct
from sqlalchemy import Connection, Row, Table, func, insert, inspect, select
from sqlalchemy.exc import DBAPIError

from ..domain.instant import Instant
from . import migrations
from .database import copying_of, database_file, describe_url, held, is_file, migrate
from .dialects.base import Copying, DatabaseUnusable
from .tables import metadata

_BATCH_ROWS = 1_000
_BATCH_BYTES = 4 * 1024 * 1024
_READ_ROWS = 100
"""What a row may have at most, a hundred times: that much is read ahead."""

_jobs, _job_errors, _leases, _keys, _counts = (
    metadata.tables[name] for name in ("jobs", "job_errors", "leases", "idempotency_keys", "executor_counts")
)
# Leases come last: they run from here on. Notices and leadership are of servers that are no more.
_TABLES = (_jobs, _job_errors, _keys, _leases)
_NUMBERED = (_jobs, _leases, _keys)
"""Those whose ids go on where they were."""

Counts: TypeAlias = dict[tuple[str, str], int]


class Progress(Struct):
    """Who is told how far a copy is, in rows."""

    begun: Callable[[int], object]
    advanced: Callable[[int], object]


def copy_database(
    source_url: str, target_url: str, *, lease_seconds: float, progress: Progress, behind_pooler: bool = False
) -> dict[str, int]:
    """Copy every row from one database to another that has none; return how many rows each table has.

    The target's schema is brought to head first. Raises DatabaseUnusable, and then the target has no row.
    """
    if not is_file(source_url) and not is_file(target_url):
        raise DatabaseUnusable("one of the two must be an SQLite file; for PostgreSQL to PostgreSQL there is pg_dump")
    if is_file(source_url) and not database_file(source_url).exists():
        raise DatabaseUnusable(f"there is no database at {describe_url(source_url)}")

    def copy(source: Connection) -> dict[str, int]:
        _check_revision(source, source_url)
        return migrate(
            target_url,
            lambda target: _Copy(
                source, target, copying_of(source_url), copying_of(target_url), progress, lease_seconds
            ).run(),
            behind_pooler=behind_pooler,
        )

    try:
        with held(source_url), held(target_url):
            migrate(target_url, _check_empty, behind_pooler=behind_pooler)
            migrations.upgrade(target_url, behind_pooler=behind_pooler)
            return migrate(source_url, copy, behind_pooler=behind_pooler)
    except DBAPIError as error:
        raise DatabaseUnusable(f"cannot copy: {error.orig}") from error


class _Copy:
    """One copy, under way."""

    def __init__(
        self,
        source: Connection,
        target: Connection,
        source_rules: Copying,
        target_rules: Copying,
        progress: Progress,
        lease_seconds: float,
    ) -> None:
        self._source = source
        self._target = target
        self._source_rules = source_rules
        self._target_rules = target_rules
        self._progress = progress
        self._lease_microseconds = int(lease_seconds * 1_000_000)

    def run(self) -> dict[str, int]:
        """Copy all, and check it."""
        self._source_rules.freeze(self._source)
        self._target_rules.freeze(self._target)
        _check_empty(self._target)
        rows = {table.name: self._source.scalar(select(func.count()).select_from(table)) or 0 for table in _TABLES}
        self._progress.begun(sum(rows.values()))
        for table in _TABLES:
            self._copy(table)
        for table in _NUMBERED:
            self._target_rules.set_last_id(
                self._target, table.name, self._source_rules.last_id(self._source, table.name)
            )
        self._write_counts()
        return rows

    def _copy(self, table: Table) -> None:
        keep = self._keep_sessions(self._target_rules.now(self._target)) if table is _leases else dict
        for batch in _batches(self._rows(table)):
            self._target.execute(insert(table), [keep(row._mapping) for row in batch])  # noqa: SLF001
            self._progress.advanced(len(batch))

    def _rows(self, table: Table) -> Iterator[Row[Any]]:
        statement = select(table).order_by(*table.primary_key)
        return iter(self._source.execute(statement, execution_options={"yield_per": _READ_ROWS}))

    def _keep_sessions(self, now: Instant) -> Callable[[Any], dict[str, Any]]:
        """Let each session come back with its token for a whole lease: nobody could renew it meanwhile."""
        ends_at = now + self._lease_microseconds

        def keep(row: Any) -> dict[str, Any]:
            return dict(row) | {"connected": 0, "expires_at": max(row["expires_at"], ends_at)}

        return keep

    def _write_counts(self) -> None:
        """Count anew on both sides. Raises DatabaseUnusable when they differ."""
        expected, found = _count(self._source), _count(self._target)
        for executor, status in sorted(expected.keys() | found.keys()):
            there, here = expected.get((executor, status), 0), found.get((executor, status), 0)
            if there != here:
                raise DatabaseUnusable(f"of {there} {status} jobs of {executor} {here} arrived: nothing was copied")
        self._target_rules.forget_counts(self._target)
        if found:
            rows = [{"executor": name, "status": status, "count": count} for (name, status), count in found.items()]
            self._target.execute(insert(_counts), rows)


def _batches(rows: Iterator[Row[Any]]) -> Iterator[list[Row[Any]]]:
    """Cut rows into lists that are bounded in number and in size."""
    while (first := next(rows, None)) is not None:
        batch: list[Row[Any]] = []
        size = 0
        for row in chain([first], rows):
            batch.append(row)
            size += sum(len(value) for value in row if isinstance(value, str))
            if len(batch) == _BATCH_ROWS or size >= _BATCH_BYTES:
                break
        yield batch


def _count(connection: Connection) -> Counts:
    statement = select(_jobs.c.executor, _jobs.c.status, func.count()).group_by(_jobs.c.executor, _jobs.c.status)
    return {(executor, status): count for executor, status, count in connection.execute(statement)}


def _check_empty(target: Connection) -> None:
    there = set(inspect(target).get_table_names())
    for table in _TABLES:
        if table.name in there and target.scalar(select(1).select_from(table).limit(1)):
            raise DatabaseUnusable(f"the target is not empty: it has rows in {table.name}")


def _check_revision(source: Connection, url: str) -> None:
    revision = migrations.current(source)
    if revision != migrations.head():
        standing = "empty" if revision is None else f"at revision {revision}, not at {migrations.head()}"
        raise DatabaseUnusable(f"{describe_url(url)} is {standing}: run rexecutor migrate on it first")
