"""The pooler that tests go through takes from each client what a transaction does not keep."""

import asyncio
from itertools import pairwise

import asyncpg
import pytest

from tests.pooler import pooled_url, running_pooler


@pytest.fixture(scope="module")
def url(postgres, postgres_database):
    with running_pooler(postgres.url) as (_, port):
        yield pooled_url(postgres_database, port)


@pytest.fixture
async def client(url):
    connection = await asyncpg.connect(url, statement_cache_size=0)
    yield connection
    await connection.close()


async def test_each_transaction_has_another_connection(client):
    pids = [await client.fetchval("SELECT pg_backend_pid()") for _ in range(6)]
    assert all(one != next_one for one, next_one in pairwise(pids))
    async with client.transaction():
        pids = [await client.fetchval("SELECT pg_backend_pid()") for _ in range(6)]
    assert len(set(pids)) == 1


async def test_failed_transaction_ends_with_its_rollback(client):
    async with asyncio.timeout(20):
        await client.execute("BEGIN")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await client.fetchval("SELECT 1 / $1::int", 0)
        with pytest.raises(asyncpg.InFailedSQLTransactionError):
            await client.fetchval("SELECT 1")
        await client.execute("ROLLBACK")
        assert await client.fetchval("SELECT 1") == 1


async def test_settings_of_a_session_are_lost(client):
    await client.execute("SET statement_timeout = '7s'")
    assert await client.fetchval("SHOW statement_timeout") == "0"


async def test_statement_with_a_name_is_unknown_next_time(url):
    client = await asyncpg.connect(url)
    try:
        statement = await client.prepare("SELECT $1::int")
        assert await statement.fetchval(1) == 1
        with pytest.raises(asyncpg.InvalidSQLStatementNameError):
            await statement.fetchval(1)
    finally:
        client.terminate()


async def test_nobody_hears_what_is_notified(client):
    heard = asyncio.Event()
    await client.add_listener("news", lambda *_: heard.set())
    await client.execute("NOTIFY news")
    for _ in range(3):
        await client.fetchval("SELECT 1")
    assert not heard.is_set()


async def test_lock_of_a_session_stays_behind(client):
    assert await client.fetchval("SELECT pg_try_advisory_lock(1)")
    assert not await client.fetchval("SELECT pg_try_advisory_lock(1)")


async def test_startup_parameter_is_refused(url):
    with pytest.raises(asyncpg.ProtocolViolationError, match="unsupported startup parameter: statement_timeout"):
        await asyncpg.connect(url, server_settings={"statement_timeout": "10s"})


async def test_statement_can_be_cancelled(client):
    with pytest.raises(TimeoutError):
        await client.execute("SELECT pg_sleep(60)", timeout=0.2)
    await none_is_left(client, "state = 'active' AND query LIKE 'SELECT pg_sleep%'")


async def test_what_a_client_left_open_is_undone(url, client):
    other = await asyncpg.connect(url, statement_cache_size=0)
    await other.execute("BEGIN; CREATE TABLE left_open (id int)")
    other.terminate()
    await none_is_left(client, "state = 'idle in transaction'")
    assert await client.fetchval("SELECT to_regclass('left_open')") is None


async def none_is_left(client, condition: str) -> None:
    async with asyncio.timeout(20):
        while await client.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE {condition}"):
            await asyncio.sleep(0.01)  # the server says so only when it is asked
