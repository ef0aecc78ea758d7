"""What tests of the service share."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.backend.extensions import Service
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
