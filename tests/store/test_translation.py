"""What an error of PostgreSQL means to the caller: wait and come again, make room, or a mistake of ours."""

import asyncpg
import pytest

from app.domain.errors import DatabaseUnavailable, InsufficientStorage
from app.store.dialects.base import Dialect
from tests.maintenance.servers import running_dialect


@pytest.fixture
async def dialect(postgres_database):
    async with running_dialect(postgres_database) as dialect:
        yield dialect


def meaning(dialect: Dialect, error: Exception) -> type[Exception] | None:
    translated = dialect.translate(error)
    return None if translated is None else type(translated)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.CannotConnectNowError,
        asyncpg.AdminShutdownError,
        asyncpg.QueryCanceledError,
        asyncpg.ReadOnlySQLTransactionError,
        asyncpg.TooManyConnectionsError,
        asyncpg.DeadlockDetectedError,
        asyncpg.InvalidCachedStatementError,
        asyncpg.UndefinedTableError,
        asyncpg.UniqueViolationError,
        asyncpg.InterfaceError,
        ConnectionResetError,
    ],
)
async def test_what_may_pass_is_told_as_a_database_that_is_away(dialect, error):
    assert meaning(dialect, error("…")) is DatabaseUnavailable


async def test_full_disk_is_told(dialect):
    assert meaning(dialect, asyncpg.DiskFullError("…")) is InsufficientStorage


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.PostgresSyntaxError,
        asyncpg.DatatypeMismatchError,
        asyncpg.UndefinedFunctionError,
        asyncpg.NumericValueOutOfRangeError,
        asyncpg.NotNullViolationError,
        asyncpg.CheckViolationError,
        asyncpg.CardinalityViolationError,
        KeyError,
    ],
)
async def test_mistake_of_ours_is_not_hidden_as_one(dialect, error):
    assert meaning(dialect, error("…")) is None
