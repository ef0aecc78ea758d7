"""A served service for the client's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.server import Server


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path).running() as server:
        yield server
