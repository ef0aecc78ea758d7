"""Revisions on SQLite: whoever may run them has the file for itself."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError

from ..base import DatabaseUnusable

Result = TypeVar("Result")


def migrate(url: str, action: Callable[[Connection], Result]) -> Result:
    """Run ``action`` in one transaction. Raises DatabaseUnusable."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            return action(connection)
    except DBAPIError as error:
        raise DatabaseUnusable(f"cannot use the database: {error.orig}") from error
    finally:
        engine.dispose()
