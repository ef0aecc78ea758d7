"""A served service for the client's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.server_process import ServerProcess
from tests.end_to_end.server import Server

collect_ignore = ["of_a_program"]
"""Run by a pytest of its own: see test_testing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path).running() as server:
        yield server


@pytest.fixture(scope="session")
def server_process() -> Iterator[ServerProcess]:
    with ServerProcess() as process:
        yield process


@pytest.fixture
def url(server_process: ServerProcess, tmp_path: Path) -> str:
    """The URL of a service with an empty database, in a process that serves all tests."""
    return server_process.serve(database_url=f"sqlite:///{tmp_path}/jobs.db")
