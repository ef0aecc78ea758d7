"""Revisions on PostgreSQL: one process at a time, the others wait and find them done."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import asyncpg
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from ..base import DatabaseUnusable
from .connection import CONNECT_SECONDS, Road
from .locks import MIGRATION

Result = TypeVar("Result")


def migrate(url: str, action: Callable[[Connection], Result], *, behind_pooler: bool = False) -> Result:
    """Run ``action`` in one transaction under the lock of migrations. Raises DatabaseUnusable.

    To be called where no event loop runs.
    """
    return asyncio.run(_migrate(Road(url, behind_pooler), action))


async def _migrate(road: Road, action: Callable[[Connection], Result]) -> Result:
    async def connect() -> asyncpg.Connection:
        # Without the timeouts of the service: to rewrite a table may take long, and so may the wait for another.
        return await asyncpg.connect(road.url, timeout=CONNECT_SECONDS, statement_cache_size=road.statement_cache_size)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            # Of the transaction, never of the session: a pooler gives sessions to others.
            await connection.execute(text("SELECT pg_advisory_xact_lock(:kind, 0)"), {"kind": MIGRATION})
            return await connection.run_sync(action)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseUnusable(f"cannot use the database: {str(error) or type(error).__name__}") from error
    finally:
        await engine.dispose()
