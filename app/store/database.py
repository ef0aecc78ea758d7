"""A database from its URL: plain URLs, the driver is ours to add."""

from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from .dialects.base import Dialect, StoreRules
from .dialects.sqlite.dialect import SqliteDialect
from .effects import EffectsListener


class UnusableUrl(ValueError):
    """The database URL names no database that the service can use; the message says what it takes."""


def open_dialect(url: str, rules: StoreRules, committed: EffectsListener) -> Dialect:
    """Return the dialect of a URL, not yet started; ``committed`` hears of each committed transaction."""
    return SqliteDialect(database_file(url), rules, committed)


def database_file(url: str) -> Path:
    """Return the file of a ``sqlite:///`` URL. Raises UnusableUrl."""
    parsed = parse_url(url)
    if not parsed.database or parsed.database == ":memory:":
        raise UnusableUrl("an SQLite database must be a file, as in sqlite:///rexecutor.db")
    return Path(parsed.database)


def describe_url(url: str) -> str:
    """Return what people call the database: its file."""
    return str(database_file(url).resolve())


def parse_url(url: str) -> URL:
    """Return a URL that the service understands. Raises UnusableUrl."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise UnusableUrl("expected a database URL, as in sqlite:///rexecutor.db") from error
    if parsed.drivername != "sqlite":
        raise UnusableUrl("expected a database URL that begins with sqlite:///")
    return parsed
