"""The backends that the suite runs against."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.backend.contract import Backend
from tests.conformance.server_process import ServerProcess
from tests.conformance.wire_backend import WireBackend
from tests.services import running_service

LEASE_SECONDS = 2


@pytest.fixture(scope="session")
def server_process() -> Iterator[ServerProcess]:
    """A process that serves a database for each test."""
    with ServerProcess() as process:
        yield process


@pytest.fixture(params=["in process", "over the wire"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    """A backend with an empty database of its own."""
    if request.param == "in process":
        async with running_service(tmp_path, lease_seconds=LEASE_SECONDS) as service:
            yield service
        return
    servers: ServerProcess = request.getfixturevalue("server_process")
    url = servers.serve(database_url=f"sqlite:///{tmp_path}/jobs.db", lease_seconds=LEASE_SECONDS)
    async with WireBackend(url) as backend:
        yield backend
