"""Reads on PostgreSQL: connections of their own, each transaction with one view of the data."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from ....domain.errors import QueryTooComplex
from .connection import CONNECT_SECONDS, Road

_READERS = 2
_QUERY_CANCELLED = "57014"


def open_readers(road: Road) -> AsyncEngine:
    """Return a pool whose connections are opened when they are first needed."""
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=road.connect,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=_READERS,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        pool_pre_ping=True,
        isolation_level="REPEATABLE READ",
    )


@asynccontextmanager
async def reading(engine: AsyncEngine, road: Road, *, seconds: float | None = None) -> AsyncIterator[AsyncConnection]:
    """Read with one view of the data; a statement still running after ``seconds`` raises QueryTooComplex."""
    async with engine.connect() as connection:
        await connection.execution_options(postgresql_readonly=True)
        if road.prepare_reading is not None:
            await connection.execute(text(road.prepare_reading))
        if seconds is not None:
            await connection.execute(
                text("SELECT set_config('statement_timeout', :limit, true)"), {"limit": f"{seconds * 1000:.0f}"}
            )
        try:
            yield connection
        except DBAPIError as error:
            if seconds is not None and getattr(error.orig, "sqlstate", None) == _QUERY_CANCELLED:
                raise QueryTooComplex(f"the query took longer than {seconds} s") from error
            raise
