"""The backends that the suite runs against."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.backend.contract import Backend
from tests.conformance.sdk_backend import SdkBackend
from tests.conformance.server_process import ServerProcess
from tests.postgres import Server, empty
from tests.services import running_service

LEASE_SECONDS = 2


@pytest.fixture(scope="session")
def server_process() -> Iterator[ServerProcess]:
    """A process that serves a database for each test."""
    with ServerProcess() as process:
        yield process


@pytest.fixture(scope="session")
def postgres_server(postgres: Server, server_process: ServerProcess) -> Iterator[tuple[str, str]]:
    """The URLs of a database and of its server, which all tests use one after the other."""
    with postgres.database() as database_url:
        yield database_url, server_process.serve(database_url=database_url, lease_seconds=LEASE_SECONDS)


@pytest.fixture(
    params=[
        "sqlite in process",
        "postgres in process",
        "postgres behind a pooler in process",
        "sqlite over the wire",
        "postgres over the wire",
    ]
)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    """A backend with an empty database."""
    file_url = f"sqlite:///{tmp_path}/jobs.db"
    match request.param:
        case "sqlite in process":
            async with running_service(tmp_path, database_url=file_url, lease_seconds=LEASE_SECONDS) as service:
                yield service
        case "postgres in process":
            url: str = request.getfixturevalue("postgres_database")
            empty(url)
            async with running_service(tmp_path, database_url=url, lease_seconds=LEASE_SECONDS) as service:
                yield service
        case "postgres behind a pooler in process":
            pooled: str = request.getfixturevalue("pooled_database")
            of_pooled = {"database_url": pooled, "pooler": "transaction", "lease_seconds": LEASE_SECONDS}
            async with running_service(tmp_path, **of_pooled) as service:
                yield service
        case "sqlite over the wire":
            servers: ServerProcess = request.getfixturevalue("server_process")
            async with SdkBackend(servers.serve(database_url=file_url, lease_seconds=LEASE_SECONDS)) as backend:
                yield backend
        case _:
            database_url, server_url = request.getfixturevalue("postgres_server")
            empty(database_url)
            async with SdkBackend(server_url) as backend:
                yield backend
