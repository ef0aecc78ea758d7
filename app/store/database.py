"""A database from its URL: plain URLs, the driver is ours to add."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from .dialects.base import Copying, Dialect, StoreRules
from .dialects.sqlite.copying import SqliteCopying
from .dialects.sqlite.dialect import SqliteDialect
from .dialects.sqlite.file_lock import FileLock
from .dialects.sqlite.migration import migrate as migrate_sqlite
from .effects import EffectsListener

Result = TypeVar("Result")

_POSTGRES = {"postgresql", "postgres"}


class UnusableUrl(ValueError):
    """The database URL names no database that the service can use; the message says what it takes."""


def open_dialect(url: str, rules: StoreRules, committed: EffectsListener, *, behind_pooler: bool = False) -> Dialect:
    """Return the dialect of a URL, not yet started; ``committed`` hears of each committed transaction.

    ``behind_pooler`` says that the URL leads to a pooler of transactions, in front of a PostgreSQL.
    """
    if _is_postgres(parse_url(url)):
        from .dialects.postgres.dialect import PostgresDialect

        return PostgresDialect(url, rules, committed, behind_pooler=behind_pooler)
    return SqliteDialect(database_file(url), rules, committed)


def migrate(url: str, action: Callable[[Connection], Result], *, behind_pooler: bool = False) -> Result:
    """Run what changes the schema, or looks at it, in one transaction. Raises DatabaseUnusable."""
    if _is_postgres(parse_url(url)):
        from .dialects.postgres.migration import migrate as migrate_postgres

        return migrate_postgres(url, action, behind_pooler=behind_pooler)
    return migrate_sqlite(url, action)


@contextmanager
def held(url: str) -> Iterator[None]:
    """Have a database for oneself, where only one process may have it. Raises DatabaseHeld, DatabaseUnusable."""
    if not is_file(url):
        yield
        return
    lock = FileLock(database_file(url))
    try:
        yield
    finally:
        lock.release()


def copying_of(url: str) -> Copying:
    """Return what copying needs to know of a URL's database."""
    if is_file(url):
        return SqliteCopying()
    from .dialects.postgres.copying import PostgresCopying

    return PostgresCopying()


def is_file(url: str) -> bool:
    """Whether a URL is that of an SQLite file. Raises UnusableUrl."""
    return not _is_postgres(parse_url(url))


def database_file(url: str) -> Path:
    """Return the file of a ``sqlite:///`` URL. Raises UnusableUrl."""
    parsed = parse_url(url)
    if not parsed.database or parsed.database == ":memory:":
        raise UnusableUrl("an SQLite database must be a file, as in sqlite:///rexecutor.db")
    return Path(parsed.database)


def describe_url(url: str) -> str:
    """Return what people call the database: its file, or where its server is, without user and password."""
    parsed = parse_url(url)
    if not _is_postgres(parsed):
        return str(database_file(url).resolve())
    hosts = parsed.host or parsed.query.get("host", "")
    host = hosts if isinstance(hosts, str) else ",".join(hosts)
    port = "" if parsed.port is None else f":{parsed.port}"
    return f"postgresql://{host}{port}/{parsed.database or ''}"


def parse_url(url: str) -> URL:
    """Return a URL that the service understands. Raises UnusableUrl."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise UnusableUrl("expected a database URL, as in sqlite:///rexecutor.db") from error
    if _is_postgres(parsed):
        if find_spec("asyncpg") is None:
            raise UnusableUrl("for PostgreSQL the extra is needed: pip install rexecutor-server[postgres]")
    elif parsed.drivername != "sqlite":
        raise UnusableUrl("expected a database URL that begins with sqlite:/// or postgresql://")
    return parsed


def _is_postgres(url: URL) -> bool:
    return url.drivername in _POSTGRES
