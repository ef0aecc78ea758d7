"""What tests of the service share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.backend.extensions import Service
from tests.services import running_service


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A service in this process, on a database of its own."""
    async with running_service(tmp_path) as service:
        yield service
