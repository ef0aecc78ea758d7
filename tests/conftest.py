"""What tests of the service share."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.backend.extensions import Service
from tests.pooler import pooled_url, running_pgbouncer, running_pooler
from tests.postgres import Server, empty, running_server
from tests.services import running_service


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL for all tests, started when the first asks for it."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_database(postgres: Server) -> Iterator[str]:
    """A database that tests use one after the other: to empty it is faster than to make one."""
    with postgres.database() as url:
        yield url


@pytest.fixture(scope="session")
def pooler(postgres: Server) -> Iterator[int]:
    """The port of a pooler that gives each transaction another connection."""
    with running_pooler(postgres.url) as (_, port):
        yield port


@pytest.fixture(scope="session")
def pgbouncer(postgres: Server) -> Iterator[int]:
    """The port of a pgbouncer in transaction mode, where one is installed."""
    with running_pgbouncer(postgres.url) as port:
        yield port


@pytest.fixture
def pooled_database(request: pytest.FixtureRequest, postgres_database: str) -> str:
    """An empty database through a pooler: ours, unless the test is for several."""
    empty(postgres_database)
    return pooled_url(postgres_database, request.getfixturevalue(getattr(request, "param", "pooler")))


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of its own: an SQLite file, unless the test is for both."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield f"sqlite:///{tmp_path}/jobs.db"
        return
    shared: str = request.getfixturevalue("postgres_database")
    empty(shared)
    yield shared


@pytest.fixture
async def service(tmp_path: Path, database_url: str) -> AsyncIterator[Service]:
    """A service in this process, on a database of its own."""
    async with running_service(tmp_path, database_url=database_url) as service:
        yield service
