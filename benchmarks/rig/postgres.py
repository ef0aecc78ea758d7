"""The same databases in a PostgreSQL server: each made once as a template, and copied for each measurement."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count

import asyncpg
from sqlalchemy import make_url

from ..load.payload import EXECUTOR, PRIORITIES, data_of
from .stores import DAY, MANY_PRIORITIES, Store, migrate

_NOW = "(extract(epoch FROM now()) * 1000000)::bigint"
# Its braces are those of JSON, and stay when the numbers are put in.
_DATA = data_of(0).replace("{", "{{").replace("}", "}}")
_FILL = f"""
INSERT INTO jobs (executor, status, priority, scheduled_at, attempt, max_attempts, inserted_at, attempted_at,
                  finished_at, fence, version, acknowledged_fence, acknowledged_operation, tags, attempted_by, data,
                  metadata)
SELECT '{EXECUTOR}', 'complete', n % {{priorities}}, at, 1, 5, at, at, at, 1, 3, 1, 'complete', '[]', '["bench"]',
       '{_DATA}', 'null'
FROM generate_series(1, {{count}}) AS n CROSS JOIN LATERAL (SELECT {_NOW} - {DAY} + n AS at) AS times;
INSERT INTO jobs (executor, status, priority, scheduled_at, max_attempts, inserted_at, tags, data, metadata)
SELECT '{EXECUTOR}', 'scheduled', n % {{priorities}}, {_NOW} + {DAY} + n * 1000, 5, {_NOW}, '[]', '{_DATA}', 'null'
FROM generate_series(1, {{count}}) AS n;
INSERT INTO executor_count_deltas (executor, status, count)
VALUES ('{EXECUTOR}', 'complete', {{count}}), ('{EXECUTOR}', 'scheduled', {{count}})
"""


class PostgresStores:
    """Databases of a server; those with jobs are made when ``backlog``, the number of each kind of job, is not 0."""

    raw_yardstick = "benchmarks.yardsticks.raw_postgres"

    def __init__(self, url: str, *, process_id: int | None, backlog: int) -> None:
        """Make the templates in the server at this URL, as a user who may."""
        self.process_id = process_id
        self._url = url
        self._numbers = count(1)
        self.kinds = [Store.EMPTY]
        run(url, f"DROP DATABASE IF EXISTS {_template(Store.EMPTY)}", f"CREATE DATABASE {_template(Store.EMPTY)}")
        migrate(self._url_of(_template(Store.EMPTY)))
        if backlog:
            self.kinds = list(Store)
            self._fill(Store.STORED, backlog, PRIORITIES)
            self._fill(Store.PRIORITIES, backlog, MANY_PRIORITIES)

    def version(self) -> dict[str, str]:
        """Return the server's version."""
        return {"postgresql": str(run(self._url, "SHOW server_version")[0][0]).split()[0]}

    @contextmanager
    def copy(self, store: Store) -> Iterator[str]:
        """Lend the URL of a copy, already on the disk, so that writing it does not go on during the measurement."""
        name = f"rexecutor_bench_{next(self._numbers)}"
        self._copy(_template(store), name)
        run(self._url, "CHECKPOINT")
        try:
            yield self._url_of(name)
        finally:
            run(self._url, f"DROP DATABASE {name} WITH (FORCE)")

    def _copy(self, source: str, target: str) -> None:
        run(self._url, f"CREATE DATABASE {target} TEMPLATE {source} STRATEGY file_copy")

    def _fill(self, store: Store, jobs: int, priorities: int) -> None:
        name = _template(store)
        run(self._url, f"DROP DATABASE IF EXISTS {name}")
        self._copy(_template(Store.EMPTY), name)
        url = self._url_of(name)
        indexes = [row[0] for row in run(url, "SELECT indexdef FROM pg_indexes WHERE tablename = 'jobs'")]
        names = [row[0] for row in run(url, "SELECT indexname FROM pg_indexes WHERE tablename = 'jobs'")]
        own = [(each, text) for each, text in zip(names, indexes, strict=True) if not each.endswith("_pkey")]
        run(url, *(f"DROP INDEX {each}" for each, _ in own))
        run(url, *_FILL.format(count=jobs, priorities=priorities).split(";"))
        run(url, *(text for _, text in own))
        # As autovacuum leaves a table that has been there for long.
        run(url, "VACUUM (FREEZE, ANALYZE) jobs")

    def _url_of(self, name: str) -> str:
        return make_url(self._url).set(database=name).render_as_string(hide_password=False)


def run(url: str, *statements: str) -> Sequence[asyncpg.Record]:
    """Run statements on a connection of their own, whether or not an event loop runs here; return the last's rows."""

    async def fetch() -> Sequence[asyncpg.Record]:
        connection = await asyncpg.connect(url)
        try:
            rows: Sequence[asyncpg.Record] = ()
            for statement in statements:
                rows = await connection.fetch(statement)
            return rows
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(fetch())).result()


def _template(store: Store) -> str:
    return f"rexecutor_bench_{store}"
