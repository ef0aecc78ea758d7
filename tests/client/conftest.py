"""A served service for the client's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.server import Server

collect_ignore = ["of_a_program"]
"""Run by a pytest of its own: see test_testing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path).running() as server:
        yield server
